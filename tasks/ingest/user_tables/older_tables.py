"""Read `series.csv` and `pictures.csv`, the owner's tables from before `files.csv`, which wins.

`series.csv` holds what a series shows: `series` (a SeriesInstanceUID, or a file's path in the
batch, with * and ? allowed) and `modality` (T1, T1c, T2, FLAIR, other, or `skip` to leave the
series out). `pictures.csv` holds to which patient a 2D image belongs: `file`, `patient`, `slice`.
"""

import csv
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import cast, get_args

from tasks.ingest.core.mr_contrast import Modality
from tasks.ingest.core.rejection import Rejection
from tasks.ingest.core.scan_record import ScanRecord
from tasks.ingest.user_tables.files_csv import OWNER_EVIDENCE
from tasks.stage.errors import InputError

ALLOWED = (*get_args(Modality), "skip")


def read_series_modalities(folder: Path) -> list[tuple[str, str]]:
    """Read pairs of series and modality from `series.csv`, in its order; empty without such a file.

    Raises:
        InputError: a line has other columns or modalities than the module describes.
    """
    path = folder / "series.csv"
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        rows = list(csv.DictReader(file))
    pairs = []
    for line, row in enumerate(rows, start=2):
        series = (row.get("series") or "").strip()
        modality = (row.get("modality") or "").strip()
        if not series or modality not in ALLOWED:
            raise InputError(
                f"{path}, line {line}: expected the columns series and modality, the latter one"
                f" of {', '.join(ALLOWED)}; correct the line"
            )
        pairs.append((series, modality))
    return pairs


def apply_series_modalities(
    scans: list[ScanRecord], pairs: list[tuple[str, str]]
) -> tuple[list[ScanRecord], list[Rejection]]:
    """Set the modality of images by `series.csv`; return scans, and skipped ones as rejections."""
    kept: list[ScanRecord] = []
    skipped: list[Rejection] = []
    for scan in scans:
        modality = next((listed for series, listed in pairs if matches_series(series, scan)), None)
        if scan.evidence == OWNER_EVIDENCE:
            kept.append(scan)
        elif modality == "skip":
            skipped.append(Rejection(scan.sources, "skipped", "series.csv says so"))
        elif modality is not None and scan.role == "image":
            kept.append(replace(scan, modality=cast(Modality, modality), evidence="series.csv"))
        else:
            kept.append(scan)
    return kept, skipped


def matches_series(series: str, scan: ScanRecord) -> bool:
    """Check whether a line's series is a scan's SeriesInstanceUID or matches its paths."""
    return any(header.series == series for header in scan.headers) or any(
        fnmatchcase(source.name, series) for source in scan.sources
    )


def read_images2d_table(folder: Path) -> dict[str, tuple[str, int | None]]:
    """Read patient and slice number by path from `pictures.csv`; empty without such a file.

    Raises:
        InputError: a line has other columns or values than the module describes.
    """
    table_path = folder / "pictures.csv"
    if not table_path.is_file():
        return {}
    with table_path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        rows = list(csv.DictReader(file))
    table: dict[str, tuple[str, int | None]] = {}
    for line, row in enumerate(rows, start=2):
        path, patient = (row.get("file") or "").strip(), (row.get("patient") or "").strip()
        slice_number = (row.get("slice") or "").strip()
        if not path or not patient or (slice_number and not slice_number.isdigit()):
            raise InputError(
                f"{table_path}, line {line}: expected the columns file, patient and, where pictures"
                " are slices, slice (a number); correct the line"
            )
        table[path] = (patient, int(slice_number) if slice_number else None)
    return table
