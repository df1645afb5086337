"""The wanted attributes of a DICOM file as text and numbers, by the quick way or by pydicom."""

import math
from typing import Any

from tasks.ingest.core.error_messages import one_line_error
from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.core.source_file import Source
from tasks.ingest.dicom.fast_parser import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    NO_TEXT,
    Elements,
    Tags,
    read_elements,
)

UNCOMPRESSED = {  # by (implicit VR, little endian), for files that do not declare a syntax
    (True, True): IMPLICIT, (False, True): EXPLICIT, (False, False): BIG_ENDIAN,
}  # fmt: skip
LARGEST_VALUE = 2**16  # bytes; larger ones are skipped
SIZES = {"US": 2, "FD": 8}  # bytes
FRAMES_SEQUENCE = "ReferencedFrameOfReferenceSequence"


class DicomAttributes:
    """Attributes by keyword; absent and empty are the same."""

    def __init__(self, elements: Elements, *, quick: bool) -> None:
        self._values = elements.values
        self.transfer_syntax = elements.transfer_syntax
        self.offset = elements.offset
        self.quick = quick

    def __contains__(self, keyword: str) -> bool:
        return keyword in self._values

    def text(self, keyword: str) -> str:
        """The values as one text."""
        value = self._values.get(keyword, b"")
        if b"\\" in value:
            return "\\".join(self.words(keyword))
        return value.decode().rstrip("\0 ").strip()

    def words(self, keyword: str) -> list[str]:
        """The values as text."""
        text = self._values.get(keyword, b"").decode().rstrip("\0 ")
        return [word.strip() for word in text.split("\\")] if text else []

    def numbers(self, keyword: str) -> tuple[float, ...]:
        """The values as finite numbers."""
        values = tuple(float(word) for word in self.words(keyword) if word)
        if not all(map(math.isfinite, values)):
            raise RejectionError("geometry", f"{keyword} is not finite")
        return values

    def number(self, keyword: str) -> float | None:
        """The only or first value as a finite number; None where absent."""
        return next(iter(self.numbers(keyword)), None)

    def vector(self, keyword: str, count: int) -> tuple[float, ...]:
        """So many values, or none where absent."""
        values = self.numbers(keyword)
        if values and len(values) != count:
            raise RejectionError("geometry", f"{keyword} has {len(values)} values, not {count}")
        return values

    def short(self, keyword: str) -> int:
        """An unsigned 16-bit value; 0 where absent."""
        value = self._values.get(keyword, b"")
        if len(value) not in (0, 2):
            raise RejectionError("corrupt", f"{keyword} has {len(value)} bytes, not 2")
        return int.from_bytes(value, "little")

    def bits(self, keyword: str) -> str:
        """A binary value as hexadecimal digits, to tell values apart."""
        return self._values.get(keyword, b"").hex()


def read_attributes(source: Source, tags: Tags) -> DicomAttributes:
    """Read the wanted attributes.

    Raises:
        RefusalError: `codec` where the header itself is compressed, `corrupt` where it is broken.
    """
    try:
        elements = read_elements(source, tags)
        if elements is not None and FRAMES_SEQUENCE not in elements.values:
            return DicomAttributes(elements, quick=True)
        return DicomAttributes(by_pydicom(source, tags), quick=False)
    except (RejectionError, FileNotFoundError):
        raise
    except Exception as error:  # a hostile header may raise anything; its text may hold names
        raise RejectionError(
            "corrupt", f"the header cannot be parsed: {one_line_error(error)}"
        ) from None


def by_pydicom(source: Source, tags: Tags) -> Elements:
    """Big endian, bare files, rare character sets, broken order: all that pydicom can read."""
    import pydicom

    with source.path.open("rb") as file:
        if DEFLATED.encode() in file.read(4096):  # a few bytes may inflate to all memory
            raise RejectionError("codec", "a deflated transfer syntax")
        file.seek(0)
        dataset = pydicom.dcmread(
            file, stop_before_pixels=True, defer_size=LARGEST_VALUE, force=True
        )
        offset = file.tell()
    declared = str(dataset.file_meta.get("TransferSyntaxUID", ""))
    values = {
        keyword: as_bytes(dataset, tag, tags.kinds[keyword])
        for tag, keyword in tags.by_tag.items()
        if keyword in tags.kinds and tag in dataset
    }
    if FRAMES_SEQUENCE in values and not values.get("FrameOfReferenceUID"):
        values["FrameOfReferenceUID"] = referenced_frame(dataset)
    syntax = declared or UNCOMPRESSED[dataset.original_encoding]
    return Elements(values, syntax, offset)


def as_bytes(dataset: Any, tag: int, kind: str) -> bytes:
    """A value as `Elements` holds it: UTF-8, or little endian."""
    from pydicom.dataelem import RawDataElement
    from pydicom.multival import MultiValue

    element = dataset.get_item(tag)
    if isinstance(element, RawDataElement):
        raw = element.value or b""
        if kind not in NO_TEXT and raw.isascii():
            return bytes(raw)
        if len(raw) == SIZES.get(kind):
            return bytes(raw if element.is_little_endian else raw[::-1])
    if kind == "SQ":
        return b""
    value = dataset[tag].value
    if kind == "US":
        return int(value or 0).to_bytes(2, "little")
    many = isinstance(value, list | tuple | MultiValue)
    words = [str(one).strip() for one in (value if many else [value]) if one is not None]
    return "\\".join(words).encode()


def referenced_frame(dataset: Any) -> bytes:
    """The frame of reference that an RT structure set names inside a sequence.

    Of several it is the one in which all regions are drawn; else their names together, which is
    the frame of no image.
    """
    items = dataset.get("ReferencedFrameOfReferenceSequence") or []
    frames = {str(item.get("FrameOfReferenceUID", "")) for item in items} - {""}
    if len(frames) > 1:
        regions = dataset.get("StructureSetROISequence") or []
        drawn = {str(item.get("ReferencedFrameOfReferenceUID", "")) for item in regions} - {""}
        frames = drawn or frames
    return "/".join(sorted(frames)).encode()
