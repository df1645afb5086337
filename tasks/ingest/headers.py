"""What ingest takes from a DICOM header: an allow-list, read once and without the pixels."""

import math
from dataclasses import dataclass, field
from typing import Any

import pydicom
from pydicom.dataset import FileDataset
from pydicom.tag import Tag

from tasks.ingest.inventory import Source
from tasks.ingest.refusal import RefusalError

TAGS = [
    "SpecificCharacterSet", "ImageType", "SOPClassUID", "SOPInstanceUID", "StudyDate",
    "SeriesDate", "AcquisitionDate", "StudyTime", "SyntheticData", "Modality", "Manufacturer",
    "InstitutionName", "StationName", "StudyDescription", "SeriesDescription", "ProtocolName",
    "SequenceName", "PatientID", "PatientName", "ContrastBolusAgent", "ScanningSequence",
    "SequenceVariant", "RepetitionTime", "EchoTime", "InversionTime", "EchoNumbers",
    "StudyInstanceUID", "SeriesInstanceUID", "AcquisitionNumber", "InstanceNumber",
    "ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID",
    "TemporalPositionIdentifier", "TriggerTime", "DiffusionBValue", "SamplesPerPixel",
    "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns", "PixelSpacing",
    "BitsAllocated", "BitsStored", "PixelRepresentation", "BurnedInAnnotation",
    "RescaleIntercept", "RescaleSlope", "ModalityLUTSequence", "SequenceOfUltrasoundRegions",
]  # fmt: skip
PIXEL_DATA = {Tag("PixelData"), Tag("FloatPixelData"), Tag("DoubleFloatPixelData")}


@dataclass(frozen=True, slots=True)
class Header:
    """One DICOM file. Identifying fields stay inside ingest; nothing here is written as it is."""

    source: Source
    offset: int  # of the first byte after the header
    transfer_syntax: str
    sop_class: str
    sop_instance: str
    modality: str
    image_type: tuple[str, ...]
    patient: str
    study: str
    study_time: str  # date and time; orders sessions, never leaves
    series: str
    frame_of_reference: str
    equipment: str
    description: str
    synthetic: bool
    burned_in: bool
    sequence: dict[str, Any] = field(hash=False)  # TR, TE, TI, contrast, scanning sequence
    split_by: tuple[tuple[str, str], ...]  # what may tell volumes in one series apart
    instance: int
    frames: int
    rows: int
    columns: int
    samples: int
    bits: int
    bits_stored: int
    signed: bool
    photometric: str
    slope: float
    intercept: float
    has_lut: bool
    position: tuple[float, ...]  # (3,) mm, LPS+
    orientation: tuple[float, ...]  # (6,) direction cosines of a row and a column, LPS+
    pixel_spacing: tuple[float, ...]  # (2,) mm between rows, between columns


def read_header(source: Source) -> Header:
    """Read one file up to its pixels.

    Raises:
        RefusalError: `corrupt` where it cannot be parsed as DICOM.
    """
    try:
        with source.path.open("rb") as file:
            dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=TAGS, force=True)
            offset = file.tell()
        return summarise(source, dataset, offset)
    except RefusalError:
        raise
    except Exception as error:  # a hostile header may raise anything; its text may hold names
        raise RefusalError(
            "corrupt", f"the header cannot be parsed ({type(error).__name__})"
        ) from None


def summarise(source: Source, dataset: FileDataset, offset: int) -> Header:
    """Take the allowed fields, with numbers checked to be finite."""
    if "SOPClassUID" not in dataset:
        raise RefusalError("corrupt", "no SOP Class UID (0008,0016)")
    meta = getattr(dataset, "file_meta", {})
    return Header(
        source=source,
        offset=offset,
        transfer_syntax=str(meta.get("TransferSyntaxUID", "")),
        sop_class=str(dataset.SOPClassUID),
        sop_instance=text(dataset, "SOPInstanceUID"),
        modality=text(dataset, "Modality"),
        image_type=tuple(str(word).upper() for word in words(dataset, "ImageType")),
        patient=text(dataset, "PatientID") or text(dataset, "PatientName"),
        study=text(dataset, "StudyInstanceUID"),
        study_time=f"{text(dataset, 'StudyDate')} {text(dataset, 'StudyTime')}",
        series=text(dataset, "SeriesInstanceUID"),
        frame_of_reference=text(dataset, "FrameOfReferenceUID"),
        equipment="|".join(text(dataset, name) for name in ("InstitutionName", "StationName")),
        description=" ".join(
            text(dataset, name) for name in ("SeriesDescription", "ProtocolName", "SequenceName")
        ),
        synthetic=text(dataset, "SyntheticData") == "YES",
        burned_in=text(dataset, "BurnedInAnnotation") == "YES"
        or "SequenceOfUltrasoundRegions" in dataset,
        sequence={
            "TR": number(dataset, "RepetitionTime"),
            "TE": number(dataset, "EchoTime"),
            "TI": number(dataset, "InversionTime"),
            "contrast": bool(text(dataset, "ContrastBolusAgent")),
            "scanning": tuple(map(str, words(dataset, "ScanningSequence"))),
        },
        split_by=tuple(
            (name, text(dataset, name))
            for name in (
                "EchoTime",
                "EchoNumbers",
                "ImageType",
                "AcquisitionNumber",
                "TemporalPositionIdentifier",
                "DiffusionBValue",
                "TriggerTime",
            )
        ),
        instance=int(number(dataset, "InstanceNumber") or 0),
        frames=int(number(dataset, "NumberOfFrames") or 1),
        rows=int(number(dataset, "Rows") or 0),
        columns=int(number(dataset, "Columns") or 0),
        samples=int(number(dataset, "SamplesPerPixel") or 1),
        bits=int(number(dataset, "BitsAllocated") or 0),
        bits_stored=int(number(dataset, "BitsStored") or 0),
        signed=number(dataset, "PixelRepresentation") == 1,
        photometric=text(dataset, "PhotometricInterpretation"),
        slope=slope_of(dataset),
        intercept=number(dataset, "RescaleIntercept") or 0.0,
        has_lut="ModalityLUTSequence" in dataset,
        position=numbers(dataset, "ImagePositionPatient", 3),
        orientation=numbers(dataset, "ImageOrientationPatient", 6),
        pixel_spacing=numbers(dataset, "PixelSpacing", 2),
    )


def text(dataset: FileDataset, name: str) -> str:
    """An attribute as text; absent and empty are the same."""
    value = dataset.get(name)
    return "" if value is None else str(value).strip()


def words(dataset: FileDataset, name: str) -> list[Any]:
    """An attribute's values as a list."""
    value = dataset.get(name)
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str | int | float) else list(value)


def number(dataset: FileDataset, name: str) -> float | None:
    """An attribute's only or first value as a finite number; None where absent."""
    values = words(dataset, name)
    if not values:
        return None
    value = float(values[0])
    if not math.isfinite(value):
        raise RefusalError("corrupt", f"{name} is not finite")
    return value


def numbers(dataset: FileDataset, name: str, count: int) -> tuple[float, ...]:
    """An attribute's values as finite numbers, or () where absent."""
    values = tuple(float(value) for value in words(dataset, name))
    if not values:
        return ()
    if len(values) != count or not all(map(math.isfinite, values)):
        raise RefusalError(
            "geometry", f"{name} has {len(values)} values, {count} finite ones expected"
        )
    return values


def slope_of(dataset: FileDataset) -> float:
    """The rescale slope; an absent one is 1, a zero one is an error (it would erase the slice)."""
    slope = number(dataset, "RescaleSlope")
    if slope == 0.0:
        raise RefusalError("unsupported-pixels", "the rescale slope is 0")
    return 1.0 if slope is None else slope
