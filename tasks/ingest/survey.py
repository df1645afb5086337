"""What a batch holds, told by names and headers alone, before any pixel is read."""

from collections import defaultdict
from functools import partial
from pathlib import Path

from tasks.ingest import nifti, series
from tasks.ingest.found import Found, Rejection
from tasks.ingest.headers import Header, read_header
from tasks.ingest.inventory import Kind, Source, kind_of, walk
from tasks.ingest.refusal import RefusalError
from tasks.ingest.workers import run_all
from tasks.params.ingest import Ingest

HEADERS_A_TASK = 128


def take_stock(folder: Path) -> tuple[dict[Kind, list[Source]], list[Rejection]]:
    """The batch's files by kind, and those that are of none."""
    kinds: dict[Kind, list[Source]] = defaultdict(list)
    rejected: list[Rejection] = []
    for source in walk(folder):
        try:
            kinds[kind_of(source, folder)].append(source)
        except RefusalError as refusal:
            rejected.append(Rejection((source,), refusal.code, refusal.reason))
    return kinds, rejected


def survey(
    kinds: dict[Kind, list[Source]], settings: Ingest
) -> tuple[list[Found], list[Rejection]]:
    """Images and masks of all formats; each file is in one of them or in one rejection."""
    headers, rejected = read_headers(kinds["dicom"], settings)
    dicom_found, dicom_rejected = series.survey(
        headers, min_slices=settings.min_slices, allow_burned_in=settings.allow_burned_in
    )
    nifti_found, nifti_rejected = nifti.survey(kinds["nifti"])
    rejected += dicom_rejected + nifti_rejected
    rejected += [
        Rejection((source,), "patient-unknown", "a 2D picture names no patient")
        for source in kinds["image2d"]
    ]
    return dicom_found + nifti_found, rejected


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
    """The headers of a few files."""
    headers: list[Header] = []
    rejected: list[Rejection] = []
    for source in sources:
        try:
            headers.append(read_header(source))
        except RefusalError as refusal:
            rejected.append(Rejection((source,), refusal.code, refusal.reason))
    return headers, rejected
