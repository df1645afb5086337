"""Unpack zip archives into `.private/` for as long as the stage runs.

Entries are stored under numbers, not under their own names, so no name can lead out of the folder.
The unpacked bytes are counted, so that a zip bomb cannot fill the disk.
"""

import errno
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from tasks.ingest.core.error_messages import one_line_error
from tasks.ingest.core.rejection import Rejection, RejectionError
from tasks.ingest.core.source_file import Source
from tasks.ingest.privacy.private_files import make_private_folder
from tasks.stage.stage_io import discard

MAX_ENTRIES = 100_000
BLOCK_BYTES = 1 << 20


@contextmanager
def scratch_folder(batch: str) -> Iterator[Path]:
    """Make an empty folder in `.private/`, yield it, and delete it at the end."""
    folder = make_private_folder() / f"unpacked-{batch}"
    discard(folder)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        discard(folder)


def unpack_archive(
    archive: Source, folder: Path, max_bytes: int
) -> tuple[list[Source], list[Rejection]]:
    """Write an archive's files into `folder`, which is made; each ends in one of the two lists.

    A file is named `ARCHIVE!/ENTRY`. The rejection of one entry does not affect the others.
    """
    sources: list[Source] = []
    rejected: list[Rejection] = []
    folder.mkdir()
    try:
        with zipfile.ZipFile(archive.path) as zip_file:
            named_entries = [(entry, entry_path(entry)) for entry in zip_file.infolist()]
            entries = [(entry, name) for entry, name in named_entries if not name.endswith("/")]
            if len(entries) > MAX_ENTRIES:
                raise RejectionError("archive-unsafe", f"more than {MAX_ENTRIES} entries")
            budget = max_bytes
            for number, (entry, name) in enumerate(entries):
                source = Source(str(folder / f"{number:06d}"), f"{archive.name}!/{name}")
                try:
                    check_entry(entry, name)
                    budget -= decompress_entry(zip_file, entry, source.path, budget)
                except RejectionError as rejection:
                    rejected.append(Rejection((source,), rejection.code, rejection.reason))
                else:
                    sources.append(source)
    except RejectionError as rejection:
        rejected.append(Rejection((archive,), rejection.code, rejection.reason))
    except Exception as error:  # a broken list of entries may raise anything
        if is_full_disk(error):
            raise
        reason = f"the archive cannot be read: {one_line_error(error)}"
        rejected.append(Rejection((archive,), "corrupt", reason))
    return sources, rejected


def entry_path(entry: zipfile.ZipInfo) -> str:
    """Return an entry's name; archives made on Windows separate folders by backslashes."""
    return entry.filename.replace("\\", "/")


def check_entry(entry: zipfile.ZipInfo, name: str) -> None:
    """Reject an entry that an archive of images has no reason to hold.

    Raises:
        RejectionError: `archive-unsafe`.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or ":" in name.partition("/")[0]:
        raise RejectionError("archive-unsafe", "the entry's name leads out of the archive")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise RejectionError("archive-unsafe", "the entry is a link")
    if entry.flag_bits & 1:
        raise RejectionError("archive-unsafe", "the entry is encrypted")
    if path.suffix.lower() == ".zip":
        raise RejectionError("archive-unsafe", "an archive inside the archive")


def decompress_entry(
    zip_file: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, budget: int
) -> int:
    """Write one entry and return its size in bytes.

    Raises:
        RejectionError: `archive-unsafe` where the size exceeds the budget, whatever size the entry
            declares; `corrupt` where it cannot be decompressed.
    """
    size = 0
    try:
        with zip_file.open(entry) as packed, target.open("wb") as file:
            while block := packed.read(BLOCK_BYTES):
                size += len(block)
                if size > budget:
                    raise RejectionError("archive-unsafe", "the archive inflates beyond its limit")
                file.write(block)
    except Exception as error:
        target.unlink(missing_ok=True)
        if isinstance(error, RejectionError) or is_full_disk(error):
            raise
        raise RejectionError(
            "corrupt", f"the entry cannot be inflated: {one_line_error(error)}"
        ) from None
    return size


def is_full_disk(error: Exception) -> bool:
    """Check whether an error says that the disk is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
