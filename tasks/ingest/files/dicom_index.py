"""The DICOM files of a batch set down on disk: a million of them cost the memory of a few.

A file is a record of the roll; whoever has to name files holds where their records stand.
"""

from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tasks.ingest.core.source_file import Source

END = "\0"  # no file's name holds it
FIELDS = 4  # place, alias, root, size
BLOCK = 1 << 16


class Entry(NamedTuple):
    """A file and the bytes of the roll that its record takes."""

    source: Source
    start: int
    end: int


@dataclass(slots=True)
class Entries:
    """Some files of a roll: bounds of runs of records, and the sum of the files' sizes."""

    bounds: "array[int]" = field(default_factory=lambda: array("Q"))
    size: int = 0

    def add(self, start: int, end: int, size: int) -> None:
        """Add a record, or a run of them; one behind the last makes a run with it."""
        if self.bounds and self.bounds[-1] == start:
            self.bounds[-1] = end
        else:
            self.bounds.extend((start, end))
        self.size += size

    def update(self, others: "Entries") -> None:
        """Add other files."""
        self.bounds.extend(others.bounds)
        self.size += others.size

    def __bool__(self) -> bool:
        return bool(self.bounds)


@dataclass(frozen=True)
class DicomFileIndex:
    """The roll; a worker reads it by itself, so only the path goes to it."""

    path: Path

    @contextmanager
    def filled(self) -> Iterator[Callable[[Source], None]]:
        """Give a function that sets a file down."""
        with self.path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:

            def add(source: Source) -> None:
                file.write(
                    f"{source.place}{END}{source.alias}{END}{source.root}{END}{source.size}{END}"
                )

            yield add

    def __iter__(self) -> Iterator[Entry]:
        """All files in the order in which they were set down."""
        start, rest = 0, b""
        with self.path.open("rb") as file:
            while block := file.read(BLOCK):
                *words, rest = (rest + block).split(END.encode())
                whole = len(words) - len(words) % FIELDS
                rest = END.encode().join([*words[whole:], rest])
                for at in range(0, whole, FIELDS):
                    record = words[at : at + FIELDS]
                    end = start + sum(map(len, record)) + FIELDS
                    yield Entry(as_source(record), start, end)
                    start = end

    def read(self, entries: Entries) -> list[Source]:
        """The files of some entries."""
        sources: list[Source] = []
        with self.path.open("rb") as file:
            for start, end in zip(entries.bounds[::2], entries.bounds[1::2], strict=True):
                file.seek(start)
                words = file.read(end - start).split(END.encode())[:-1]
                records = zip(*[iter(words)] * FIELDS, strict=True)
                sources += [as_source(record) for record in records]
        return sources


def as_source(record: "list[bytes] | tuple[bytes, ...]") -> Source:
    """A record's words as a file."""
    place, alias, root, size = (word.decode("utf-8", "surrogateescape") for word in record)
    return Source(place, alias, int(root), int(size))
