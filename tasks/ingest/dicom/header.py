"""Read from a DICOM header what ingest uses: an allow-list of attributes, without the pixels."""

from dataclasses import dataclass, replace

from tasks.common.synthetic_marks import dicom_marks
from tasks.ingest.core.error_messages import one_line_error
from tasks.ingest.core.mr_contrast import SequenceTiming
from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.core.source_file import Source
from tasks.ingest.dicom.attributes import DicomAttributes, read_attributes
from tasks.ingest.dicom.fast_parser import Tags
from tasks.ingest.dicom.functional_groups import Frame, parse_frames, read_functional_groups
from tasks.ingest.dicom.sop_classes import ENHANCED

TAGS = Tags(
    ("ImageType", 0x00080008, "CS"),
    ("SOPClassUID", 0x00080016, "UI"),
    ("SOPInstanceUID", 0x00080018, "UI"),
    ("SyntheticData", 0x0008001C, "CS"),
    ("StudyDate", 0x00080020, "DA"),
    ("StudyTime", 0x00080030, "TM"),
    ("Modality", 0x00080060, "CS"),
    ("InstitutionName", 0x00080080, "LO"),
    ("StationName", 0x00081010, "SH"),
    ("SeriesDescription", 0x0008103E, "LO"),
    ("ContrastBolusAgent", 0x00180010, "LO"),
    ("SequenceName", 0x00180024, "SH"),
    ("RepetitionTime", 0x00180080, "DS"),
    ("EchoTime", 0x00180081, "DS"),
    ("InversionTime", 0x00180082, "DS"),
    ("EchoNumbers", 0x00180086, "IS"),
    ("ProtocolName", 0x00181030, "LO"),
    ("TriggerTime", 0x00181060, "DS"),
    ("SequenceOfUltrasoundRegions", 0x00186011, "SQ"),
    ("ContributingEquipmentSequence", 0x0018A001, "SQ"),
    ("DiffusionBValue", 0x00189087, "FD"),
    ("StudyInstanceUID", 0x0020000D, "UI"),
    ("SeriesInstanceUID", 0x0020000E, "UI"),
    ("SeriesNumber", 0x00200011, "IS"),
    ("AcquisitionNumber", 0x00200012, "IS"),
    ("InstanceNumber", 0x00200013, "IS"),
    ("ImagePositionPatient", 0x00200032, "DS"),
    ("ImageOrientationPatient", 0x00200037, "DS"),
    ("FrameOfReferenceUID", 0x00200052, "UI"),
    ("TemporalPositionIdentifier", 0x00200100, "IS"),
    ("SamplesPerPixel", 0x00280002, "US"),
    ("PhotometricInterpretation", 0x00280004, "CS"),
    ("NumberOfFrames", 0x00280008, "IS"),
    ("Rows", 0x00280010, "US"),
    ("Columns", 0x00280011, "US"),
    ("PixelSpacing", 0x00280030, "DS"),
    ("BitsAllocated", 0x00280100, "US"),
    ("BitsStored", 0x00280101, "US"),
    ("HighBit", 0x00280102, "US"),
    ("PixelRepresentation", 0x00280103, "US"),
    ("BurnedInAnnotation", 0x00280301, "CS"),
    ("RescaleIntercept", 0x00281052, "DS"),
    ("RescaleSlope", 0x00281053, "DS"),
    ("ModalityLUTSequence", 0x00283000, "SQ"),
    ("ReferencedFrameOfReferenceSequence", 0x30060010, "SQ"),
)
UIDS = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
DESCRIPTIONS = ("SeriesDescription", "ProtocolName", "SequenceName")
SPLIT_BY = (
    "EchoTime", "EchoNumbers", "ImageType", "AcquisitionNumber", "TemporalPositionIdentifier",
    "DiffusionBValue", "TriggerTime",
)  # fmt: skip
NO_CONTRAST = ("", "no", "none", "n", "0", "without")


@dataclass(frozen=True, slots=True)
class Header:
    """One DICOM file's header; identifying values stay inside ingest and are never written."""

    source: Source
    offset: int  # of the first byte after the header
    transfer_syntax: str
    sop_class: str
    sop_instance: str
    modality: str
    image_type: tuple[str, ...]
    study: str
    study_time: str  # date and time; orders sessions, is never written
    series: str
    series_number: str
    frame_of_reference: str
    equipment: str
    description: str
    synthetic_marks: tuple[str, ...]  # empty: nothing says that it is synthetic
    burned_in: bool
    timing: SequenceTiming
    split_by: tuple[tuple[str, str], ...]  # what may distinguish volumes in one series
    instance: int
    frames: int
    rows: int
    columns: int
    samples: int
    bits: int
    bits_stored: int
    high_bit: int
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
        RejectionError: `corrupt` if it cannot be parsed as DICOM; else as `read_attributes`.
    """
    attributes = read_attributes(source, TAGS)
    try:
        header = header_from_attributes(source, attributes)
    except (ValueError, OverflowError):
        raise RejectionError("corrupt", "a number in the header cannot be read") from None
    return add_first_frame(header) if header.sop_class in ENHANCED else header


def add_first_frame(header: Header) -> Header:
    """Add to an enhanced object's header what its functional groups say about the first frame.

    A file of one frame is then a slice like any classic one; from a file of several frames only the
    timing is taken.
    """
    try:
        frame = parse_frames(read_functional_groups(header.source))[0]
    except RejectionError:
        raise
    except Exception as error:  # a hostile file may raise anything
        raise RejectionError("corrupt", f"the functional groups: {one_line_error(error)}") from None
    header = replace(
        header,
        timing=SequenceTiming(
            TR=header.timing.TR if frame.repetition_time is None else frame.repetition_time,
            TE=header.timing.TE if frame.echo_time is None else frame.echo_time,
            TI=header.timing.TI if frame.inversion_time is None else frame.inversion_time,
            contrast_agent=header.timing.contrast_agent,
        ),
    )
    return header if header.frames > 1 else header_of_single_frame(header, frame)


def header_of_single_frame(header: Header, frame: Frame) -> Header:
    """Return the header of an object of one frame as that of a classic slice."""
    of_frame = dict(frame.split_by)
    return replace(
        header,
        position=frame.position,
        orientation=frame.orientation,
        pixel_spacing=frame.pixel_spacing,
        slope=frame.slope,
        intercept=frame.intercept,
        split_by=tuple((name, of_frame.get(name) or value) for name, value in header.split_by),
    )


def header_from_attributes(source: Source, attributes: DicomAttributes) -> Header:
    """Fill a header from the allowed attributes and check that the numbers are finite.

    Raises:
        RejectionError: `corrupt` without a SOP Class UID, `unsupported-pixels` for a slope of 0.
    """
    if not attributes.text("SOPClassUID"):
        raise RejectionError("corrupt", "no SOP Class UID (0008,0016)")
    slope = attributes.number("RescaleSlope")
    if slope == 0.0:
        raise RejectionError("unsupported-pixels", "the rescale slope is 0")
    bits_stored = attributes.uint16("BitsStored")
    image_type = tuple(word.upper() for word in attributes.texts("ImageType"))
    return Header(
        source=source,
        offset=attributes.offset,
        transfer_syntax=attributes.transfer_syntax,
        sop_class=attributes.text("SOPClassUID"),
        sop_instance=attributes.text("SOPInstanceUID"),
        modality=attributes.text("Modality"),
        image_type=image_type,
        study=attributes.text("StudyInstanceUID"),
        study_time=f"{attributes.text('StudyDate')} {attributes.text('StudyTime')}",
        series=attributes.text("SeriesInstanceUID"),
        series_number=attributes.text("SeriesNumber"),
        frame_of_reference=attributes.text("FrameOfReferenceUID"),
        equipment="|".join(attributes.text(name) for name in ("InstitutionName", "StationName")),
        description="\n".join(attributes.text(name) for name in DESCRIPTIONS),
        synthetic_marks=dicom_marks(
            synthetic_data=attributes.text("SyntheticData"),
            image_type=image_type,
            equipment_codes=attributes.code_values("ContributingEquipmentSequence"),
            uids=map(attributes.text, UIDS),
        ),
        burned_in=attributes.text("BurnedInAnnotation") == "YES"
        or "SequenceOfUltrasoundRegions" in attributes,
        timing=SequenceTiming(
            TR=attributes.number("RepetitionTime"),
            TE=attributes.number("EchoTime"),
            TI=attributes.number("InversionTime"),
            contrast_agent=attributes.text("ContrastBolusAgent").lower() not in NO_CONTRAST,
        ),
        split_by=tuple((name, split_value(attributes, name)) for name in SPLIT_BY),
        instance=int(attributes.number("InstanceNumber") or 0),
        frames=int(attributes.number("NumberOfFrames") or 1),
        rows=attributes.uint16("Rows"),
        columns=attributes.uint16("Columns"),
        samples=attributes.uint16("SamplesPerPixel") or 1,
        bits=attributes.uint16("BitsAllocated"),
        bits_stored=bits_stored,
        high_bit=attributes.uint16("HighBit") if "HighBit" in attributes else bits_stored - 1,
        signed=attributes.uint16("PixelRepresentation") == 1,
        photometric=attributes.text("PhotometricInterpretation"),
        slope=1.0 if slope is None else slope,
        intercept=attributes.number("RescaleIntercept") or 0.0,
        has_lut="ModalityLUTSequence" in attributes,
        position=attributes.vector("ImagePositionPatient", 3),
        orientation=attributes.vector("ImageOrientationPatient", 6),
        pixel_spacing=attributes.vector("PixelSpacing", 2),
    )


def split_value(attributes: DicomAttributes, keyword: str) -> str:
    """Return a value as text that distinguishes it from other values."""
    return attributes.hex_digits(keyword) if TAGS.vrs[keyword] == "FD" else attributes.text(keyword)
