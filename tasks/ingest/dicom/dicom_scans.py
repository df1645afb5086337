"""Find the images and masks in a patient's DICOM files, from their headers.

Objects that are no cross-sectional images are rejected first, then slices are grouped into series
and stacks. Each stack, multi-frame object and mask becomes one `ScanRecord`.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from tasks.ingest.core.mr_contrast import recognise_contrast
from tasks.ingest.core.rejection import Rejection, RejectionError
from tasks.ingest.core.scan_record import Format, ScanRecord
from tasks.ingest.dicom.header import Header
from tasks.ingest.dicom.pixel_data import read_pixel_values
from tasks.ingest.dicom.rtstruct import referenced_series_uids
from tasks.ingest.dicom.series_grouping import (
    has_shared_positions,
    join_single_slices,
    split_series,
)
from tasks.ingest.dicom.slice_geometry import slice_normal
from tasks.ingest.dicom.sop_classes import (
    MAPS,
    MASKS,
    SECONDARY_CAPTURE,
    STRUCTURE_SET,
    UNREADABLE_MASKS,
)
from tasks.ingest.masks.segment_names import Segment, plain_words, tumour_segments
from tasks.params.ingest import Ingest

LABELS = re.compile(
    r"\b(?:segmentations?|segm?|label ?maps?|labels?|masks?|annotations?|rois?|ground ?truth)\b"
)

MOST_LABELS = 16  # a series with more values holds greys

DERIVED_MAPS = {"ADC", "FA", "TRACEW", "CBV", "CBF", "MTT", "TTP", "PHASE MAP", "T1 MAP", "T2 MAP"}


def find_dicom_scans(
    headers: Iterable[Header], *, patient: str, known: bool, settings: Ingest
) -> tuple[list[ScanRecord], list[Rejection]]:
    """Find the images and masks of a patient; each file is in one of them or in a rejection."""
    scans: list[ScanRecord] = []
    rejected: list[Rejection] = []
    series: dict[tuple[str, ...], list[Header]] = defaultdict(list)
    for header in headers:
        try:
            check_object(header, settings)
            if header.frames > 1 and header.sop_class not in MASKS:
                check_count(header.frames, settings.min_slices)
        except RejectionError as error:
            rejected.append(Rejection((header.source,), error.code, error.reason))
            continue
        if header.sop_class in MASKS or header.frames > 1:
            scans.append(scan_of_one_file(header))
        else:
            series[header.study, header.series].append(header)
    for group in join_single_slices(series, settings.min_slices):
        for stack in split_series(group, rejected, settings.min_slices):
            try:
                check_stack(stack, min_slices=settings.min_slices)
                scans.append(label_map_or_image(stack, settings))
            except RejectionError as error:
                sources = tuple(header.source for header in stack)
                rejected.append(Rejection(sources, error.code, error.reason))
    scans = [add_slice_steps(scan, scans) for scan in scans]
    return [replace(scan, patient=patient, patient_known=known) for scan in scans], rejected


def check_object(header: Header, settings: Ingest) -> None:
    """Check that a DICOM object is a cross-sectional image or a mask that can be read.

    Raises:
        RejectionError: `synthetic`, `mask-format`, `derived-map`, `not-an-image`, `burned-in-text`,
            `secondary-capture` or `localiser`.
    """
    if header.synthetic_marks and not settings.allow_synthetic:
        raise RejectionError("synthetic", f"marked by {' and '.join(header.synthetic_marks)}")
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


def check_stack(stack: list[Header], *, min_slices: int) -> None:
    """Check that a stack can be a volume, before any pixel is read.

    Raises:
        RejectionError: `geometry`, `too-few-slices` or `not-a-volume`.
    """
    if any(not (h.position and h.orientation and h.pixel_spacing) for h in stack):
        raise RejectionError("geometry", "position, orientation or pixel spacing is missing")
    if min(stack[0].pixel_spacing) <= 0:
        raise RejectionError("geometry", "the pixel spacing is not positive")
    check_count(len(stack), min_slices)
    if has_shared_positions(stack):
        raise RejectionError("not-a-volume", f"{len(stack)} different slices share positions")


def check_count(count: int, min_slices: int) -> None:
    """Check that there are enough slices for a volume.

    Raises:
        RejectionError: `too-few-slices`.
    """
    if count < min_slices:
        raise RejectionError("too-few-slices", f"{count} slices, at least {min_slices} expected")


def scan_of_one_file(header: Header) -> ScanRecord:
    """Return the record of a file that is a volume by itself: enhanced multi-frame, or a mask."""
    scan = scan_of_stack([header])
    if header.sop_class in MASKS:
        kind: Format = "rtstruct" if header.sop_class == STRUCTURE_SET else "dicom"
        return replace(scan, role="mask", format=kind)
    return replace(scan, format="dicom-multiframe")


def scan_of_stack(stack: list[Header]) -> ScanRecord:
    """Return the record of a stack of slices as an image."""
    first = stack[0]
    modality, evidence = recognise_contrast(first.description, first.timing)
    return ScanRecord(
        role="image",
        format="dicom",
        sources=tuple(header.source for header in stack),
        session=first.study or None,
        session_order=first.study_time,
        modality=modality,
        evidence=evidence,
        frame_of_reference=first.frame_of_reference,
        equipment=first.equipment,
        synthetic=any(header.synthetic_marks for header in stack),
        headers=tuple(stack),
    )


def label_map_or_image(stack: list[Header], settings: Ingest) -> ScanRecord:
    """Return a stack as a mask if its description and its values are those of a label map.

    Some tools write label maps as plain images, in a series called `FLAIR tumor segmentation`.

    Raises:
        RejectionError: `not-a-tumour-mask` for a label map whose description names no tumour.
    """
    description = stack[0].description.partition("\n")[0]
    if stack[0].modality != "SEG" and not LABELS.search(plain_words(description)):
        return scan_of_stack(stack)
    try:
        few_values = len(np.unique(read_pixel_values(stack))) <= MOST_LABELS
    except (RejectionError, MemoryError):  # reading it as an image says why
        few_values = False
    if not few_values:
        return scan_of_stack(stack)
    tumour_segments({1: Segment(description)}, "whole", settings.mask_segments)
    return replace(scan_of_stack(stack), role="mask")


def add_slice_steps(mask: ScanRecord, scans: Sequence[ScanRecord]) -> ScanRecord:
    """Add to a structure set the steps between the slices of the images that it was drawn on.

    These are the series that it refers to, else all series in its frame of reference.
    """
    if mask.format != "rtstruct":
        return mask
    images = [scan for scan in scans if (scan.role, scan.format) == ("image", "dicom")]
    drawn_on = referenced_series_uids(mask.sources[0])
    images = [image for image in images if image.headers[0].series in drawn_on] or [
        image for image in images if image.frame_of_reference == mask.frame_of_reference
    ]
    return replace(mask, slice_steps=tuple(step for image in images for step in slice_steps(image)))


def slice_steps(image: ScanRecord) -> list[tuple[float, ...]]:
    """Compute the median vector between the slices of a series, RAS+ mm; none without a normal."""
    try:
        normal = slice_normal(np.array(image.headers[0].orientation))
    except RejectionError:
        return []
    along = np.array([header.position for header in image.headers]) @ normal
    step = float(np.median(np.diff(np.sort(along)))) * normal * [-1.0, -1.0, 1.0]
    return [tuple(step.tolist())]
