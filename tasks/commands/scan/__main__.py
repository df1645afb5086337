"""`auglift scan BATCH`: who is who in a batch, before anything is ingested.

Prints patients, visits, contrasts, masks and what is not understood, and writes the same as a
proposed `files.csv` into the batch, for its owner to correct. Both hold names as they are: they are
for the terminal and for the batch, and nothing else is written.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import typer
from rich.console import Console

from tasks import params
from tasks.commands.scan import proposed_files_csv
from tasks.commands.scan.segment_table import print_segments, read_segments
from tasks.commands.scan.summary_tables import print_tables
from tasks.ingest.core.rejection import Rejection
from tasks.ingest.core.scan_record import ScanRecord
from tasks.ingest.discover import find_patients
from tasks.ingest.files.batch_files import list_batch_files
from tasks.ingest.files.dicom_index import DicomFileIndex
from tasks.ingest.files.zip_archives import workspace
from tasks.ingest.masks.segment_names import Segment
from tasks.ingest.output.batch_report import BatchReport
from tasks.ingest.patients.batch_context import BatchContext
from tasks.ingest.patients.group_by_patient import Patient
from tasks.ingest.patients.patient_scans import (
    PatientScans,
    read_patient_scans,
    session_label,
)
from tasks.ingest.privacy.pseudonyms import Pseudonyms
from tasks.ingest.user_tables.files_csv import NAME, Row
from tasks.ingest.user_tables.owner_tables import read_owner_tables
from tasks.ingest.worker_pool import map_in_workers, silence_libraries
from tasks.params.ingest import Ingest
from tasks.stage.errors import WRONG_INPUT, InputError

RAW = Path("data/raw")
KEY = b"scan"  # pseudonyms only group files here; none is written


@dataclass
class Batch:
    """What a batch holds: patients with their scans, refused files, and the other files' number."""

    folder: Path
    patients: list[tuple[Patient, PatientScans]] = field(default_factory=list)
    refused: list[tuple[str, str, str]] = field(default_factory=list)  # path, code, reason
    others: int = 0  # files that are no scans: tables, sidecars, archives
    files: list[str] = field(default_factory=list)  # all of them, archives' entries too
    segments: list[dict[int, Segment]] = field(default_factory=list)  # of each DICOM mask


def main(
    batch: str = typer.Argument(help="A folder of data/raw, or any other folder."),
    *,
    force: bool = typer.Option(False, "--force", help=f"Write over the {NAME} that is there."),
) -> None:
    """Say who is who in a batch, and propose it as files.csv."""
    found = read_batch(folder_of(batch))
    rows = list(rows_of(found))
    console = Console(highlight=False)
    print_tables(console, found.patients, found.refused, found.others, found.folder)
    print_segments(console, found.segments, read_settings())
    path = found.folder / NAME
    if path.exists() and not force:
        console.print(
            f"{path} is there already and was followed; it stays as it is"
            " (--force writes the proposal over it)",
            soft_wrap=True,
            markup=False,
        )
        return
    proposed_files_csv.write(path, rows)
    console.print(
        f"{path} is written: {len(rows)} rows; correct what is wrong and fill what is empty,"
        " ingest then follows it",
        soft_wrap=True,
        markup=False,
    )


def folder_of(batch: str) -> Path:
    """The folder of a batch by its name, or a folder itself.

    Raises:
        StageError: neither is there.
    """
    for folder in (RAW / batch, Path(batch)):
        if folder.is_dir():
            return folder
    there = sorted(path.name for path in RAW.iterdir() if path.is_dir()) if RAW.is_dir() else []
    raise InputError(
        f"{RAW / batch} is not there; found in {RAW}: {', '.join(there) or 'none'}; name one of"
        " these, or the path of a folder"
    )


def read_settings() -> Ingest:
    """The section of params.yaml, or what holds without one."""
    return params.read_section(Ingest) if params.PARAMS.exists() else Ingest()


def read_batch(folder: Path) -> Batch:
    """Names and headers of a batch; no pixel but those of slices that may be copies."""
    settings = read_settings()
    batch = Batch(folder)
    outcomes: dict[str, str] = {}
    refused: list[tuple[str, str, str]] = []

    def close(row: Iterable[str]) -> None:
        name, outcome = row
        outcomes[name] = outcome

    def refuse(row: Iterable[str]) -> None:
        token, name, code = row
        refused.append((token, name, code))

    with silence_libraries(), workspace(f"scan-{folder.resolve().name}") as scratch:
        names = Pseudonyms(KEY)
        tables, dicom_files = read_owner_tables(folder), DicomFileIndex(scratch / "dicom_files")
        plan = BatchContext(
            scratch, dicom_files, settings, names, tables.series_modalities, tables.files
        )
        account = BatchReport(names, close, refuse)
        files = list_batch_files(folder, scratch, dicom_files, settings, account.refuse)
        patients = find_patients(files, tables, plan, account)
        batch.others = sum(outcome != "rejected" for outcome in outcomes.values())
        for patient, (scans, rejected) in look_into_all(patients, plan):
            batch.patients.append((patient, scans))
            batch.segments += read_segments(scans.masks)
            account.refuse(rejected)
            used = {source.name for one in scans.all_scans for source in one.sources}
            outcomes.update(dict.fromkeys(used, "scan"))
    rows = map(json.loads, account.rejected)
    reasons = {(row["token"], row["code"]): row["reason"] for row in rows}
    batch.refused = [(name, code, reasons[token, code]) for token, name, code in refused]
    batch.files = list(outcomes)
    batch.patients.sort(
        key=lambda pair: (not pair[0].known, proposed_files_csv.natural(pair[0].id))
    )
    return batch


def look_into_all(
    patients: list[Patient], plan: BatchContext
) -> Iterator[tuple[Patient, tuple[PatientScans, list[Rejection]]]]:
    """The headers of all patients, read on all cores; a patient that ends a process is left out."""
    seconds, memory = plan.settings.max_seconds, plan.settings.worker_memory
    for patient, result in map_in_workers(
        partial(read_patient_scans, context=plan), patients, seconds=seconds, memory=memory
    ):
        if result is not None:
            yield patient, result


def rows_of(batch: Batch) -> Iterator[Row]:
    """The proposed rows: those of scans filled in, those of unknown persons empty."""
    beside: dict[str, set[str]] = defaultdict(set)
    for name in batch.files:
        beside[proposed_files_csv.folder_of(name)].add(name)
    rows: list[Row] = []
    for patient, scans in batch.patients:
        several = len({one.session for one in scans.all_scans if one.session is not None}) > 1
        for one in scans.all_scans:
            session = session_in_table(scans, one, several=several)
            rows += proposed_files_csv.rows_of(one, patient, session, beside)
    rows += proposed_files_csv.rows_of_refused(batch.refused, beside)
    yield from sorted(
        rows, key=lambda row: (proposed_files_csv.natural(row.path), row.channel or 0)
    )


def session_in_table(scans: PatientScans, one: ScanRecord, *, several: bool) -> str | None:
    """A visit as its owner would write it: the name it has, or for DICOM its number in time."""
    if one.session is None or not one.headers:
        return one.session
    return session_label(scans, one) if several else None


if __name__ == "__main__":
    try:
        typer.run(main)
    except InputError as error:
        print(f"auglift scan: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(WRONG_INPUT) from None
