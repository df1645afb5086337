"""Group DICOM slices into series, and split each series into stacks of parallel slices.

A SeriesInstanceUID promises little: localisers in three planes, two echoes, or the same slice
twice share one. So a series is split by orientation and size, duplicates are dropped, and slices
that still share positions are split by echo, image type or acquisition if that separates them.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from tasks.ingest.core.rejection import Rejection, RejectionError
from tasks.ingest.dicom.header import Header
from tasks.ingest.dicom.pixel_data import read_pixel_values
from tasks.ingest.dicom.slice_geometry import (
    SAME_COSINES,
    SAME_SPACING_MM,
    share_position,
    slice_normal,
)


def join_single_slices(
    groups: Mapping[tuple[str, ...], list[Header]], min_slices: int
) -> list[list[Header]]:
    """List the series of a patient; slices with a SeriesInstanceUID each are joined to a series.

    Some anonymisers and archives give each file a SeriesInstanceUID of its own. Such slices are
    joined if study, description, kind, size, orientation and frame of reference agree. They are
    kept apart by series number if that leaves at least `min_slices` slices of each number.
    """
    series: list[list[Header]] = []
    single: dict[tuple[object, ...], list[Header]] = defaultdict(list)
    for _, group in sorted(groups.items()):
        if len(group) > 1:
            series.append(group)
            continue
        header = group[0]
        cosines = tuple(round(cosine, 2) + 0.0 for cosine in header.orientation)
        kind = (header.modality, header.sop_class, header.image_type)
        grid = (header.frame_of_reference, header.rows, header.columns, cosines)
        single[header.study, header.description, *kind, *grid].append(header)
    for slices in single.values():
        by_number: dict[str, list[Header]] = defaultdict(list)
        for header in slices:
            by_number[header.series_number].append(header)
        if all(len(part) >= min_slices for part in by_number.values()):
            series += by_number.values()
        elif len(slices) >= min_slices:
            series.append(slices)
        else:
            series += [[header] for header in slices]
    return series


def split_series(
    series: list[Header], rejected: list[Rejection], min_slices: int
) -> list[list[Header]]:
    """Split a series into stacks of parallel slices of one size; add duplicates to `rejected`."""
    stacks: list[list[Header]] = []
    for header in sorted(series, key=lambda one: (one.instance, one.source.name)):
        for stack in stacks:
            if on_same_grid(stack[0], header):
                stack.append(header)
                break
        else:
            stacks.append([header])
    separated: list[list[Header]] = []
    for stack in stacks:
        separated += split_by_attribute(drop_duplicates(stack, rejected), min_slices)
    return separated


def on_same_grid(one: Header, other: Header) -> bool:
    """Check whether two slices have the same size, spacing and orientation."""
    return (
        (one.rows, one.columns) == (other.rows, other.columns)
        and are_close(one.orientation, other.orientation, SAME_COSINES)
        and are_close(one.pixel_spacing, other.pixel_spacing, SAME_SPACING_MM)
    )


def are_close(some: Sequence[float], others: Sequence[float], tolerance: float) -> bool:
    """Check whether two vectors have the same length and no pair differs by more than that."""
    return len(some) == len(others) and all(
        abs(a - b) <= tolerance for a, b in zip(some, others, strict=True)
    )


def drop_duplicates(stack: list[Header], rejected: list[Rejection]) -> list[Header]:
    """Drop files that repeat a SOP instance, or a slice at the same place with equal pixels."""
    unique: list[Header] = []
    by_place: dict[tuple[float, ...], list[Header]] = defaultdict(list)
    for header in stack:
        place = tuple(round(value, 3) for value in header.position)
        neighbours = by_place[place]
        for other in neighbours:
            same_instance = other.sop_instance == header.sop_instance != ""
            try:
                if same_instance or (
                    other.split_by == header.split_by
                    and np.array_equal(read_pixel_values([other]), read_pixel_values([header]))
                ):
                    rejected.append(
                        Rejection((header.source,), "duplicate", "the slice is there already")
                    )
                    break
            except (RejectionError, MemoryError):  # reading them as an image says why
                continue
        else:
            neighbours.append(header)
            unique.append(header)
    return unique


def split_by_attribute(stack: list[Header], min_slices: int) -> list[list[Header]]:
    """Split a stack whose slices share positions by the first attribute that separates them."""
    if len(stack) < 2 or not has_shared_positions(stack):
        return [stack]
    for name, _ in stack[0].split_by:
        parts: dict[str, list[Header]] = defaultdict(list)
        for header in stack:
            parts[dict(header.split_by)[name]].append(header)
        enough = all(len(part) >= min_slices for part in parts.values())
        if len(parts) > 1 and enough and not any(map(has_shared_positions, parts.values())):
            return list(parts.values())
    return [stack]


def has_shared_positions(stack: list[Header]) -> bool:
    """Check whether two slices share a plane; False without geometry, which is checked later."""
    if any(not header.position or not header.orientation for header in stack):
        return False
    try:
        normal = slice_normal(np.array(stack[0].orientation))
    except RejectionError:
        return False
    return share_position(np.array([header.position for header in stack]), normal)
