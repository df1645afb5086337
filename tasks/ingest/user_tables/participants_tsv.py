"""Read the sites in `participants.tsv`, and decide how a site may be written to outputs."""

import csv
import re
from pathlib import Path

from tasks.ingest.privacy.pseudonyms import Pseudonyms, strip_sub_prefix

# "B", "CS", "07", "site-3": codes too short to be the name of a place.
SITE_CODE = re.compile(r"[A-Za-z]{1,2}|([A-Za-z]{1,2}|site)?[-_]?\d{1,2}")


def read_sites(folder: Path) -> dict[str, str]:
    """Read the column `site` by patient ID (without `sub-`); empty where there is no such table."""
    path = folder / "participants.tsv"
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except (OSError, csv.Error):
        return {}
    return {
        strip_sub_prefix(row.get("participant_id") or ""): (row.get("site") or "").strip()
        for row in rows
        if (row.get("site") or "").strip() not in ("", "n/a")
    }


def site_label(site: str, equipment: str, pseudonyms: Pseudonyms) -> str:
    """Return the owner's site code as it is; hash the name of a site, or else the equipment.

    Returns:
        `unknown` where there is neither.
    """
    if SITE_CODE.fullmatch(site):
        return site
    site_name = site or equipment.strip("|")
    return pseudonyms.site(site_name) if site_name else "unknown"
