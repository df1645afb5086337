"""The sites that the batch's owner wrote down, in `participants.tsv`."""

import csv
import re
from pathlib import Path

from tasks.ingest.privacy.pseudonyms import Pseudonyms, bare_id

# "B", "CS", "07", "site-3": no code that could be read as the name of a place.
CODE = re.compile(r"[A-Za-z]{1,2}|([A-Za-z]{1,2}|site)?[-_]?\d{1,2}")


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


def site_of(site: str, equipment: str, names: Pseudonyms) -> str:
    """The owner's site code as it is; a name, or the equipment, as a keyed hash."""
    if CODE.fullmatch(site):
        return site
    words = site or equipment.strip("|")
    return names.site(words) if words else "unknown"
