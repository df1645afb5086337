"""List every file of a batch in a fixed order, and detect its format.

A batch may hold a million files, so the code that runs once a file avoids `pathlib`.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.core.source_file import Source

FileKind = Literal["dicom", "nifti", "metadata", "image2d", "archive"]

NIFTI_SUFFIXES = (".nii", ".nii.gz")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
METADATA_SUFFIXES = (".tsv", ".csv", ".json", ".md", ".bval", ".bvec", ".bidsignore")
# Folders and files that tools keep beside the data; they are not scans of the batch.
TOOL_FOLDERS = frozenset(
    (".git", ".datalad", ".dvc", ".svn", ".hg", ".ipynb_checkpoints", ".Trash", ".Trashes", ".idea",
     ".vscode", ".AppleDouble", ".Spotlight-V100", ".fseventsd", ".TemporaryItems", "__MACOSX",
     "__pycache__", "@eaDir", "$RECYCLE.BIN", "System Volume Information")
)  # fmt: skip
TOOL_FILES = frozenset(
    (".ds_store", "thumbs.db", "desktop.ini", ".gitattributes", ".gitignore", ".gitmodules",
     ".bidsignore", ".dvcignore", ".localized", ".directory", ".picasa.ini", "icon\r")
)  # fmt: skip
METADATA_NAMES = ("readme", "changes", "license", "licence", "authors", "citation", "dataset_card")


def list_files(folder: Path) -> Iterator[Source]:
    """Yield all files below a folder by name, with links; linked folders are not entered."""
    name_start = len(f"{folder}/")
    for parent, folders, files in os.walk(folder):
        folders.sort()
        links = [name for name in folders if Path(parent, name).is_symlink()]
        for name in sorted([*files, *links]):
            yield Source(f"{parent}/{name}", name_start=name_start)


def is_tool_file(name: str) -> bool:
    """Check whether a tool, not the batch's owner, keeps a file: `.git/...`, `.DS_Store`, `._X`."""
    *folders, last = name.replace("!/", "/").split("/")
    if last.startswith("._") or last.lower() in TOOL_FILES:
        return True
    return not TOOL_FOLDERS.isdisjoint(folders)


def is_hidden(name: str) -> bool:
    """Check whether a part of a path begins with a dot."""
    return name.startswith(".") or "/." in name


def checked_file_size(source: Source, root: Path) -> int:
    """Return the size of a regular file in bytes.

    Raises:
        RejectionError: the file is empty, is not a regular file, or is a link out of the batch.
    """
    status = os.lstat(source.location)
    if stat.S_ISLNK(status.st_mode):
        if not source.path.resolve().is_relative_to(root.resolve()):
            raise RejectionError("outside-batch", "a link that leads out of the batch's folder")
        if not source.path.is_file():
            raise RejectionError("unknown-format", "a link to a folder or to content not fetched")
        status = source.path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise RejectionError("unknown-format", "neither a file nor a folder")
    if status.st_size == 0:
        raise RejectionError("empty-file", "0 bytes")
    return status.st_size


def detect_format(source: Source) -> FileKind:
    """Detect the format of a regular file by its first bytes, then by its name.

    Raises:
        RejectionError: the file cannot be opened, or its format is unknown.
    """
    name = source.name.rpartition("/")[2].lower()
    try:
        with source.open() as file:
            start = file.read(256)
    except OSError:
        raise RejectionError("unreadable", "the file cannot be opened") from None
    if start[128:132] == b"DICM":
        return "metadata" if name == "dicomdir" else "dicom"
    if start.startswith(b"PK\3\4") and name.endswith(".zip"):
        return "archive"
    if name.endswith(NIFTI_SUFFIXES):
        return "nifti"
    if name.endswith(METADATA_SUFFIXES) or name.split(".")[0] in METADATA_NAMES:
        return "metadata"
    if name.endswith(IMAGE_SUFFIXES):
        return "image2d"
    if is_dicom_without_preamble(start) or name.endswith((".dcm", ".ima")):
        return "dicom"
    raise RejectionError("unknown-format", "neither DICOM nor NIfTI by content or name")


def is_dicom_without_preamble(start: bytes) -> bool:
    """Check whether the first bytes are a tag of group 0002 or 0008 in little or big endian.

    DICOM files without the preamble of PS3.10 start with such a tag.
    """
    groups = (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08")
    return start[:2] in groups and len(start) > 8 and start[3:4] in (b"\x00", b"\x01", b"\x05")
