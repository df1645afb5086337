"""Classic DICOM files into series, and series into stacks of parallel slices.

A SeriesInstanceUID promises little: localisers in three planes, two echoes, or the same slice
twice share one. Slices are first split by orientation and size, equal ones dropped, and what
still clashes in position is split by echo, image type or acquisition if that resolves it.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from tasks.ingest.found import Format, Found, Rejection
from tasks.ingest.geometry import clashes, slice_normal
from tasks.ingest.headers import Header
from tasks.ingest.modality import recognise
from tasks.ingest.refusal import RefusalError

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
MASKS = (SEGMENTATION, STRUCTURE_SET)
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
DERIVED_MAPS = {"ADC", "FA", "TRACEW", "CBV", "CBF", "MTT", "TTP", "PHASE MAP", "T1 MAP", "T2 MAP"}
SAME_COSINES = 1e-3
SAME_SPACING_MM = 1e-3


def survey(
    headers: Iterable[Header], *, patient: str, known: bool, min_slices: int, allow_burned_in: bool
) -> tuple[list[Found], list[Rejection]]:
    """Images, masks and rejections of a patient's DICOM files, each in exactly one of them."""
    found: list[Found] = []
    rejected: list[Rejection] = []
    groups: dict[tuple[str, ...], list[Header]] = defaultdict(list)
    for header in headers:
        try:
            check_kind(header, allow_burned_in=allow_burned_in)
        except RefusalError as refusal:
            rejected.append(Rejection((header.source,), refusal.code, refusal.reason))
            continue
        if header.sop_class in MASKS or header.frames > 1:
            found.append(single(header))
        else:
            groups[header.study, header.series].append(header)
    for _, group in sorted(groups.items()):
        for stack in split(group, rejected, min_slices):
            try:
                check_stack(stack, min_slices=min_slices)
                found.append(as_found(stack))
            except RefusalError as refusal:
                sources = tuple(header.source for header in stack)
                rejected.append(Rejection(sources, refusal.code, refusal.reason))
    return [replace(one, patient=patient, patient_known=known) for one in found], rejected


def check_kind(header: Header, *, allow_burned_in: bool) -> None:
    """Refuse objects that are no cross-sectional image."""
    if header.sop_class in MASKS:
        return
    if header.rows == 0 or header.columns == 0:
        raise RefusalError("not-an-image", "a DICOM object without pixels")
    if header.burned_in and not allow_burned_in:
        raise RefusalError("burned-in-text", "the header says that text is burned into the pixels")
    if header.sop_class.startswith(SECONDARY_CAPTURE) and not allow_burned_in:
        raise RefusalError("secondary-capture", "a secondary capture")
    if "LOCALIZER" in header.image_type:
        raise RefusalError("localiser", "the image type says LOCALIZER")
    if DERIVED_MAPS & set(header.image_type):
        raise RefusalError("derived-map", "the image type names a computed map")


def single(header: Header) -> Found:
    """A file that is a volume by itself: enhanced multi-frame, or a mask."""
    found = as_found([header])
    if header.sop_class in MASKS:
        kind: Format = "dicom" if header.sop_class == SEGMENTATION else "rtstruct"
        return replace(found, role="mask", format=kind)
    return replace(found, format="dicom-multiframe")


def as_found(stack: list[Header]) -> Found:
    """A stack of slices as an image."""
    first = stack[0]
    modality, evidence = recognise(first.description, first.timing)
    return Found(
        role="image",
        format="dicom",
        sources=tuple(header.source for header in stack),
        session=first.study or None,
        when=first.study_time,
        modality=modality,
        evidence=evidence,
        frame_of_reference=first.frame_of_reference,
        equipment=first.equipment,
        synthetic=any(header.synthetic for header in stack),
        headers=tuple(stack),
    )


def split(group: list[Header], rejected: list[Rejection], min_slices: int) -> list[list[Header]]:
    """Stacks of parallel slices of one size, without repeats of the same slice."""
    stacks: list[list[Header]] = []
    for header in sorted(group, key=lambda one: (one.instance, one.source.name)):
        for stack in stacks:
            if alike(stack[0], header):
                stack.append(header)
                break
        else:
            stacks.append([header])
    resolved: list[list[Header]] = []
    for stack in stacks:
        resolved += resolve(without_copies(stack, rejected), min_slices)
    return resolved


def alike(one: Header, other: Header) -> bool:
    """Same size, spacing and orientation."""
    return (
        (one.rows, one.columns) == (other.rows, other.columns)
        and close(one.orientation, other.orientation, SAME_COSINES)
        and close(one.pixel_spacing, other.pixel_spacing, SAME_SPACING_MM)
    )


def close(some: Sequence[float], others: Sequence[float], tolerance: float) -> bool:
    """Whether two vectors are as long and differ nowhere by more."""
    return len(some) == len(others) and all(
        abs(a - b) <= tolerance for a, b in zip(some, others, strict=True)
    )


def without_copies(stack: list[Header], rejected: list[Rejection]) -> list[Header]:
    """Drop files that repeat a SOP instance, or a slice at the same place with equal pixels."""
    from tasks.ingest.decode import stored_values

    kept: list[Header] = []
    by_place: dict[tuple[float, ...], list[Header]] = defaultdict(list)
    for header in stack:
        place = tuple(round(value, 3) for value in header.position)
        twins = by_place[place]
        for twin in twins:
            same = twin.sop_instance == header.sop_instance != ""
            try:
                if same or (
                    twin.split_by == header.split_by
                    and np.array_equal(stored_values([twin]), stored_values([header]))
                ):
                    rejected.append(
                        Rejection((header.source,), "duplicate", "the slice is there already")
                    )
                    break
            except RefusalError:
                continue
        else:
            twins.append(header)
            kept.append(header)
    return kept


def resolve(stack: list[Header], min_slices: int) -> list[list[Header]]:
    """Split a stack whose slices clash in position, by the first attribute that separates them."""
    if len(stack) < 2 or not is_clashing(stack):
        return [stack]
    for name, _ in stack[0].split_by:
        parts: dict[str, list[Header]] = defaultdict(list)
        for header in stack:
            parts[dict(header.split_by)[name]].append(header)
        enough = all(len(part) >= min_slices for part in parts.values())
        if len(parts) > 1 and enough and not any(map(is_clashing, parts.values())):
            return list(parts.values())
    return [stack]


def is_clashing(stack: list[Header]) -> bool:
    """Whether two slices share a plane; a stack without geometry is judged elsewhere."""
    if any(not header.position or not header.orientation for header in stack):
        return False
    try:
        normal = slice_normal(np.array(stack[0].orientation))
    except RefusalError:
        return False
    return clashes(np.array([header.position for header in stack]), normal)


def check_stack(stack: list[Header], *, min_slices: int) -> None:
    """Refuse a stack that can be no volume, before any pixel is read."""
    if any(not (h.position and h.orientation and h.pixel_spacing) for h in stack):
        raise RefusalError("geometry", "position, orientation or pixel spacing is missing")
    if min(stack[0].pixel_spacing) <= 0:
        raise RefusalError("geometry", "the pixel spacing is not positive")
    if len(stack) < min_slices:
        raise RefusalError("too-few-slices", f"{len(stack)} slices, at least {min_slices} expected")
    if is_clashing(stack):
        raise RefusalError("not-a-volume", f"{len(stack)} different slices share positions")
