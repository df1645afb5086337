"""The rows that `auglift scan` proposes for `files.csv`, and how they are written."""

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from tasks.ingest.core.scan_record import ScanRecord
from tasks.ingest.files.list_files import IMAGE_SUFFIXES, NIFTI_SUFFIXES
from tasks.ingest.patients.group_by_patient import Patient
from tasks.ingest.user_tables.files_csv import COLUMNS, Row

# Refusals about which the owner knows more: their rows are left to be filled in.
OPEN = ("patient-unknown", "patient-ambiguous", "several-volumes")
# Files that are scans by themselves; of DICOM a folder is one.
NAMED_ONE_BY_ONE = (*NIFTI_SUFFIXES, *IMAGE_SUFFIXES)
LEFT_OUT = ("skipped", "not-a-tumour-mask")


def rows_of(
    one: ScanRecord, patient: Patient, session: str | None, beside: Mapping[str, set[str]]
) -> Iterator[Row]:
    """The rows of an image or a mask: one a file, or one a folder where it is all there is in it.

    `beside` holds all files of the batch by their folder.
    """
    known = patient.known if one.headers else one.patient_known
    identity = patient.id if one.headers else one.patient
    said = Row(
        "",
        patient=identity if known else None,
        session=session,
        modality=one.modality if one.role == "image" else None,
        role=one.role,
        channel=one.channel,
    )
    if one.format == "image2d":
        alone = bool(one.frame_of_reference)
        for place, source in enumerate(one.sources):
            number = None if alone else one.first_slice + place
            yield replace(said, path=source.name, slice=number, label=one.label)
        return
    for path in globs([source.name for source in one.sources], beside):
        yield replace(said, path=path)


def rows_of_refused(
    refused: Iterable[tuple[str, str, str]], beside: Mapping[str, set[str]]
) -> Iterator[Row]:
    """Rows of files that were refused: to be filled in, or left out as they are."""
    refused = list(refused)
    open_paths = [path for path, code, _ in refused if code in OPEN]
    named = [path for path in open_paths if path.lower().endswith(NAMED_ONE_BY_ONE)]
    others = [path for path in open_paths if not path.lower().endswith(NAMED_ONE_BY_ONE)]
    for path in [*named, *globs(others, beside)]:
        yield Row(path)
    for path, code, _ in refused:
        if code in LEFT_OUT:
            yield Row(path, role="skip")


def globs(paths: Iterable[str], beside: Mapping[str, set[str]]) -> Iterator[str]:
    """`folder/*` for folders of which all files are named and are more than one, else each file."""
    by_folder: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        by_folder[folder_of(path)].append(path)
    for folder, some in by_folder.items():
        if folder and "*" not in folder and len(some) > 1 and set(some) == beside[folder]:
            yield f"{folder}/*"
        else:
            yield from some


def folder_of(path: str) -> str:
    """The folder of a path in the batch; empty at its top."""
    return path.rpartition("/")[0]


def natural(text: str) -> tuple[str, str]:
    """Sorts numbers in text by their value."""
    return re.sub(r"\d+", lambda number: number[0].rjust(12, "0"), text), text


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as `files.csv`, under another name until it is whole."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for row in rows:
                values = (getattr(row, column) for column in COLUMNS)
                writer.writerow("" if value is None else value for value in values)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
