"""The elements of a DICOM header that are wanted, found by their tags (DICOM PS3.5, section 7).

Only what leaves no doubt is read here: a preamble, little endian, ascending tags, lengths that
fit. Whatever else a file holds is left to pydicom, which takes ten times as long.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from tasks.ingest.core.source_file import Source

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
BIG_ENDIAN, DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
ENCAPSULATED = ("1.2.840.10008.1.2.4.", "1.2.840.10008.1.2.5")
DEFLATED_TOO = ("1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205")
PIXELS = 0x7FE00000
META = {0x00020010: "TransferSyntaxUID"}
CHARACTER_SET = 0x00080005
NO_TEXT = ("US", "FD", "SQ")
ENCODINGS = {"": "ascii", "ISO_IR 6": "ascii", "ISO_IR 100": "latin-1", "ISO_IR 192": "utf-8"}

UNDEFINED = 0xFFFFFFFF
SHORT_VRS = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN",
     b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
)  # fmt: skip
LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)  # fmt: skip
START = 8192  # bytes that hold most headers
LONGEST = 2**20

explicit_start = struct.Struct("<HH2sH").unpack_from
implicit_start = struct.Struct("<HHL").unpack_from
long_length = struct.Struct("<L").unpack_from


class NeedsPydicomError(Exception):
    """Something that pydicom must decide."""


@dataclass(frozen=True)
class Elements:
    """Values by keyword: text as UTF-8, numbers as little-endian bytes, sequences as they are.

    `offset` is that of the first byte behind what was read: of the pixels, where nothing said to
    stop before.
    """

    values: dict[str, bytes]
    transfer_syntax: str
    offset: int


class Tags:
    """Which elements are wanted: keyword, tag and value representation of each, and where to stop.

    The standard's dictionary (PS3.6) would have to be imported with all of pydicom.
    """

    def __init__(self, *elements: tuple[str, int, str], stop: int = PIXELS) -> None:
        self.kinds = {keyword: kind for keyword, _, kind in elements}
        self.by_tag = {tag: keyword for keyword, tag, _ in elements}
        self.by_tag.setdefault(CHARACTER_SET, "SpecificCharacterSet")
        self.stop = stop


def read_elements(source: Source, tags: Tags) -> Elements | None:
    """The wanted elements of a file; None where pydicom must look at it."""
    size = START
    with source.open() as file:
        start = file.read(size)
        while True:
            try:
                return parse(start, tags)
            except struct.error:  # the header goes on behind what was read
                if len(start) < size or size > LONGEST:
                    return None
            except (NeedsPydicomError, RecursionError, UnicodeError):
                return None
            size *= 16
            start += file.read(size - len(start))


def parse(data: bytes, tags: Tags) -> Elements:
    """Walk over the elements of a file's first bytes.

    Raises:
        DoubtError: what is not plain DICOM.
        struct.error: where the bytes end too early.
    """
    if data[128:132] != b"DICM":
        raise NeedsPydicomError
    meta, at = iterate_elements(data, 132, META, 0x00030000, explicit=True)
    syntax = meta.get("TransferSyntaxUID", b"").decode("ascii").rstrip("\0 ")
    explicit = syntax == EXPLICIT or syntax.startswith(ENCAPSULATED)
    if not (explicit or syntax == IMPLICIT) or syntax in DEFLATED_TOO:
        raise NeedsPydicomError
    values, at = iterate_elements(data, at, tags.by_tag, tags.stop, explicit=explicit)
    for keyword, value in values.items():
        if not value.isascii() and tags.kinds.get(keyword) not in NO_TEXT:
            charset = values.get("SpecificCharacterSet", b"").decode("ascii").strip()
            if charset not in ENCODINGS:
                raise NeedsPydicomError
            values[keyword] = value.decode(ENCODINGS[charset]).encode()
    return Elements(values, syntax, at)


def iterate_elements(
    data: bytes, at: int, wanted: Mapping[int, str], stop: int, *, explicit: bool
) -> tuple[dict[str, bytes], int]:
    """Values of the wanted tags from position `at` to the tag `stop`, and the position of that."""
    values: dict[str, bytes] = {}
    before = -1
    while True:
        group, element, vr, length = explicit_start(data, at)
        tag = group << 16 | element
        if tag >= stop:
            if stop == PIXELS and group != PIXELS >> 16:  # nothing should lie behind the pixels
                raise NeedsPydicomError
            return values, at
        if tag <= before:
            raise NeedsPydicomError
        before = tag
        if explicit and vr in SHORT_VRS:
            start = at + 8
            at = start + length
        else:
            start, length = value_at(data, at, explicit=explicit)
            defined = length != UNDEFINED
            at = start + length if defined else after_items(data, start, explicit=explicit)
        if tag in wanted:
            values[wanted[tag]] = data[start:at]


def value_at(data: bytes, at: int, *, explicit: bool) -> tuple[int, int]:
    """Where the value of the element at `at` starts, and its length."""
    if not explicit:
        return at + 8, implicit_start(data, at)[2]
    _, _, vr, length = explicit_start(data, at)
    if vr in SHORT_VRS:
        return at + 8, length
    if vr not in LONG_VRS:
        raise NeedsPydicomError
    length = long_length(data, at + 8)[0]
    if length == UNDEFINED and vr != b"SQ":  # an unknown value of unknown length
        raise NeedsPydicomError
    return at + 12, length


def after_items(data: bytes, at: int, *, explicit: bool) -> int:
    """The position behind a sequence of undefined length whose first item is at `at`."""
    while True:
        group, element, length = implicit_start(data, at)
        at += 8
        if (group, element) == (0xFFFE, 0xE0DD):
            return at
        if (group, element) != (0xFFFE, 0xE000):
            raise NeedsPydicomError
        if length != UNDEFINED:
            at += length
            continue
        while implicit_start(data, at)[:2] != (0xFFFE, 0xE00D):
            start, length = value_at(data, at, explicit=explicit)
            if length == UNDEFINED:
                at = after_items(data, start, explicit=explicit)
            else:
                at = start + length
        at += 8
