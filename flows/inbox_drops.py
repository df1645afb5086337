"""Find the drops of an inbox, and decide which of them are complete.

A drop is a folder, or a zip archive, directly in the inbox. It is complete when it holds the file
`.complete`, or when nothing in it has changed for a quiet period. The time of a change is the
kernel's (`st_ctime`): copying tools set the time of modification back, nobody sets this one. It is
compared with the time that the inbox's own file system gives to a new file, because a file server
has its own clock.
"""

import fcntl
import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.stage.errors import InputError

COMPLETE = ".complete"  # a drop that holds this file is complete; it is no part of the batch
# How copying tools name a file until it is whole.
UNFINISHED_ENDINGS = (".partial", ".part", ".filepart", ".crdownload", ".download", ".tmp")
# What file managers leave everywhere: no part of the content by which drops are compared.
LEFT_BY_FILE_MANAGERS = frozenset({".DS_Store", "Thumbs.db", "desktop.ini", COMPLETE})
DVCIGNORE = ".dvcignore"
READ_BYTES = 2**20


class BadDropError(Exception):
    """A drop that can never become a batch; the message is the reason, without any name."""


@dataclass(frozen=True)
class DropFile:
    """A regular file of a drop: its path in the drop, its size, and when it last changed."""

    path: str
    bytes: int
    changed: float


@dataclass(frozen=True)
class Drop:
    """A drop: its name as the file system gives it, its folder or archive, and its files.

    `waits_for` is empty when the drop is complete, `fault` when it may become a batch.
    """

    name: str
    path: Path
    files: tuple[DropFile, ...]
    waits_for: str = ""
    fault: str = ""

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(file.bytes for file in self.files)


def find_drops(inbox: Path, quiet_seconds: float) -> list[Drop]:
    """Examine every drop of an inbox, in the order of their names.

    Names that begin with a dot, and those that copying tools give to unfinished files, are passed
    over: `.NAME` may be written and then renamed to `NAME`.

    Raises:
        InputError: the inbox cannot be read or written.
    """
    now = file_system_time(inbox)
    names = sorted(
        name
        for name in os.listdir(inbox)  # noqa: PTH208 - names that are no UTF-8 stay as they are
        if not name.startswith(".") and not name.lower().endswith(UNFINISHED_ENDINGS)
    )
    drops = (examine_drop(inbox / name, now, quiet_seconds) for name in names)
    return [drop for drop in drops if drop is not None]


def file_system_time(inbox: Path) -> float:
    """Return the time that the inbox's file system gives to a file that is written now.

    Raises:
        InputError: the inbox cannot be written.
    """
    try:
        inbox.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=inbox, prefix=".time-") as probe:
            return os.fstat(probe.fileno()).st_ctime
    except OSError as error:
        raise InputError(
            f"the inbox {inbox} cannot be written ({os.strerror(error.errno or 0)}), but drops"
            " are moved out of it; make it writable, or name another with --inbox"
        ) from None


def examine_drop(path: Path, now: float, quiet_seconds: float) -> Drop | None:
    """Examine one entry of the inbox; None when it has gone meanwhile.

    Args:
        path: The entry.
        now: The file system's time, in seconds since 1970.
        quiet_seconds: How long nothing may have changed.
    """
    try:
        top = path.lstat()
        found = list(list_entries(path, top))
    except FileNotFoundError:
        return None
    except PermissionError:
        return Drop(path.name, path, (), fault="a folder in it may not be read")
    except OSError as error:
        return Drop(path.name, path, (), waits_for=f"it cannot be read now ({os_error(error)})")
    files = tuple(
        DropFile(os.path.relpath(entry, path) if entry != str(path) else "", s.st_size, s.st_ctime)
        for entry, s in found
        if stat.S_ISREG(s.st_mode)
    )
    newest = max(s.st_ctime for _, s in found)
    marked = any(file.path == COMPLETE for file in files)
    waits_for = ""
    if not marked:
        if (age := now - newest) < quiet_seconds:
            waits_for = (
                f"it changed {max(age, 0):.0f} s ago; it is complete after {quiet_seconds:.0f} s"
                f" without a change, or with a file {COMPLETE} in it"
            )
        elif any(file.path.lower().endswith(UNFINISHED_ENDINGS) for file in files):
            waits_for = (
                "a file in it is named as copying tools name unfinished files"
                f" ({', '.join(UNFINISHED_ENDINGS)}); finish the copy, remove that file, or put a"
                f" file {COMPLETE} beside it"
            )
    if not waits_for and any(is_open_for_writing(path / file.path) for file in files):
        waits_for = "a program still writes a file in it"
    fault = "" if waits_for else find_fault(path, found)
    return Drop(path.name, path, files, waits_for, fault)


def os_error(error: OSError) -> str:
    """Say what the system reported, without the path, which may name a patient."""
    if error.strerror:
        return error.strerror
    # Copying a folder collects errors of many files in one message.
    numbers = re.findall(r"\[Errno (\d+)\]", str(error))
    return os.strerror(int(numbers[0])) if numbers else type(error).__name__


def list_entries(path: Path, top: os.stat_result) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the drop and all below it with their status; no symbolic link is followed."""
    yield str(path), top
    folders = [str(path)] if stat.S_ISDIR(top.st_mode) else []
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                status = entry.stat(follow_symlinks=False)
                yield entry.path, status
                if stat.S_ISDIR(status.st_mode):
                    folders.append(entry.path)


def find_fault(path: Path, found: list[tuple[str, os.stat_result]]) -> str:
    """Return why a drop can never become a batch; "" where it may.

    Args:
        path: The drop.
        found: The drop and all below it with their status.
    """
    top = found[0][1].st_mode
    regular = {entry: s for entry, s in found if stat.S_ISREG(s.st_mode)}
    links = sum(stat.S_ISLNK(s.st_mode) for _, s in found)
    folders = sum(stat.S_ISDIR(s.st_mode) for _, s in found)
    special = len(found) - len(regular) - links - folders
    unnamed = sum(not is_text(os.path.relpath(entry, path)) for entry in regular)
    content = [s for entry, s in regular.items() if Path(entry).name not in LEFT_BY_FILE_MANAGERS]
    faults = {
        f"it holds {links} symbolic links, which may lead anywhere; copy the files instead": links,
        f"it holds {special} pipes, sockets or devices; only files and folders are allowed": (
            special
        ),
        "it is a single file; put the files of one batch into a folder or a zip archive": (
            stat.S_ISREG(top) and path.suffix.lower() != ".zip"
        ),
        "it holds no file, or only empty ones": not any(s.st_size for s in content),
        f"it holds a file {DVCIGNORE}, with which DVC cannot version it; remove that file": (
            any(Path(entry).name == DVCIGNORE for entry in regular)
        ),
        f"the names of {unnamed} files are no UTF-8 text, which DVC cannot version; rename them"
        " (`convmv -f latin1 -t utf8`) and drop it again": unnamed,
    }
    return next((reason for reason, holds in faults.items() if holds), "")


def is_text(name: str) -> bool:
    """Check whether a name is UTF-8 text without control characters."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return not any(ord(character) < 32 or ord(character) == 127 for character in name)


def is_open_for_writing(path: Path) -> bool:
    """Check whether a program of this machine has a file open for writing.

    The kernel grants a read lease (`fcntl(2)`) only where none has. False where it cannot tell: on
    other systems, network file systems, or files of other users.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def content_sha256(folder: Path) -> str:
    """Compute a digest of all files of a folder, whatever their names and their order.

    What file managers leave is left out.

    Raises:
        BadDropError: a file cannot be read.
    """
    digests = []
    for file in content_files(folder):
        digest = hashlib.sha256()
        try:
            with file.open("rb") as content:
                while block := content.read(READ_BYTES):
                    digest.update(block)
        except PermissionError:
            raise BadDropError("a file in it may not be read; make it readable") from None
        digests.append(digest.hexdigest())
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


def holds_same(one: Path, other: Path) -> bool:
    """Check whether two folders or archives hold the same files; False where one is unreadable."""
    try:
        return content_sha256(one) == content_sha256(other)
    except (BadDropError, OSError):
        return False


def content_sizes(folder: Path) -> list[int]:
    """Return the sizes of all files of a folder in order; equal content has equal sizes."""
    return sorted(file.lstat().st_size for file in content_files(folder))


def content_files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder, or a file itself, without what file managers leave."""
    if folder.is_file():
        yield folder
        return
    for root, _, names in os.walk(folder):
        for name in names:
            if name not in LEFT_BY_FILE_MANAGERS and not name.startswith("._"):
                yield Path(root, name)
