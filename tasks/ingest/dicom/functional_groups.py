"""The frames of multi-frame DICOM objects: where each lies and what tells it from others.

Enhanced images (DICOM PS3.3 C.7.6.16) and segmentations (C.8.20) keep position, orientation,
spacing and scaling of a frame in functional groups, those of all frames in shared ones. No Frame
of Reference UID is needed to place them, and anonymisers take it away.
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
SPLIT_BY = {  # as `headers.SPLIT_BY`: functional group and attribute of each
    "EchoTime": ("MREchoSequence", "EffectiveEchoTime"),
    "ImageType": ("MRImageFrameTypeSequence", "FrameType"),
    "TemporalPositionIdentifier": ("FrameContentSequence", "TemporalPositionIndex"),
    "DiffusionBValue": ("MRDiffusionSequence", "DiffusionBValue"),
    "StackID": ("FrameContentSequence", "StackID"),
}
IN_WORDS = {
    "EchoTime": "echo times",
    "ImageType": "image types",
    "TemporalPositionIdentifier": "temporal positions",
    "DiffusionBValue": "diffusion weightings",
    "StackID": "stacks",
}


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame; vectors are empty where the object does not say them. Lengths in mm, LPS+."""

    position: tuple[float, ...]  # (3,)
    orientation: tuple[float, ...]  # (6,)
    pixel_spacing: tuple[float, ...]  # (2,) between rows, between columns
    slice_spacing: float | None  # between the centres of slices, else their thickness
    slope: float
    intercept: float
    segment: int  # of a segmentation; 0 where frames hold no single segment
    echo_time: float | None  # ms
    repetition_time: float | None
    inversion_time: float | None
    split_by: tuple[tuple[str, str], ...]


def open_without_pixels(source: Source) -> Any:
    """The functional groups of a file."""
    import pydicom

    return pydicom.dcmread(
        source.path, stop_before_pixels=True, force=True, specific_tags=list(WANTED)
    )


def frames_of(dataset: Any) -> list[Frame]:
    """The frames of a multi-frame object in stored order.

    Raises:
        RefusalError: `corrupt` where the groups are not as many as the frames.
    """
    count = int(dataset.get("NumberOfFrames") or 1)
    shared = first_item(dataset, SHARED)
    own = dataset.get(PER_FRAME) or []
    if own and len(own) != count:
        raise RejectionError("corrupt", f"positions of {len(own)} frames for {count} frames")
    return [frame_of([groups, shared], dataset) for groups in own or [None] * count]


def frame_of(places: list[Any], dataset: Any) -> Frame:
    """One frame, from its own functional groups, else the shared ones, else the top level."""
    measures = {
        name: numbers(places, "PixelMeasuresSequence", name, dataset)
        for name in ("PixelSpacing", "SpacingBetweenSlices", "SliceThickness")
    }
    spacings = (*measures["SpacingBetweenSlices"], *measures["SliceThickness"])
    scaling = "PixelValueTransformationSequence"
    slope = numbers(places, scaling, "RescaleSlope", dataset)
    intercept = numbers(places, scaling, "RescaleIntercept", dataset)
    segment = numbers(places, "SegmentIdentificationSequence", "ReferencedSegmentNumber")
    timing = "MRTimingAndRelatedParametersSequence"
    return Frame(
        position=numbers(places, "PlanePositionSequence", "ImagePositionPatient", dataset),
        orientation=numbers(places, "PlaneOrientationSequence", "ImageOrientationPatient", dataset),
        pixel_spacing=measures["PixelSpacing"],
        slice_spacing=next((abs(value) for value in spacings if value), None),
        slope=slope[0] if slope else 1.0,
        intercept=intercept[0] if intercept else 0.0,
        segment=int(segment[0]) if segment else 0,
        echo_time=next(iter(numbers(places, "MREchoSequence", "EffectiveEchoTime")), None),
        repetition_time=next(iter(numbers(places, timing, "RepetitionTime")), None),
        inversion_time=next(iter(numbers(places, "MRModifierSequence", "InversionTimes")), None),
        split_by=tuple(
            (name, str(next(values(places, group, attribute), "")))
            for name, (group, attribute) in SPLIT_BY.items()
        ),
    )


def values(places: list[Any], group: str, attribute: str, top: Any = None) -> Iterator[Any]:
    """The values that are there for an attribute, the frame's own first."""
    for place in places:
        value = first_item(place, group).get(attribute) if place is not None else None
        if value is not None and value != "":
            yield value
    if top is not None and top.get(attribute) not in (None, ""):
        yield top.get(attribute)


def numbers(places: list[Any], group: str, attribute: str, top: Any = None) -> tuple[float, ...]:
    """The first value that is there, as numbers."""
    for value in values(places, group, attribute, top):
        return tuple(map(float, value if hasattr(value, "__iter__") else [value]))
    return ()


def first_item(place: Any, group: str) -> Any:
    """The only item of a functional group, or nothing to find attributes in."""
    items = place.get(group) if place is not None else None
    return items[0] if items else {}
