"""Read the wanted attributes of a DICOM file, by the fast parser or by pydicom."""

import math
import re
from typing import Any

from tasks.ingest.core.error_messages import one_line_error
from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.core.source_file import Source
from tasks.ingest.dicom.fast_parser import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    NOT_TEXT,
    Elements,
    Tags,
    read_elements,
)

UNCOMPRESSED = {  # by (implicit VR, little endian), for files that do not declare a syntax
    (True, True): IMPLICIT, (False, True): EXPLICIT, (False, False): BIG_ENDIAN,
}  # fmt: skip
LARGEST_VALUE = 2**16  # bytes; larger ones are skipped
# A Code Value of 2 to 16 characters, explicit or implicit, inside the bytes of a sequence.
CODE_VALUE = re.compile(
    rb"\x08\x00\x00\x01(?:SH[\x02-\x10]\x00([!-~ ]{2,16})|[\x02-\x10]\x00\x00\x00([!-~ ]{2,16}))"
)
SIZES = {"US": 2, "FD": 8}  # bytes
EQUIPMENT_SEQUENCE = "ContributingEquipmentSequence"
FRAMES_SEQUENCE = "ReferencedFrameOfReferenceSequence"


class DicomAttributes:
    """Attributes by keyword; an absent and an empty attribute are the same.

    `offset` is the position of the first byte after the header; `parsed_fast` is whether the file
    was read without pydicom.
    """

    def __init__(self, elements: Elements, *, parsed_fast: bool) -> None:
        self._values = elements.values
        self.transfer_syntax = elements.transfer_syntax
        self.offset = elements.offset
        self.parsed_fast = parsed_fast

    def __contains__(self, keyword: str) -> bool:
        return keyword in self._values

    def text(self, keyword: str) -> str:
        """Return the values as one text, separated by backslashes; "" if absent."""
        value = self._values.get(keyword, b"")
        if b"\\" in value:
            return "\\".join(self.texts(keyword))
        return value.decode().rstrip("\0 ").strip()

    def texts(self, keyword: str) -> list[str]:
        """Return the values as texts."""
        text = self._values.get(keyword, b"").decode().rstrip("\0 ")
        return [word.strip() for word in text.split("\\")] if text else []

    def numbers(self, keyword: str) -> tuple[float, ...]:
        """Return the values as numbers.

        Raises:
            RejectionError: `geometry` for a number that is not finite.
        """
        values = tuple(float(word) for word in self.texts(keyword) if word)
        if not all(map(math.isfinite, values)):
            raise RejectionError("geometry", f"{keyword} is not finite")
        return values

    def number(self, keyword: str) -> float | None:
        """Return the first value as a finite number; None if absent."""
        return next(iter(self.numbers(keyword)), None)

    def vector(self, keyword: str, count: int) -> tuple[float, ...]:
        """Return `count` finite numbers; an empty tuple if absent.

        Raises:
            RejectionError: `geometry` for another count.
        """
        values = self.numbers(keyword)
        if values and len(values) != count:
            raise RejectionError("geometry", f"{keyword} has {len(values)} values, not {count}")
        return values

    def uint16(self, keyword: str) -> int:
        """Return an unsigned 16-bit value; 0 if absent."""
        value = self._values.get(keyword, b"")
        if len(value) not in (0, 2):
            raise RejectionError("corrupt", f"{keyword} has {len(value)} bytes, not 2")
        return int.from_bytes(value, "little")

    def code_values(self, keyword: str) -> list[str]:
        """Return the Code Values (0008,0100) anywhere inside a sequence."""
        if not self.parsed_fast:
            return self.texts(keyword)
        found = CODE_VALUE.findall(self._values.get(keyword, b""))
        return [value.decode().rstrip("\0 ") for pair in found for value in pair if value]

    def hex_digits(self, keyword: str) -> str:
        """Return a binary value as hexadecimal digits, to compare it with others."""
        return self._values.get(keyword, b"").hex()


def read_attributes(source: Source, tags: Tags) -> DicomAttributes:
    """Read the wanted attributes of a file.

    Raises:
        RejectionError: `codec` if the header itself is compressed, `corrupt` if it is broken.
    """
    try:
        elements = read_elements(source, tags)
        if elements is not None and FRAMES_SEQUENCE not in elements.values:
            return DicomAttributes(elements, parsed_fast=True)
        return DicomAttributes(read_by_pydicom(source, tags), parsed_fast=False)
    except (RejectionError, FileNotFoundError):
        raise
    except Exception as error:  # a hostile header may raise anything; its text may hold names
        raise RejectionError(
            "corrupt", f"the header cannot be parsed: {one_line_error(error)}"
        ) from None


def read_by_pydicom(source: Source, tags: Tags) -> Elements:
    """Read what only pydicom can: big endian, no preamble, rare character sets, wrong tag order."""
    import pydicom

    with source.path.open("rb") as file:
        if DEFLATED.encode() in file.read(4096):  # a few bytes may inflate to fill the memory
            raise RejectionError("codec", "a deflated transfer syntax")
        file.seek(0)
        dataset = pydicom.dcmread(
            file, stop_before_pixels=True, defer_size=LARGEST_VALUE, force=True
        )
        offset = file.tell()
    declared = str(dataset.file_meta.get("TransferSyntaxUID", ""))
    values = {
        keyword: value_as_bytes(dataset, tag, tags.vrs[keyword])
        for tag, keyword in tags.keywords.items()
        if keyword in tags.vrs and tag in dataset
    }
    if FRAMES_SEQUENCE in values and not values.get("FrameOfReferenceUID"):
        values["FrameOfReferenceUID"] = frame_of_reference_in_sequence(dataset)
    if EQUIPMENT_SEQUENCE in values:
        values[EQUIPMENT_SEQUENCE] = "\\".join(codes_in_sequence(dataset)).encode()
    syntax = declared or UNCOMPRESSED[dataset.original_encoding]
    return Elements(values, syntax, offset)


def value_as_bytes(dataset: Any, tag: int, vr: str) -> bytes:
    """Return a value as `Elements` holds it: UTF-8, or little endian."""
    from pydicom.dataelem import RawDataElement
    from pydicom.multival import MultiValue

    element = dataset.get_item(tag)
    if isinstance(element, RawDataElement):
        raw = element.value or b""
        if vr not in NOT_TEXT and raw.isascii():
            return bytes(raw)
        if len(raw) == SIZES.get(vr):
            return bytes(raw if element.is_little_endian else raw[::-1])
    if vr == "SQ":
        return b""
    value = dataset[tag].value
    if vr == "US":
        return int(value or 0).to_bytes(2, "little")
    many = isinstance(value, list | tuple | MultiValue)
    words = [str(one).strip() for one in (value if many else [value]) if one is not None]
    return "\\".join(words).encode()


def codes_in_sequence(dataset: Any) -> list[str]:
    """Return the Code Values anywhere inside the sequence of contributing equipment."""
    items = dataset.get(EQUIPMENT_SEQUENCE) or []
    return [
        str(element.value)
        for item in items
        for element in item.iterall()
        if element.keyword == "CodeValue"
    ]


def frame_of_reference_in_sequence(dataset: Any) -> bytes:
    """Return the frame of reference that an RT structure set names inside a sequence.

    If there are several, it is the one in which all regions are drawn; else all of them joined by
    slashes, which is the frame of no image.
    """
    items = dataset.get("ReferencedFrameOfReferenceSequence") or []
    frames = {str(item.get("FrameOfReferenceUID", "")) for item in items} - {""}
    if len(frames) > 1:
        regions = dataset.get("StructureSetROISequence") or []
        drawn = {str(item.get("ReferencedFrameOfReferenceUID", "")) for item in regions} - {""}
        frames = drawn or frames
    return "/".join(sorted(frames)).encode()
