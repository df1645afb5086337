"""Read the frames of multi-frame DICOM objects: position, scaling, and what distinguishes frames.

Enhanced images (DICOM PS3.3 C.7.6.16) and segmentations (C.8.20) keep position, orientation,
spacing and scaling of a frame in functional groups, and what all frames share in shared ones. No
Frame of Reference UID is needed to place them, and anonymisers remove it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.core.source_file import Source

SHARED, PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
WANTED = [
    SHARED, PER_FRAME, "NumberOfFrames", "ImagePositionPatient", "ImageOrientationPatient",
    "PixelSpacing", "SliceThickness", "SpacingBetweenSlices", "RescaleSlope", "RescaleIntercept",
]  # fmt: skip
SPLIT_BY = {  # as `header.SPLIT_BY`: functional group and attribute of each
    "EchoTime": ("MREchoSequence", "EffectiveEchoTime"),
    "ImageType": ("MRImageFrameTypeSequence", "FrameType"),
    "TemporalPositionIdentifier": ("FrameContentSequence", "TemporalPositionIndex"),
    "DiffusionBValue": ("MRDiffusionSequence", "DiffusionBValue"),
    "StackID": ("FrameContentSequence", "StackID"),
}
PLURAL_NAMES = {
    "EchoTime": "echo times",
    "ImageType": "image types",
    "TemporalPositionIdentifier": "temporal positions",
    "DiffusionBValue": "diffusion weightings",
    "StackID": "stacks",
}


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame; vectors are empty if the object does not give them. Lengths in mm, LPS+."""

    position: tuple[float, ...]  # (3,)
    orientation: tuple[float, ...]  # (6,)
    pixel_spacing: tuple[float, ...]  # (2,) between rows, between columns
    slice_spacing: float | None  # between the centres of slices, else the slice thickness
    slope: float
    intercept: float
    segment: int  # of a segmentation; 0 if a frame holds no single segment
    echo_time: float | None  # ms
    repetition_time: float | None
    inversion_time: float | None
    split_by: tuple[tuple[str, str], ...]


def read_functional_groups(source: Source) -> Any:
    """Read the functional groups of a file, without the pixels."""
    import pydicom

    return pydicom.dcmread(
        source.path, stop_before_pixels=True, force=True, specific_tags=list(WANTED)
    )


def parse_frames(dataset: Any) -> list[Frame]:
    """Return the frames of a multi-frame object in stored order.

    Raises:
        RejectionError: `corrupt` if the number of groups is not that of the frames.
    """
    count = int(dataset.get("NumberOfFrames") or 1)
    shared = first_item(dataset, SHARED)
    per_frame = dataset.get(PER_FRAME) or []
    if per_frame and len(per_frame) != count:
        raise RejectionError("corrupt", f"positions of {len(per_frame)} frames for {count} frames")
    return [parse_frame([groups, shared], dataset) for groups in per_frame or [None] * count]


def parse_frame(groups: list[Any], dataset: Any) -> Frame:
    """Return one frame from its own functional groups, else the shared ones, else the top level."""
    measures = {
        name: find_numbers(groups, "PixelMeasuresSequence", name, dataset)
        for name in ("PixelSpacing", "SpacingBetweenSlices", "SliceThickness")
    }
    spacings = (*measures["SpacingBetweenSlices"], *measures["SliceThickness"])
    scaling = "PixelValueTransformationSequence"
    slope = find_numbers(groups, scaling, "RescaleSlope", dataset)
    intercept = find_numbers(groups, scaling, "RescaleIntercept", dataset)
    segment = find_numbers(groups, "SegmentIdentificationSequence", "ReferencedSegmentNumber")
    timing = "MRTimingAndRelatedParametersSequence"
    return Frame(
        position=find_numbers(groups, "PlanePositionSequence", "ImagePositionPatient", dataset),
        orientation=find_numbers(
            groups, "PlaneOrientationSequence", "ImageOrientationPatient", dataset
        ),
        pixel_spacing=measures["PixelSpacing"],
        slice_spacing=next((abs(value) for value in spacings if value), None),
        slope=slope[0] if slope else 1.0,
        intercept=intercept[0] if intercept else 0.0,
        segment=int(segment[0]) if segment else 0,
        echo_time=next(iter(find_numbers(groups, "MREchoSequence", "EffectiveEchoTime")), None),
        repetition_time=next(iter(find_numbers(groups, timing, "RepetitionTime")), None),
        inversion_time=next(
            iter(find_numbers(groups, "MRModifierSequence", "InversionTimes")), None
        ),
        split_by=tuple(
            (name, str(next(find_values(groups, group, attribute), "")))
            for name, (group, attribute) in SPLIT_BY.items()
        ),
    )


def find_values(groups: list[Any], group: str, attribute: str, top: Any = None) -> Iterator[Any]:
    """Yield the values that are present for an attribute, the frame's own first."""
    for holder in groups:
        value = first_item(holder, group).get(attribute) if holder is not None else None
        if value is not None and value != "":
            yield value
    if top is not None and top.get(attribute) not in (None, ""):
        yield top.get(attribute)


def find_numbers(
    groups: list[Any], group: str, attribute: str, top: Any = None
) -> tuple[float, ...]:
    """Return the first value that is present, as numbers."""
    for value in find_values(groups, group, attribute, top):
        return tuple(map(float, value if hasattr(value, "__iter__") else [value]))
    return ()


def first_item(groups: Any, group: str) -> Any:
    """Return the only item of a functional group, or an empty dictionary."""
    items = groups.get(group) if groups is not None else None
    return items[0] if items else {}
