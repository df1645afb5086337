"""`participants.tsv`: the site of a patient, where the batch's owner wrote it down."""

import csv
import re
from pathlib import Path

from tasks.ingest.privacy import Pseudonyms, bare_id

SHORT_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,7}")


def read_sites(folder: Path) -> dict[str, str]:
    """Patient id (without `sub-`) to the column `site`; empty where there is no such table."""
    path = folder / "participants.tsv"
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except (OSError, csv.Error):
        return {}
    return {
        bare_id(row.get("participant_id") or ""): (row.get("site") or "").strip()
        for row in rows
        if (row.get("site") or "").strip() not in ("", "n/a")
    }


def site_of(patient: str, equipment: str, sites: dict[str, str], names: Pseudonyms) -> str:
    """A short site code as it is; a longer one, or institution and station, as a keyed hash."""
    site = sites.get(bare_id(patient), "")
    if SHORT_CODE.fullmatch(site):
        return site
    words = site or equipment.strip("|")
    return names.site(words) if words else "unknown"
