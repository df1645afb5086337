"""List the patients, visits, contrasts and masks of a batch before anything is ingested.

`auglift scan BATCH` prints them, with the files that it does not understand, and writes the same as
a proposed `files.csv` into the batch, for its owner to correct. Both hold names as they are: they
stay on the terminal and in the batch, and nothing else is written.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rich.console import Console

from tasks import params
from tasks.commands.command_line import run_options
from tasks.commands.scan import proposed_files_csv
from tasks.commands.scan.options import ScanOptions
from tasks.commands.scan.segment_table import print_segments, read_segments
from tasks.commands.scan.summary_tables import print_tables
from tasks.ingest.core.rejection import Rejection
from tasks.ingest.core.scan_record import ScanRecord
from tasks.ingest.discover import find_patients
from tasks.ingest.files.batch_files import list_batch_files
from tasks.ingest.files.dicom_index import DicomFileIndex
from tasks.ingest.files.zip_archives import scratch_folder
from tasks.ingest.masks.segment_names import Segment
from tasks.ingest.output.batch_report import BatchReport
from tasks.ingest.patients.batch_context import BatchContext
from tasks.ingest.patients.group_by_patient import Patient
from tasks.ingest.patients.patient_scans import PatientScans, read_patient_scans, session_label
from tasks.ingest.privacy.pseudonyms import Pseudonyms
from tasks.ingest.user_tables.files_csv import FILES_CSV, FilesRow
from tasks.ingest.user_tables.owner_tables import read_owner_tables
from tasks.ingest.worker_pool import map_in_workers, silence_libraries
from tasks.params.ingest import Ingest
from tasks.stage.errors import InputError
from tasks.stage.params_file import PARAMS

RAW = Path("data/raw")
KEY = b"scan"  # pseudonyms only group files here; none of them is written


@dataclass
class ScannedBatch:
    """Content of a batch: patients with scans, rejected files, and the number of other files."""

    folder: Path
    patients: list[tuple[Patient, PatientScans]] = field(default_factory=list)
    rejected: list[tuple[str, str, str]] = field(default_factory=list)  # path, code, reason
    others: int = 0  # files that are not scans: tables, sidecars, archives
    files: list[str] = field(default_factory=list)  # all files, with the entries of archives
    segments: list[dict[int, Segment]] = field(default_factory=list)  # of each DICOM mask


def main(batch: str, *, force: bool = False) -> None:
    """Say who is who in a batch, and propose it as files.csv."""
    scanned = scan_batch(batch_folder(batch))
    rows = list(propose_rows(scanned))
    console = Console(highlight=False)
    print_tables(console, scanned.patients, scanned.rejected, scanned.others, scanned.folder)
    print_segments(console, scanned.segments, read_settings())
    path = scanned.folder / FILES_CSV
    if path.exists() and not force:
        console.print(
            f"{path} is there already and was followed; it stays as it is"
            " (--force writes the proposal over it)",
            soft_wrap=True,
            markup=False,
        )
        return
    proposed_files_csv.write_files_csv(path, rows)
    empty = sum(row == FilesRow(row.path) for row in rows)
    console.print(
        f"{path} is written: {len(rows)} rows; correct what is wrong, ingest then follows it"
        + f"; {empty} {'is' if empty == 1 else 'of them are'} empty, and what the path names is"
        + " rejected until it is filled in" * bool(empty),
        soft_wrap=True,
        markup=False,
    )


def batch_folder(batch: str) -> Path:
    """Return the folder of a batch given by its name, or the folder itself.

    Raises:
        InputError: neither exists.
    """
    for folder in (RAW / batch, Path(batch)):
        if folder.is_dir():
            return folder
    batches = sorted(path.name for path in RAW.iterdir() if path.is_dir()) if RAW.is_dir() else []
    raise InputError(
        f"{RAW / batch} is not there; found in {RAW}: {', '.join(batches) or 'none'}; name one of"
        " these, or the path of a folder"
    )


def read_settings() -> Ingest:
    """Read the section of params.yaml, or the defaults without one."""
    return params.read_section(Ingest) if PARAMS.exists() else Ingest()


def scan_batch(folder: Path) -> ScannedBatch:
    """Read names and headers of a batch; pixels are read only of slices that may be duplicates."""
    settings = read_settings()
    batch = ScannedBatch(folder)
    outcomes: dict[str, str] = {}
    rejected: list[tuple[str, str, str]] = []

    def record_file(row: Iterable[str]) -> None:
        name, outcome = row
        outcomes[name] = outcome

    def record_rejected(row: Iterable[str]) -> None:
        token, name, code = row
        rejected.append((token, name, code))

    with silence_libraries(), scratch_folder(f"scan-{folder.resolve().name}") as scratch:
        pseudonyms = Pseudonyms(KEY)
        tables, dicom_files = read_owner_tables(folder), DicomFileIndex(scratch / "dicom_files")
        context = BatchContext(
            scratch, dicom_files, settings, pseudonyms, tables.series_modalities, tables.files
        )
        report = BatchReport(pseudonyms, record_file, record_rejected)
        files = list_batch_files(folder, scratch, dicom_files, settings, report.reject)
        patients = find_patients(files, tables, context, report)
        batch.others = sum(outcome != "rejected" for outcome in outcomes.values())
        for patient, (scans, rejections) in read_all_scans(patients, context):
            batch.patients.append((patient, scans))
            batch.segments += read_segments(scans.masks)
            report.reject(rejections)
            used = {source.name for scan in scans.all_scans for source in scan.sources}
            outcomes.update(dict.fromkeys(used, "scan"))
    rows = map(json.loads, report.rejected)
    reasons = {(row["token"], row["code"]): row["reason"] for row in rows}
    batch.rejected = [(name, code, reasons[token, code]) for token, name, code in rejected]
    batch.files = list(outcomes)
    batch.patients.sort(
        key=lambda pair: (not pair[0].known, proposed_files_csv.natural_sort_key(pair[0].id))
    )
    return batch


def read_all_scans(
    patients: list[Patient], context: BatchContext
) -> Iterator[tuple[Patient, tuple[PatientScans, list[Rejection]]]]:
    """Read the headers of all patients on all cores; a patient that kills a worker is left out."""
    seconds, memory = context.settings.max_seconds, context.settings.worker_memory
    for patient, result in map_in_workers(
        partial(read_patient_scans, context=context), patients, seconds=seconds, memory=memory
    ):
        if result is not None:
            yield patient, result


def propose_rows(batch: ScannedBatch) -> Iterator[FilesRow]:
    """Yield the proposed rows: filled for known scans, empty for unknown patients."""
    files_by_folder: dict[str, set[str]] = defaultdict(set)
    for name in batch.files:
        files_by_folder[proposed_files_csv.parent_folder(name)].add(name)
    rows: list[FilesRow] = []
    for patient, scans in batch.patients:
        several = len({scan.session for scan in scans.all_scans if scan.session is not None}) > 1
        for scan in scans.all_scans:
            session = proposed_session(scans, scan, several=several)
            rows += proposed_files_csv.rows_of_scan(scan, patient, session, files_by_folder)
    rows += proposed_files_csv.rows_of_rejected(batch.rejected, files_by_folder)
    yield from sorted(
        rows, key=lambda row: (proposed_files_csv.natural_sort_key(row.path), row.channel or 0)
    )


def proposed_session(scans: PatientScans, scan: ScanRecord, *, several: bool) -> str | None:
    """Return a visit as the owner would write it: its name, or for DICOM its number in time."""
    if scan.session is None or not scan.headers:
        return scan.session
    return session_label(scans, scan) if several else None


if __name__ == "__main__":
    run_options(
        ScanOptions, lambda options: main(options.batch, force=options.force), name="auglift scan"
    )
