"""Every file of a batch, in a fixed order, sorted by what it is.

A batch may hold a million files: what is done for each of them goes without `pathlib`.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.core.source_file import Source

Kind = Literal["dicom", "nifti", "metadata", "image2d", "archive"]

NIFTI_SUFFIXES = (".nii", ".nii.gz")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
METADATA_SUFFIXES = (".tsv", ".csv", ".json", ".md", ".bval", ".bvec", ".bidsignore")
# What tools keep beside the data: their files are no part of a batch's scans.
TOOL_FOLDERS = frozenset(
    (".git", ".datalad", ".dvc", ".svn", ".hg", ".ipynb_checkpoints", ".Trash", ".Trashes", ".idea",
     ".vscode", ".AppleDouble", ".Spotlight-V100", ".fseventsd", ".TemporaryItems", "__MACOSX",
     "__pycache__", "@eaDir", "$RECYCLE.BIN", "System Volume Information")
)  # fmt: skip
TOOL_NAMES = frozenset(
    (".ds_store", "thumbs.db", "desktop.ini", ".gitattributes", ".gitignore", ".gitmodules",
     ".bidsignore", ".dvcignore", ".localized", ".directory", ".picasa.ini", "icon\r")
)  # fmt: skip
METADATA_NAMES = ("readme", "changes", "license", "licence", "authors", "citation", "dataset_card")


def list_files(folder: Path) -> Iterator[Source]:
    """All files below a folder, links included, by name; folders that are links are not entered."""
    root = len(f"{folder}/")
    for here, folders, files in os.walk(folder):
        folders.sort()
        links = [name for name in folders if Path(here, name).is_symlink()]
        for name in sorted([*files, *links]):
            yield Source(f"{here}/{name}", root=root)


def is_tool_file(name: str) -> bool:
    """Whether a tool keeps a file, not the batch's owner: `.git/...`, `.DS_Store`, `._X`."""
    *folders, last = name.replace("!/", "/").split("/")
    if last.startswith("._") or last.lower() in TOOL_NAMES:
        return True
    return not TOOL_FOLDERS.isdisjoint(folders)


def is_hidden(name: str) -> bool:
    """Whether a path has a part that begins with a dot."""
    return name.startswith(".") or "/." in name


def file_size(source: Source, root: Path) -> int:
    """The bytes of a plain file.

    Raises:
        RefusalError: empty, no plain file, or leading out of the batch.
    """
    found = os.lstat(source.place)
    if stat.S_ISLNK(found.st_mode):
        if not source.path.resolve().is_relative_to(root.resolve()):
            raise RejectionError("outside-batch", "a link that leads out of the batch's folder")
        if not source.path.is_file():
            raise RejectionError("unknown-format", "a link to a folder or to content not fetched")
        found = source.path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise RejectionError("unknown-format", "neither a file nor a folder")
    if found.st_size == 0:
        raise RejectionError("empty-file", "0 bytes")
    return found.st_size


def detect_format(source: Source) -> Kind:
    """Tell by the first bytes, then by the name, what a plain file is.

    Raises:
        RefusalError: unreadable or unknown.
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
    if looks_like_bare_dicom(start) or name.endswith((".dcm", ".ima")):
        return "dicom"
    raise RejectionError("unknown-format", "neither DICOM nor NIfTI by content or name")


def looks_like_bare_dicom(start: bytes) -> bool:
    """DICOM without preamble starts with a tag of group 0002 or 0008 in little or big endian."""
    groups = (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08")
    return start[:2] in groups and len(start) > 8 and start[3:4] in (b"\x00", b"\x01", b"\x05")
