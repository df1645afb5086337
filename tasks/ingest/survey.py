"""What a batch holds and whose it is, told by names and first bytes, before any pixel is read."""

import importlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from tasks.ingest.core.rejection import Rejection, RejectionError
from tasks.ingest.core.scan_record import ScanRecord
from tasks.ingest.core.source_file import Source
from tasks.ingest.dicom.sop_classes import READ_BY_PYDICOM
from tasks.ingest.files.dicom_index import DicomFileIndex, Entries, Entry
from tasks.ingest.files.list_files import (
    Kind,
    detect_format,
    file_size,
    is_hidden,
    is_tool_file,
    list_files,
)
from tasks.ingest.files.zip_archives import unpack
from tasks.ingest.images2d import collections
from tasks.ingest.nifti import nifti_scans
from tasks.ingest.patients.patient_id import Identity, identify, named_by_owner
from tasks.ingest.user_tables.files_csv import FilesTable
from tasks.ingest.user_tables.owner_tables import OwnerTables
from tasks.ingest.worker_pool import map_in_workers
from tasks.params.ingest import Ingest

Answer = Identity | Rejection
Refuse = Callable[[Iterable[Rejection]], None]

FILES_A_TASK = 256


def list_batch_files(
    folder: Path, unpacked: Path, roll: DicomFileIndex, settings: Ingest, refuse: Refuse
) -> dict[Kind, list[Source]]:
    """The batch's files by kind, archives opened; DICOM, which may be very many, on the roll."""
    kinds: dict[Kind, list[Source]] = defaultdict(list)
    with roll.filled() as enrol:

        def sort(sources: Iterable[Source], root: Path) -> None:
            for source in sources:
                if is_tool_file(source.name):
                    kinds["metadata"].append(source)
                    continue
                hidden = is_hidden(source.name)
                try:
                    sized = Source(source.place, source.alias, source.root, file_size(source, root))
                    kind = detect_format(sized)
                    if hidden and kind != "metadata":
                        raise RejectionError("hidden-file", "a name that begins with a dot")
                except RejectionError as refusal:
                    if hidden and refusal.code in ("unknown-format", "empty-file"):
                        kinds["metadata"].append(source)
                    else:
                        refuse([Rejection((source,), refusal.code, refusal.reason)])
                    continue
                if kind == "dicom":
                    enrol(sized)
                else:
                    kinds[kind].append(sized)

        sort(list_files(folder), folder)
        archives = kinds.pop("archive", [])
        for number, archive in enumerate(archives):
            inside = unpacked / str(number)
            sources, refused = unpack(archive, inside, settings.max_archive_bytes)
            refuse(refused)
            if not any(archive in one.sources for one in refused):
                kinds["archive"].append(archive)
            sort(sources, inside)
    return kinds


def list_nifti_and_2d_scans(
    kinds: Mapping[Kind, list[Source]], settings: Ingest, tables: OwnerTables
) -> tuple[list[ScanRecord], list[Rejection]]:
    """Images and masks in NIfTI and picture files; each file is in one of them or refused."""
    found, rejected = nifti_scans.survey(
        kinds["nifti"],
        kinds["metadata"],
        tables.files,
        allow_unknown=settings.allow_unknown_patients,
    )
    more, refused = collections.survey(kinds["image2d"], settings, tables.images2d, tables.files)
    return [*found, *more], [*rejected, *refused]


def identify_all(
    roll: DicomFileIndex, settings: Ingest, table: FilesTable, refuse: Refuse
) -> dict[Identity, Entries]:
    """DICOM files by what they, or `files.csv`, say of their person, read on all cores."""
    files: dict[Identity, Entries] = defaultdict(Entries)
    for (source, start, end), answer in identity_results(roll, settings):
        if isinstance(answer, Identity):
            said = table.says(source.name) if table else None
            if said is not None and said.patient is not None:
                answer = named_by_owner(answer, said.patient)  # noqa: PLW2901
            files[answer].add(start, end, source.size)
        else:
            refuse([answer])
    return files


def identity_results(
    roll: DicomFileIndex, settings: Ingest
) -> Iterator[tuple[Entry, Identity | Rejection]]:
    """One for each file; a file that kills two workers is a rejection too."""

    def run(tasks: Iterable[list[Entry]]) -> Iterator[tuple[list[Entry], list[Answer] | None]]:
        seconds, memory = settings.max_seconds, settings.worker_memory
        return map_in_workers(identify_some, tasks, seconds=seconds, memory=memory)

    for chunk, result in run(chunks(roll, FILES_A_TASK)):
        if result is not None:
            yield from zip(chunk, result, strict=True)
            continue
        for [entry], alone in run([entry] for entry in chunk):
            crash = Rejection((entry.source,), "crashed", "reading it ended a process")
            yield entry, alone[0] if alone is not None else crash


def chunks(entries: Iterable[Entry], count: int) -> Iterator[list[Entry]]:
    """So many at a time."""
    coming = iter(entries)
    while chunk := list(islice(coming, count)):
        yield chunk


def identify_some(entries: list[Entry]) -> list[Answer]:
    """The identities in a few files."""
    results: list[Answer] = []
    for source, _, _ in entries:
        try:
            results.append(identify(source))
        except RejectionError as refusal:
            results.append(Rejection((source,), refusal.code, refusal.reason))
    return results


def load_libraries(identities: Iterable[Identity], settings: Ingest) -> None:
    """Import what the workers will need, once and before they fork."""
    if not all(identity.quick and identity.kind not in READ_BY_PYDICOM for identity in identities):
        importlib.import_module("pydicom")
    if settings.brain_extraction:
        importlib.import_module("torch")
