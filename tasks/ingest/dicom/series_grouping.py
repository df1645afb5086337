"""Classic DICOM files into series, and series into stacks of parallel slices.

A SeriesInstanceUID promises little: localisers in three planes, two echoes, or the same slice
twice share one. Slices are first split by orientation and size, equal ones dropped, and what
still clashes in position is split by echo, image type or acquisition if that resolves it.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from tasks.ingest.core.mr_contrast import recognise
from tasks.ingest.core.rejection import Rejection, RejectionError
from tasks.ingest.core.scan_record import Format, ScanRecord
from tasks.ingest.dicom.header import Header
from tasks.ingest.dicom.pixel_data import read_pixel_values
from tasks.ingest.dicom.rtstruct import referenced_series
from tasks.ingest.dicom.slice_geometry import (
    SAME_COSINES,
    SAME_SPACING_MM,
    share_position,
    slice_normal,
)
from tasks.ingest.dicom.sop_classes import (
    MAPS,
    MASKS,
    SECONDARY_CAPTURE,
    STRUCTURE_SET,
    UNREADABLE_MASKS,
)
from tasks.ingest.masks.segment_names import Segment, tumour_segments, words
from tasks.params.ingest import Ingest

LABELS = re.compile(
    r"\b(?:segmentations?|segm?|label ?maps?|labels?|masks?|annotations?|rois?|ground ?truth)\b"
)
MOST_LABELS = 16  # more values than these are greys
DERIVED_MAPS = {"ADC", "FA", "TRACEW", "CBV", "CBF", "MTT", "TTP", "PHASE MAP", "T1 MAP", "T2 MAP"}


def survey(
    headers: Iterable[Header], *, patient: str, known: bool, settings: Ingest
) -> tuple[list[ScanRecord], list[Rejection]]:
    """Images, masks and rejections of a patient's DICOM files, each in exactly one of them."""
    found: list[ScanRecord] = []
    rejected: list[Rejection] = []
    groups: dict[tuple[str, ...], list[Header]] = defaultdict(list)
    for header in headers:
        try:
            check_kind(header, settings)
            if header.frames > 1 and header.sop_class not in MASKS:
                check_count(header.frames, settings.min_slices)
        except RejectionError as refusal:
            rejected.append(Rejection((header.source,), refusal.code, refusal.reason))
            continue
        if header.sop_class in MASKS or header.frames > 1:
            found.append(single(header))
        else:
            groups[header.study, header.series].append(header)
    for group in join_single_slices(groups, settings.min_slices):
        for stack in split_series(group, rejected, settings.min_slices):
            try:
                check_stack(stack, min_slices=settings.min_slices)
                found.append(as_labels_or_image(stack, settings))
            except RejectionError as refusal:
                sources = tuple(header.source for header in stack)
                rejected.append(Rejection(sources, refusal.code, refusal.reason))
    found = [with_slice_steps(one, found) for one in found]
    return [replace(one, patient=patient, patient_known=known) for one in found], rejected


def join_single_slices(
    groups: Mapping[tuple[str, ...], list[Header]], min_slices: int
) -> list[list[Header]]:
    """The series of a patient; slices that bear a series UID each are one, as far as all else says.

    Some anonymisers and archives give each file a SeriesInstanceUID of its own. Slices of one
    study, description, kind, size, orientation and frame of reference are put together, apart by
    series number where that leaves enough of them.
    """
    series: list[list[Header]] = []
    alone: dict[tuple[object, ...], list[Header]] = defaultdict(list)
    for _, group in sorted(groups.items()):
        if len(group) > 1:
            series.append(group)
            continue
        one = group[0]
        turned = tuple(round(cosine, 2) + 0.0 for cosine in one.orientation)
        kind = (one.study, one.description, one.modality, one.sop_class, one.image_type)
        place = (one.frame_of_reference, one.rows, one.columns, turned)
        alone[*kind, *place].append(one)
    for slices in alone.values():
        numbered: dict[str, list[Header]] = defaultdict(list)
        for one in slices:
            numbered[one.series_number].append(one)
        if all(len(part) >= min_slices for part in numbered.values()):
            series += numbered.values()
        elif len(slices) >= min_slices:
            series.append(slices)
        else:
            series += [[one] for one in slices]
    return series


def check_kind(header: Header, settings: Ingest) -> None:
    """Refuse objects that are no cross-sectional image."""
    if header.sop_class in UNREADABLE_MASKS:
        raise RejectionError("mask-format", UNREADABLE_MASKS[header.sop_class])
    if header.sop_class in MAPS:
        raise RejectionError("derived-map", MAPS[header.sop_class])
    if header.sop_class in MASKS:
        return
    if header.rows == 0 or header.columns == 0:
        raise RejectionError("not-an-image", "a DICOM object without pixels")
    if header.burned_in and not settings.allow_burned_in:
        raise RejectionError(
            "burned-in-text", "the header says that text is burned into the pixels"
        )
    if header.sop_class.startswith(SECONDARY_CAPTURE) and not settings.allow_burned_in:
        raise RejectionError("secondary-capture", "a secondary capture")
    if "LOCALIZER" in header.image_type:
        raise RejectionError("localiser", "the image type says LOCALIZER")
    if DERIVED_MAPS & set(header.image_type):
        raise RejectionError("derived-map", "the image type names a computed map")


def single(header: Header) -> ScanRecord:
    """A file that is a volume by itself: enhanced multi-frame, or a mask."""
    found = as_found([header])
    if header.sop_class in MASKS:
        kind: Format = "rtstruct" if header.sop_class == STRUCTURE_SET else "dicom"
        return replace(found, role="mask", format=kind)
    return replace(found, format="dicom-multiframe")


def as_labels_or_image(stack: list[Header], settings: Ingest) -> ScanRecord:
    """A stack as an image, or as a mask where description and values say that it holds labels.

    Some tools write label maps as plain images, in a series called `FLAIR tumor segmentation`.

    Raises:
        RefusalError: `not-a-tumour-mask` for labels whose description names no tumour.
    """
    description = stack[0].description.partition("\n")[0]
    if stack[0].modality != "SEG" and not LABELS.search(words(description)):
        return as_found(stack)
    try:
        few = len(np.unique(read_pixel_values(stack))) <= MOST_LABELS
    except (RejectionError, MemoryError):  # reading it says why
        few = False
    if not few:
        return as_found(stack)
    tumour_segments({1: Segment(description)}, "whole", settings.mask_segments)
    return replace(as_found(stack), role="mask")


def with_slice_steps(mask: ScanRecord, found: Sequence[ScanRecord]) -> ScanRecord:
    """A structure set with the steps between the slices of the images on which it was drawn.

    Where it does not say which these are, of all in its frame of reference.
    """
    if mask.format != "rtstruct":
        return mask
    images = [one for one in found if (one.role, one.format) == ("image", "dicom")]
    drawn_on = referenced_series(mask.sources[0])
    images = [one for one in images if one.headers[0].series in drawn_on] or [
        one for one in images if one.frame_of_reference == mask.frame_of_reference
    ]
    return replace(mask, slice_steps=tuple(step for one in images for step in slice_steps(one)))


def slice_steps(image: ScanRecord) -> list[tuple[float, ...]]:
    """The usual vector between the slices of a series, RAS+ mm; none where they have no normal."""
    try:
        normal = slice_normal(np.array(image.headers[0].orientation))
    except RejectionError:
        return []
    along = np.array([header.position for header in image.headers]) @ normal
    step = float(np.median(np.diff(np.sort(along)))) * normal * [-1.0, -1.0, 1.0]
    return [tuple(step.tolist())]


def as_found(stack: list[Header]) -> ScanRecord:
    """A stack of slices as an image."""
    first = stack[0]
    modality, evidence = recognise(first.description, first.timing)
    return ScanRecord(
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


def split_series(
    group: list[Header], rejected: list[Rejection], min_slices: int
) -> list[list[Header]]:
    """Stacks of parallel slices of one size, without repeats of the same slice."""
    stacks: list[list[Header]] = []
    for header in sorted(group, key=lambda one: (one.instance, one.source.name)):
        for stack in stacks:
            if same_grid(stack[0], header):
                stack.append(header)
                break
        else:
            stacks.append([header])
    resolved: list[list[Header]] = []
    for stack in stacks:
        resolved += split_by_attribute(drop_duplicates(stack, rejected), min_slices)
    return resolved


def same_grid(one: Header, other: Header) -> bool:
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


def drop_duplicates(stack: list[Header], rejected: list[Rejection]) -> list[Header]:
    """Drop files that repeat a SOP instance, or a slice at the same place with equal pixels."""
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
                    and np.array_equal(read_pixel_values([twin]), read_pixel_values([header]))
                ):
                    rejected.append(
                        Rejection((header.source,), "duplicate", "the slice is there already")
                    )
                    break
            except (RejectionError, MemoryError):  # reading them says why
                continue
        else:
            twins.append(header)
            kept.append(header)
    return kept


def split_by_attribute(stack: list[Header], min_slices: int) -> list[list[Header]]:
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
    except RejectionError:
        return False
    return share_position(np.array([header.position for header in stack]), normal)


def check_stack(stack: list[Header], *, min_slices: int) -> None:
    """Refuse a stack that can be no volume, before any pixel is read."""
    if any(not (h.position and h.orientation and h.pixel_spacing) for h in stack):
        raise RejectionError("geometry", "position, orientation or pixel spacing is missing")
    if min(stack[0].pixel_spacing) <= 0:
        raise RejectionError("geometry", "the pixel spacing is not positive")
    check_count(len(stack), min_slices)
    if is_clashing(stack):
        raise RejectionError("not-a-volume", f"{len(stack)} different slices share positions")


def check_count(count: int, min_slices: int) -> None:
    """Refuse fewer slices than a volume needs."""
    if count < min_slices:
        raise RejectionError("too-few-slices", f"{count} slices, at least {min_slices} expected")
