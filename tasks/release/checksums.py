"""Write and verify `SHA256SUMS` of a release, in the format of `sha256sum --check`."""

import hashlib
import re
from pathlib import Path
from typing import Final

from tasks.stage.errors import InputError

SUMS: Final = "SHA256SUMS"
LINE: Final = re.compile(r"([0-9a-f]{64})  (.+)")
REMEDY: Final = "fetch the release again, and do not use this copy"


def write_checksums(folder: Path) -> None:
    """Write `SHA256SUMS` over every file of a folder."""
    lines = [f"{sha256_of(folder / name)}  {name}\n" for name in list_files(folder)]
    (folder / SUMS).write_text("".join(lines))


def verify_checksums(folder: Path) -> str:
    """Verify that a folder holds exactly the files of its `SHA256SUMS`; return that file's digest.

    Raises:
        InputError: naming the first file that differs, is missing, or was added.
    """
    sums = folder / SUMS
    if not sums.is_file():
        raise InputError(f"{folder} has no {SUMS}: it is no whole release; {REMEDY}")
    expected: dict[str, str] = {}
    for number, line in enumerate(sums.read_text(errors="replace").splitlines(), 1):
        match = LINE.fullmatch(line)
        if match is None:
            raise InputError(f"{sums}: line {number} is no checksum; {REMEDY}")
        expected[match[2]] = match[1]
    present = set(list_files(folder))
    for name, problem in (
        *((name, "is missing") for name in sorted(set(expected) - present)),
        *((name, "is not of this release") for name in sorted(present - set(expected))),
    ):
        raise InputError(f"{folder}: {name} {problem}; {REMEDY}")
    for name in sorted(present):
        if sha256_of(folder / name) != expected[name]:
            raise InputError(f"{folder}: {name} was changed (its SHA-256 differs); {REMEDY}")
    return sha256_of(sums)


def list_files(folder: Path) -> list[str]:
    """List the files below a folder, but for `SHA256SUMS` at its root, in text order."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if name != SUMS)


def sha256_of(path: Path) -> str:
    """Hash a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
