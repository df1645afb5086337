"""Hold where a file of a batch lies, its name inside the batch, and its size."""

from dataclasses import dataclass
from hashlib import sha256
from io import FileIO
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Source:
    """One file of a batch; its name is a secret, because paths hold the names of patients.

    `location` is the path as text, since a `Path` takes five times the memory. The name inside the
    batch is the part of `location` from character `name_start` on, so a million names are not kept
    twice. `name_in_archive`, where given, is the name instead.
    """

    location: str
    name_in_archive: str = ""
    name_start: int = 0
    size: int = 0  # bytes, once the file's format is detected

    @property
    def name(self) -> str:
        """The path relative to the batch, or `ARCHIVE!/ENTRY` for a file of an archive."""
        return self.name_in_archive or self.location[self.name_start :]

    @property
    def path(self) -> Path:
        """The path on this machine."""
        return Path(self.location)

    def open(self) -> FileIO:
        """Open the file for reading bytes, unbuffered."""
        return FileIO(self.location)


def content_digest(source: Source) -> bytes:
    """Compute the SHA-256 of a file; of an unreadable one return its name as bytes."""
    try:
        return sha256(source.path.read_bytes()).digest()
    except OSError:
        return source.name.encode("utf-8", "surrogateescape")
