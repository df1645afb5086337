"""Find the wanted elements of a DICOM header by their tags (DICOM PS3.5, section 7).

Only unambiguous files are read here: a preamble, little endian, ascending tags, lengths that fit.
All other files are left to pydicom, which takes ten times as long.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from tasks.ingest.core.source_file import Source

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
BIG_ENDIAN, DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
ENCAPSULATED = ("1.2.840.10008.1.2.4.", "1.2.840.10008.1.2.5")
JPIP_DEFLATED = ("1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205")
PIXEL_DATA = 0x7FE00000
META = {0x00020010: "TransferSyntaxUID"}
CHARACTER_SET = 0x00080005
NOT_TEXT = ("US", "FD", "SQ")
ENCODINGS = {"": "ascii", "ISO_IR 6": "ascii", "ISO_IR 100": "latin-1", "ISO_IR 192": "utf-8"}

UNDEFINED = 0xFFFFFFFF
SHORT_VRS = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN",
     b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
)  # fmt: skip
LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)  # fmt: skip
FIRST_READ = 8192  # bytes that hold most headers
LONGEST_HEADER = 2**20

explicit_start = struct.Struct("<HH2sH").unpack_from
implicit_start = struct.Struct("<HHL").unpack_from
long_length = struct.Struct("<L").unpack_from


class NeedsPydicomError(Exception):
    """A header that only pydicom can read."""


@dataclass(frozen=True)
class Elements:
    """Values by keyword: text as UTF-8, numbers as little-endian bytes, sequences as they are.

    `offset` is the position of the first byte behind what was read. These are the pixels if no tag
    to stop at was given.
    """

    values: dict[str, bytes]
    transfer_syntax: str
    offset: int


class Tags:
    """The wanted elements (keyword, tag and value representation of each) and the tag to stop at.

    The standard's dictionary (PS3.6) is not used, because it comes with an import of all of
    pydicom.
    """

    def __init__(self, *elements: tuple[str, int, str], stop: int = PIXEL_DATA) -> None:
        self.vrs = {keyword: vr for keyword, _, vr in elements}
        self.keywords = {tag: keyword for keyword, tag, _ in elements}
        self.keywords.setdefault(CHARACTER_SET, "SpecificCharacterSet")
        self.stop = stop


def read_elements(source: Source, tags: Tags) -> Elements | None:
    """Read the wanted elements of a file; return None if pydicom is needed."""
    size = FIRST_READ
    with source.open() as file:
        start = file.read(size)
        while True:
            try:
                return parse_header(start, tags)
            except struct.error:  # the header is longer than what was read
                if len(start) < size or size > LONGEST_HEADER:
                    return None
            except (NeedsPydicomError, RecursionError, UnicodeError):
                return None
            size *= 16
            start += file.read(size - len(start))


def parse_header(data: bytes, tags: Tags) -> Elements:
    """Parse the elements in a file's first bytes.

    Raises:
        NeedsPydicomError: what is not plain DICOM.
        struct.error: if the bytes end too early.
    """
    if data[128:132] != b"DICM":
        raise NeedsPydicomError
    meta, at = parse_elements(data, 132, META, 0x00030000, explicit=True)
    syntax = meta.get("TransferSyntaxUID", b"").decode("ascii").rstrip("\0 ")
    explicit = syntax == EXPLICIT or syntax.startswith(ENCAPSULATED)
    if not (explicit or syntax == IMPLICIT) or syntax in JPIP_DEFLATED:
        raise NeedsPydicomError
    values, at = parse_elements(data, at, tags.keywords, tags.stop, explicit=explicit)
    for keyword, value in values.items():
        if not value.isascii() and tags.vrs.get(keyword) not in NOT_TEXT:
            charset = values.get("SpecificCharacterSet", b"").decode("ascii").strip()
            if charset not in ENCODINGS:
                raise NeedsPydicomError
            values[keyword] = value.decode(ENCODINGS[charset]).encode()
    return Elements(values, syntax, at)


def parse_elements(
    data: bytes, at: int, wanted: Mapping[int, str], stop: int, *, explicit: bool
) -> tuple[dict[str, bytes], int]:
    """Return the values of the wanted tags from `at` to the tag `stop`, and where `stop` is."""
    values: dict[str, bytes] = {}
    before = -1
    while True:
        group, element, vr, length = explicit_start(data, at)
        tag = group << 16 | element
        if tag >= stop:
            if stop == PIXEL_DATA and group != PIXEL_DATA >> 16:  # a tag behind the pixels
                raise NeedsPydicomError
            return values, at
        if tag <= before:
            raise NeedsPydicomError
        before = tag
        if explicit and vr in SHORT_VRS:
            start = at + 8
            at = start + length
        else:
            start, length = value_position(data, at, explicit=explicit)
            defined = length != UNDEFINED
            at = start + length if defined else skip_items(data, start, explicit=explicit)
        if tag in wanted:
            values[wanted[tag]] = data[start:at]


def value_position(data: bytes, at: int, *, explicit: bool) -> tuple[int, int]:
    """Return where the value of the element at `at` starts, and its length."""
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


def skip_items(data: bytes, at: int, *, explicit: bool) -> int:
    """Return the position behind a sequence of undefined length whose first item is at `at`."""
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
            start, length = value_position(data, at, explicit=explicit)
            if length == UNDEFINED:
                at = skip_items(data, start, explicit=explicit)
            else:
                at = start + length
        at += 8
