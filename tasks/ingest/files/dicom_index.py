"""Keep the list of a batch's DICOM files on disk, so that memory does not grow with their number.

The index is one text file with a record for each DICOM file. Callers hold byte ranges of records
instead of file names.
"""

from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tasks.ingest.core.source_file import Source

SEPARATOR = "\0"  # no file name holds it
FIELDS_PER_RECORD = 4  # location, name in archive, start of the name, size
BLOCK_BYTES = 1 << 16


class IndexRecord(NamedTuple):
    """A file, and the byte range of its record in the index."""

    source: Source
    start: int
    end: int


@dataclass(slots=True)
class RecordRanges:
    """Byte ranges of records of the index, and the summed size of their files in bytes.

    `bounds` holds start and end of each range in turn.
    """

    bounds: "array[int]" = field(default_factory=lambda: array("Q"))
    size: int = 0

    def add(self, start: int, end: int, size: int) -> None:
        """Add a record, or a run of adjacent records; extend the last range where it ends there."""
        if self.bounds and self.bounds[-1] == start:
            self.bounds[-1] = end
        else:
            self.bounds.extend((start, end))
        self.size += size

    def update(self, others: "RecordRanges") -> None:
        """Add the ranges of other files."""
        self.bounds.extend(others.bounds)
        self.size += others.size

    def __bool__(self) -> bool:
        return bool(self.bounds)


@dataclass(frozen=True)
class DicomFileIndex:
    """The index by its path; each worker reads the file itself, so only the path is sent to it."""

    path: Path

    @contextmanager
    def open_for_writing(self) -> Iterator[Callable[[Source], None]]:
        """Empty the index and yield a function that appends a file."""
        with self.path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:

            def add(source: Source) -> None:
                fields = (source.location, source.name_in_archive, source.name_start, source.size)
                file.write("".join(f"{field}{SEPARATOR}" for field in fields))

            yield add

    def __iter__(self) -> Iterator[IndexRecord]:
        """Yield all files in the order in which they were added."""
        start, rest = 0, b""
        with self.path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                *fields, rest = (rest + block).split(SEPARATOR.encode())
                whole = len(fields) - len(fields) % FIELDS_PER_RECORD
                rest = SEPARATOR.encode().join([*fields[whole:], rest])
                for first in range(0, whole, FIELDS_PER_RECORD):
                    record = fields[first : first + FIELDS_PER_RECORD]
                    end = start + sum(map(len, record)) + FIELDS_PER_RECORD
                    yield IndexRecord(decode_record(record), start, end)
                    start = end

    def read_sources(self, ranges: RecordRanges) -> list[Source]:
        """Read the files of some byte ranges."""
        sources: list[Source] = []
        with self.path.open("rb") as file:
            for start, end in zip(ranges.bounds[::2], ranges.bounds[1::2], strict=True):
                file.seek(start)
                fields = file.read(end - start).split(SEPARATOR.encode())[:-1]
                records = zip(*[iter(fields)] * FIELDS_PER_RECORD, strict=True)
                sources += [decode_record(record) for record in records]
        return sources


def decode_record(record: "list[bytes] | tuple[bytes, ...]") -> Source:
    """Decode the four fields of a record into a file."""
    location, name_in_archive, name_start, size = (
        word.decode("utf-8", "surrogateescape") for word in record
    )
    return Source(location, name_in_archive, int(name_start), int(size))
