"""A file of a batch."""

from dataclasses import dataclass
from hashlib import sha256
from io import FileIO
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Source:
    """A file: where it lies, and its name relative to the batch (a secret: it carries names).

    The place is text, and the name its end from `root` characters on, unless `alias` says
    otherwise: a `Path` takes five times the memory, and a million names are not kept twice.
    """

    place: str
    alias: str = ""
    root: int = 0
    size: int = 0  # bytes, once it is sorted by kind

    @property
    def name(self) -> str:
        """Relative to the batch, or below the archive it came out of."""
        return self.alias or self.place[self.root :]

    @property
    def path(self) -> Path:
        """Where it lies."""
        return Path(self.place)

    def open(self) -> FileIO:
        """The file's bytes, unbuffered."""
        return FileIO(self.place)


def content_digest(source: Source) -> bytes:
    """SHA-256 of a file; of one that cannot be read, its name's."""
    try:
        return sha256(source.path.read_bytes()).digest()
    except OSError:
        return source.name.encode("utf-8", "surrogateescape")
