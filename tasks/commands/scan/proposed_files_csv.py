"""Propose the rows of `files.csv` for `auglift scan`, and write them."""

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from tasks.ingest.core.scan_record import ScanRecord
from tasks.ingest.files.list_files import IMAGE_SUFFIXES, NIFTI_SUFFIXES
from tasks.ingest.patients.group_by_patient import Patient
from tasks.ingest.user_tables.files_csv import COLUMNS, FilesRow

# Rejections that the owner can settle: their rows are left to be filled in.
TO_FILL_IN = ("patient-unknown", "patient-ambiguous", "several-volumes")
# Files that are a scan each; of DICOM files a folder is one.
NAMED_ONE_BY_ONE = (*NIFTI_SUFFIXES, *IMAGE_SUFFIXES)
LEFT_OUT = ("skipped", "not-a-tumour-mask")


def rows_of_scan(
    scan: ScanRecord, patient: Patient, session: str | None, files_by_folder: Mapping[str, set[str]]
) -> Iterator[FilesRow]:
    """Yield the rows of a scan: one a file, or one for a folder that holds nothing else.

    `files_by_folder` holds all files of the batch.
    """
    known = patient.known if scan.headers else scan.patient_known
    identity = patient.id if scan.headers else scan.patient
    row = FilesRow(
        "",
        patient=identity if known else None,
        session=session,
        modality=scan.modality if scan.role == "image" else None,
        role=scan.role,
        channel=scan.channel,
    )
    if scan.format == "image2d":
        alone = bool(scan.frame_of_reference)
        for position, source in enumerate(scan.sources):
            number = None if alone else scan.first_slice + position
            yield replace(row, path=source.name, slice=number, label=scan.label)
        return
    for path in to_globs([source.name for source in scan.sources], files_by_folder):
        yield replace(row, path=path)


def rows_of_rejected(
    rejected: Iterable[tuple[str, str, str]], files_by_folder: Mapping[str, set[str]]
) -> Iterator[FilesRow]:
    """Yield rows of rejected files: to be filled in, or left out as they are."""
    rejected = list(rejected)
    open_paths = [path for path, code, _ in rejected if code in TO_FILL_IN]
    single_files = [path for path in open_paths if path.lower().endswith(NAMED_ONE_BY_ONE)]
    other_files = [path for path in open_paths if not path.lower().endswith(NAMED_ONE_BY_ONE)]
    for path in [*single_files, *to_globs(other_files, files_by_folder)]:
        yield FilesRow(path)
    for path, code, _ in rejected:
        if code in LEFT_OUT:
            yield FilesRow(path, role="skip")


def to_globs(paths: Iterable[str], files_by_folder: Mapping[str, set[str]]) -> Iterator[str]:
    """Yield `folder/*` for a folder whose files, more than one, are all given; else each file."""
    by_folder: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        by_folder[parent_folder(path)].append(path)
    for folder, paths_in_folder in by_folder.items():
        if (
            folder
            and "*" not in folder
            and len(paths_in_folder) > 1
            and set(paths_in_folder) == files_by_folder[folder]
        ):
            yield f"{folder}/*"
        else:
            yield from paths_in_folder


def parent_folder(path: str) -> str:
    """Return the folder of a path in the batch; empty at its top."""
    return path.rpartition("/")[0]


def natural_sort_key(text: str) -> tuple[str, str]:
    """Return a key that sorts numbers in a text by their value."""
    return re.sub(r"\d+", lambda number: number[0].rjust(12, "0"), text), text


def write_files_csv(path: Path, rows: Iterable[FilesRow]) -> None:
    """Write rows as `files.csv`, under a temporary name until the file is complete."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for row in rows:
                values = (getattr(row, column) for column in COLUMNS)
                writer.writerow("" if value is None else value for value in values)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
