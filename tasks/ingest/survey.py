"""What a batch holds and whose it is, told by names and first bytes, before any pixel is read."""

import importlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from tasks.ingest import nifti, pictures
from tasks.ingest.archive import unpack
from tasks.ingest.found import Found, Rejection
from tasks.ingest.identity import Identity, identify
from tasks.ingest.inventory import Kind, Source, kind_of, walk
from tasks.ingest.people import read_pictures_table
from tasks.ingest.refusal import RefusalError
from tasks.ingest.workers import run_all
from tasks.params.ingest import Ingest

FILES_A_TASK = 256
OF_MANY_FRAMES = (  # enhanced MR, CT, PET and their legacy forms, segmentations
    "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4", "1.2.840.10008.5.1.4.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.2.2", "1.2.840.10008.5.1.4.1.1.66.4",
)  # fmt: skip


def take_stock(
    folder: Path, unpacked: Path, settings: Ingest
) -> tuple[dict[Kind, list[Source]], list[Rejection]]:
    """The batch's files by kind, archives opened, and those that are of no kind."""
    kinds: dict[Kind, list[Source]] = defaultdict(list)
    rejected: list[Rejection] = []
    sort(walk(folder), folder, kinds, rejected)
    archives = kinds.pop("archive", [])
    for number, archive in enumerate(archives):
        inside = unpacked / str(number)
        sources, refused = unpack(archive, inside, settings.max_archive_bytes)
        rejected += refused
        if not any(archive in one.sources for one in refused):
            kinds["archive"].append(archive)
        sort(sources, inside, kinds, rejected)
    return kinds, rejected


def sort(
    sources: Iterable[Source],
    root: Path,
    kinds: dict[Kind, list[Source]],
    rejected: list[Rejection],
) -> None:
    """Put each file under its kind or among the rejected."""
    for source in sources:
        try:
            kinds[kind_of(source, root)].append(source)
        except RefusalError as refusal:
            rejected.append(Rejection((source,), refusal.code, refusal.reason))


def told_by_name(
    kinds: Mapping[Kind, list[Source]], folder: Path, settings: Ingest
) -> tuple[list[Found], list[Rejection]]:
    """Images and masks in NIfTI and picture files; each file is in one of them or refused."""
    found, rejected = nifti.survey(
        kinds["nifti"], kinds["metadata"], allow_unknown=settings.allow_unknown_patients
    )
    more, refused = pictures.survey(kinds["image2d"], settings, read_pictures_table(folder))
    return [*found, *more], [*rejected, *refused]


def identify_all(
    sources: list[Source], settings: Ingest
) -> tuple[dict[Identity, list[Source]], list[Rejection]]:
    """DICOM files by what they say of their person, read on all cores."""
    files: dict[Identity, list[Source]] = defaultdict(list)
    rejected: list[Rejection] = []
    for source, answer in zip(sources, answers(sources, settings), strict=True):
        if isinstance(answer, Identity):
            files[answer].append(source)
        else:
            rejected.append(answer)
    return files, rejected


def answers(sources: list[Source], settings: Ingest) -> Iterable[Identity | Rejection]:
    """One for each file; a file that kills two workers is a rejection too."""

    def run(tasks: list[list[Source]]) -> Iterable[list[Identity | Rejection] | None]:
        seconds, memory = settings.max_seconds, settings.worker_memory
        return run_all(identify_some, tasks, seconds=seconds, memory=memory)

    starts = range(0, len(sources), FILES_A_TASK)
    chunks = [sources[start : start + FILES_A_TASK] for start in starts]
    for chunk, result in zip(chunks, run(chunks), strict=True):
        if result is not None:
            yield from result
            continue
        for source, alone in zip(chunk, run([[source] for source in chunk]), strict=True):
            crash = Rejection((source,), "crashed", "reading it ended a process")
            yield alone[0] if alone is not None else crash


def identify_some(sources: list[Source]) -> list[Identity | Rejection]:
    """The identities in a few files."""
    results: list[Identity | Rejection] = []
    for source in sources:
        try:
            results.append(identify(source))
        except RefusalError as refusal:
            results.append(Rejection((source,), refusal.code, refusal.reason))
    return results


def load_libraries(identities: Iterable[Identity], settings: Ingest) -> None:
    """Import what the workers will need, once and before they fork."""
    if any(identity.kind in OF_MANY_FRAMES for identity in identities):
        importlib.import_module("highdicom")
    elif not all(identity.quick for identity in identities):
        importlib.import_module("pydicom")
    if settings.brain_extraction:
        importlib.import_module("torch")
