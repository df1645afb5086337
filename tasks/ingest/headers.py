"""What ingest takes from a DICOM header: an allow-list, read once and without the pixels."""

import math
from dataclasses import dataclass

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tasks.ingest.inventory import Source
from tasks.ingest.modality import Timing
from tasks.ingest.refusal import RefusalError

DESCRIPTIONS = ("SeriesDescription", "ProtocolName", "SequenceName")
SPLIT_BY = (
    "EchoTime", "EchoNumbers", "ImageType", "AcquisitionNumber", "TemporalPositionIdentifier",
    "DiffusionBValue", "TriggerTime",
)  # fmt: skip
TAGS = [
    *DESCRIPTIONS, *SPLIT_BY, "SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID",
    "StudyDate", "StudyTime", "SyntheticData", "Modality", "InstitutionName", "StationName",
    "PatientID", "PatientName", "ContrastBolusAgent", "RepetitionTime", "InversionTime",
    "StudyInstanceUID", "SeriesInstanceUID", "InstanceNumber", "ImagePositionPatient",
    "ImageOrientationPatient", "FrameOfReferenceUID", "SamplesPerPixel",
    "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns", "PixelSpacing",
    "BitsAllocated", "BitsStored", "PixelRepresentation", "BurnedInAnnotation",
    "RescaleIntercept", "RescaleSlope", "ModalityLUTSequence", "SequenceOfUltrasoundRegions",
    "ReferencedFrameOfReferenceSequence",
]  # fmt: skip
KEYWORDS = {name: int(Tag(name)) for name in TAGS}
UNCOMPRESSED = {  # by (implicit VR, little endian), for files that do not declare a syntax
    (True, True): str(ImplicitVRLittleEndian),
    (False, True): str(ExplicitVRLittleEndian),
    (False, False): str(ExplicitVRBigEndian),
}
LARGEST_VALUE = 2**16  # bytes; larger ones are skipped
NO_CONTRAST = ("", "no", "none", "n", "0", "without")
DEFLATED = b"1.2.840.10008.1.2.1.99"


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
    timing: Timing
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
            if DEFLATED in file.read(4096):  # a few bytes may inflate to all memory
                raise RefusalError("codec", "a deflated transfer syntax")
            file.seek(0)
            dataset = pydicom.dcmread(
                file, stop_before_pixels=True, defer_size=LARGEST_VALUE, force=True
            )
            offset = file.tell()
        return summarise(source, Fields(dataset), offset)
    except (RefusalError, FileNotFoundError):
        raise
    except Exception as error:  # a hostile header may raise anything; its text may hold names
        raise RefusalError(
            "corrupt", f"the header cannot be parsed ({type(error).__name__})"
        ) from None


class Fields:
    """Attributes by name, read from the raw bytes: pydicom's full conversion is 3 times slower."""

    def __init__(self, dataset: FileDataset) -> None:
        self._dataset = dataset
        self._raw = {int(tag): element for tag, element in dataset.items()}
        declared = str(dataset.file_meta.get("TransferSyntaxUID", ""))
        self.transfer_syntax = declared or UNCOMPRESSED[dataset.original_encoding]

    def __contains__(self, name: str) -> bool:
        return KEYWORDS[name] in self._raw

    def words(self, name: str) -> list[str]:
        """The values as text; empty where absent."""
        element = self._raw.get(KEYWORDS[name])
        if element is None:
            return []
        value = element.value
        if not isinstance(element, RawDataElement) or (value and not value.isascii()):
            return self._converted(name)
        text = (value or b"").decode("ascii").rstrip("\0 ")
        return [word.strip() for word in text.split("\\")] if text else []

    def _converted(self, name: str) -> list[str]:
        value = self._dataset.get(name)
        many = isinstance(value, list | tuple | MultiValue)
        return [str(one).strip() for one in (value if many else [value]) if one is not None]

    def text(self, name: str) -> str:
        """The values as one text; absent and empty are the same."""
        return "\\".join(self.words(name))

    def numbers(self, name: str) -> tuple[float, ...]:
        """The values as finite numbers; empty where absent."""
        values = tuple(float(word) for word in self.words(name) if word)
        if not all(map(math.isfinite, values)):
            raise RefusalError("geometry", f"{name} is not finite")
        return values

    def number(self, name: str) -> float | None:
        """The only or first value as a finite number; None where absent."""
        return next(iter(self.numbers(name)), None)

    def vector(self, name: str, count: int) -> tuple[float, ...]:
        """So many values, or none where absent."""
        values = self.numbers(name)
        if values and len(values) != count:
            raise RefusalError("geometry", f"{name} has {len(values)} values, not {count}")
        return values

    def referenced_frame(self) -> str:
        """The frame of reference that an RT structure set names inside a sequence."""
        items = self._dataset.get("ReferencedFrameOfReferenceSequence") or []
        frames = {str(item.get("FrameOfReferenceUID", "")) for item in items} - {""}
        return frames.pop() if len(frames) == 1 else ""

    def short(self, name: str) -> int:
        """An unsigned 16-bit value; 0 where absent."""
        element = self._raw.get(KEYWORDS[name])
        if element is None:
            return 0
        if not isinstance(element, RawDataElement) or len(element.value or b"") != 2:
            return int(self._dataset.get(name) or 0)
        return int.from_bytes(element.value, "little" if element.is_little_endian else "big")


def summarise(source: Source, fields: Fields, offset: int) -> Header:
    """Take the allowed fields, with numbers checked to be finite."""
    if not fields.text("SOPClassUID"):
        raise RefusalError("corrupt", "no SOP Class UID (0008,0016)")
    slope = fields.number("RescaleSlope")
    if slope == 0.0:
        raise RefusalError("unsupported-pixels", "the rescale slope is 0")
    return Header(
        source=source,
        offset=offset,
        transfer_syntax=fields.transfer_syntax,
        sop_class=fields.text("SOPClassUID"),
        sop_instance=fields.text("SOPInstanceUID"),
        modality=fields.text("Modality"),
        image_type=tuple(word.upper() for word in fields.words("ImageType")),
        patient=fields.text("PatientID") or fields.text("PatientName"),
        study=fields.text("StudyInstanceUID"),
        study_time=f"{fields.text('StudyDate')} {fields.text('StudyTime')}",
        series=fields.text("SeriesInstanceUID"),
        frame_of_reference=fields.text("FrameOfReferenceUID") or fields.referenced_frame(),
        equipment="|".join(fields.text(name) for name in ("InstitutionName", "StationName")),
        description=" ".join(fields.text(name) for name in DESCRIPTIONS),
        synthetic=fields.text("SyntheticData") == "YES",
        burned_in=fields.text("BurnedInAnnotation") == "YES"
        or "SequenceOfUltrasoundRegions" in fields,
        timing=Timing(
            TR=fields.number("RepetitionTime"),
            TE=fields.number("EchoTime"),
            TI=fields.number("InversionTime"),
            contrast=fields.text("ContrastBolusAgent").lower() not in NO_CONTRAST,
        ),
        split_by=tuple((name, fields.text(name)) for name in SPLIT_BY),
        instance=int(fields.number("InstanceNumber") or 0),
        frames=int(fields.number("NumberOfFrames") or 1),
        rows=fields.short("Rows"),
        columns=fields.short("Columns"),
        samples=fields.short("SamplesPerPixel") or 1,
        bits=fields.short("BitsAllocated"),
        bits_stored=fields.short("BitsStored"),
        signed=fields.short("PixelRepresentation") == 1,
        photometric=fields.text("PhotometricInterpretation"),
        slope=1.0 if slope is None else slope,
        intercept=fields.number("RescaleIntercept") or 0.0,
        has_lut="ModalityLUTSequence" in fields,
        position=fields.vector("ImagePositionPatient", 3),
        orientation=fields.vector("ImageOrientationPatient", 6),
        pixel_spacing=fields.vector("PixelSpacing", 2),
    )
