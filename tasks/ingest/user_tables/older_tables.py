"""The owner's tables before there was `files.csv`, which wins over them; they are still read.

`series.csv` says what a series shows: `series` (a SeriesInstanceUID, or a file's path in the batch,
with * and ? allowed) and `modality` (T1, T1c, T2, FLAIR, other, or `skip` to leave the series out).
`pictures.csv` says whose a picture is: `file`, `patient`, `slice`.
"""

import csv
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import cast, get_args

from tasks.ingest.core.mr_contrast import Modality
from tasks.ingest.core.rejection import Rejection
from tasks.ingest.core.scan_record import ScanRecord
from tasks.ingest.user_tables.files_csv import EVIDENCE
from tasks.stage.errors import InputError

ALLOWED = (*get_args(Modality), "skip")


def read_series_modalities(folder: Path) -> list[tuple[str, str]]:
    """Pairs of series and modality in the order of the file; empty where there is none.

    Raises:
        StageError: columns or modalities that are not as above.
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
    found: list[ScanRecord], pairs: list[tuple[str, str]]
) -> tuple[list[ScanRecord], list[Rejection]]:
    """Images with the owner's modality; those to skip as rejections."""
    kept: list[ScanRecord] = []
    skipped: list[Rejection] = []
    for one in found:
        said = next((modality for series, modality in pairs if speaks_of(series, one)), None)
        if one.evidence == EVIDENCE:
            kept.append(one)
        elif said == "skip":
            skipped.append(Rejection(one.sources, "skipped", "series.csv says so"))
        elif said is not None and one.role == "image":
            kept.append(replace(one, modality=cast(Modality, said), evidence="series.csv"))
        else:
            kept.append(one)
    return kept, skipped


def speaks_of(series: str, found: ScanRecord) -> bool:
    """Whether a line of the table is about this series."""
    return any(header.series == series for header in found.headers) or any(
        fnmatchcase(source.name, series) for source in found.sources
    )


def read_images2d_table(folder: Path) -> dict[str, tuple[str, int | None]]:
    """`pictures.csv` (columns `file`, `patient`, `slice`): patient and slice number by path."""
    path = folder / "pictures.csv"
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        rows = list(csv.DictReader(file))
    table: dict[str, tuple[str, int | None]] = {}
    for line, row in enumerate(rows, start=2):
        name, patient = (row.get("file") or "").strip(), (row.get("patient") or "").strip()
        number = (row.get("slice") or "").strip()
        if not name or not patient or (number and not number.isdigit()):
            raise InputError(
                f"{path}, line {line}: expected the columns file, patient and, where pictures are"
                " slices, slice (a number); correct the line"
            )
        table[name] = (patient, int(number) if number else None)
    return table
