"""What a batch holds, told by names and headers alone, before any pixel is read."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tasks.ingest import nifti, pictures, series
from tasks.ingest.archive import unpack
from tasks.ingest.found import Found, Rejection
from tasks.ingest.headers import Header, read_header
from tasks.ingest.inventory import Kind, Source, kind_of, walk
from tasks.ingest.modality import Timing
from tasks.ingest.overrides import apply_overrides, read_overrides
from tasks.ingest.people import read_pictures_table
from tasks.ingest.refusal import RefusalError
from tasks.ingest.workers import run_all
from tasks.params.ingest import Ingest

HEADERS_A_TASK = 128


def take_stock(
    folder: Path, unpacked: Path, settings: Ingest
) -> tuple[dict[Kind, list[Source]], list[Rejection]]:
    """The batch's files by kind, archives opened, and those that are of no kind."""
    kinds: dict[Kind, list[Source]] = defaultdict(list)
    rejected: list[Rejection] = []
    sort(walk(folder), folder, kinds, rejected)
    for number, archive in enumerate(kinds["archive"]):
        inside = unpacked / str(number)
        sources, refused = unpack(archive, inside, settings.max_archive_bytes)
        rejected += refused
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


def survey(
    kinds: dict[Kind, list[Source]], folder: Path, settings: Ingest
) -> tuple[list[Found], list[Rejection]]:
    """Images and masks of all formats; each file is in one of them or in one rejection."""
    headers, rejected = read_headers(kinds.pop("dicom", []), settings)
    parts = [
        series.survey(
            headers,
            min_slices=settings.min_slices,
            allow_burned_in=settings.allow_burned_in,
            allow_unknown_patients=settings.allow_unknown_patients,
        ),
        nifti.survey(kinds["nifti"], kinds["metadata"]),
        pictures.survey(kinds["image2d"], settings, read_pictures_table(folder)),
    ]
    found = [one for part, _ in parts for one in part]
    rejected += [one for _, part in parts for one in part]
    found, skipped = apply_overrides(found, read_overrides(folder))
    return found, rejected + skipped


def read_headers(sources: list[Source], settings: Ingest) -> tuple[list[Header], list[Rejection]]:
    """The headers of all DICOM files, on all cores."""
    headers: list[Header] = []
    rejected: list[Rejection] = []
    run = partial(run_all, read_some, seconds=settings.max_seconds, memory=settings.worker_memory)
    chunks = [
        sources[start : start + HEADERS_A_TASK] for start in range(0, len(sources), HEADERS_A_TASK)
    ]
    for chunk, result in zip(chunks, run(chunks), strict=True):
        singles = [[source] for source in chunk]
        results = [result] if result is not None else run(singles)
        for index, part in enumerate(results):
            if part is None:
                rejected.append(Rejection((chunk[index],), "crashed", "reading it ended a process"))
            else:
                headers += part[0]
                rejected += part[1]
    return headers, rejected


def read_some(sources: list[Source]) -> tuple[list[Header], list[Rejection]]:
    """The headers of a few files, equal values shared: the slices of a series differ in few."""
    headers: list[Header] = []
    shared: dict[Any, Any] = {}
    rejected: list[Rejection] = []
    for source in sources:
        try:
            headers.append(slim(read_header(source), shared))
        except RefusalError as refusal:
            rejected.append(Rejection((source,), refusal.code, refusal.reason))
    return headers, rejected


def slim(header: Header, shared: dict[Any, Any]) -> Header:
    """The header with each of its values replaced by an equal one that was seen before."""
    values = {
        name: shared.setdefault(value, value)
        for name in Header.__slots__
        if isinstance(value := getattr(header, name), str | tuple | Timing)
    }
    return replace(header, **values)
