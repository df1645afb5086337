"""Read from the header of each DICOM file who the patient is, on all cores."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from tasks.ingest.core.rejection import Rejection, RejectionError
from tasks.ingest.files.dicom_index import DicomFileIndex, IndexRecord, RecordRanges
from tasks.ingest.patients.patient_id import Identity, identity_from_files_csv, read_identity
from tasks.ingest.user_tables.files_csv import FilesTable
from tasks.ingest.worker_pool import map_in_workers
from tasks.params.ingest import Ingest

Result = Identity | Rejection
Reject = Callable[[Iterable[Rejection]], None]

FILES_A_TASK = 256


def identify_dicom_files(
    dicom_files: DicomFileIndex, settings: Ingest, files_table: FilesTable, reject: Reject
) -> dict[Identity, RecordRanges]:
    """Group DICOM files by the identity in their header; a patient in `files.csv` replaces it."""
    by_identity: dict[Identity, RecordRanges] = defaultdict(RecordRanges)
    for (source, start, end), result in identity_results(dicom_files, settings):
        if isinstance(result, Identity):
            row = files_table.row_of(source.name) if files_table else None
            if row is not None and row.patient is not None:
                identity = identity_from_files_csv(result, row.patient)
            else:
                identity = result
            by_identity[identity].add(start, end, source.size)
        else:
            reject([result])
    return by_identity


def identity_results(
    dicom_files: DicomFileIndex, settings: Ingest
) -> Iterator[tuple[IndexRecord, Result]]:
    """Yield each file with its identity or rejection; a file that kills two workers is rejected."""

    def run(
        tasks: Iterable[list[IndexRecord]],
    ) -> Iterator[tuple[list[IndexRecord], list[Result] | None]]:
        seconds, memory = settings.max_seconds, settings.worker_memory
        return map_in_workers(read_identities, tasks, seconds=seconds, memory=memory)

    for entries, results in run(in_chunks(dicom_files, FILES_A_TASK)):
        if results is not None:
            yield from zip(entries, results, strict=True)
            continue
        for [entry], retried in run([entry] for entry in entries):
            crash = Rejection((entry.source,), "crashed", "reading it ended a process")
            yield entry, retried[0] if retried is not None else crash


def in_chunks(entries: Iterable[IndexRecord], size: int) -> Iterator[list[IndexRecord]]:
    """Yield the entries in lists of at most `size`."""
    remaining = iter(entries)
    while chunk := list(islice(remaining, size)):
        yield chunk


def read_identities(entries: list[IndexRecord]) -> list[Result]:
    """Read the identities of a few files; this is what a worker runs."""
    results: list[Result] = []
    for source, _, _ in entries:
        try:
            results.append(read_identity(source))
        except RejectionError as error:
            results.append(Rejection((source,), error.code, error.reason))
    return results
