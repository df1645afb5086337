"""Write DICOM instances to a batch that nobody sees before it is complete.

An open batch is the folder `.NAME.partial` beside its place; Git, DVC and `ingest` ignore it. Files
are named by UIDs, `STUDY/SERIES/INSTANCE.dcm`, because names and IDs of patients would end up in
logs. Closing it renames it and takes the right to write from its files.
"""

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

import pydicom
from pydicom.filereader import read_dataset, read_preamble
from pydicom.uid import DeflatedExplicitVRLittleEndian

from tasks.stage.errors import InputError
from tasks.stage.item_names import check_item_name
from tasks.stage.stage_io import discard

UID: Final = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)*")
UID_TAGS: Final = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
INCOMPLETE: Final = ".incomplete"  # in a study's folder: its sender broke off, or still sends

CLOSING: Final = "@closing.partial"  # no name of a batch holds an @


class InvalidInstanceError(Exception):
    """Bytes that are no DICOM instance with usable UIDs."""


class DuplicateError(Exception):
    """Another file of the same SOP Instance UID is there."""


@dataclass(frozen=True, order=True)
class InstanceKey:
    """The UIDs of one instance."""

    study: str
    series: str
    instance: str

    @property
    def valid(self) -> bool:
        """Whether all are UIDs (PS3.5 9.1), so that they can be parts of a path."""
        return all(UID.fullmatch(uid) for uid in (self.study, self.series, self.instance))

    def path_in(self, folder: Path) -> Path:
        """Return the place of the instance's file in a batch."""
        return folder / self.study / self.series / f"{self.instance}.dcm"


@dataclass(frozen=True)
class OpenBatch:
    """A batch that is being written; `target` is where it goes once it is complete."""

    target: Path

    @property
    def folder(self) -> Path:
        """The folder of the batch until it is closed."""
        return self.target.with_name(f".{self.target.name}.partial")

    def save(self, data: bytes, begin: Callable[[InstanceKey], None] | None = None) -> InstanceKey:
        """Write the bytes of one file of DICOM (PS3.10) as a whole; return its UIDs.

        Args:
            data: the file.
            begin: called with the UIDs before anything is written; an error keeps the file out.

        Raises:
            InvalidInstanceError: the bytes are no instance.
            DuplicateError: its file is there, with other bytes.
        """
        key = read_key(data)
        path = key.path_in(self.folder)
        if path.exists():
            if path.read_bytes() != data:
                raise DuplicateError("the SOP Instance UID is there with other bytes")
            if begin is not None:
                begin(key)
            return key
        if begin is not None:
            begin(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        return key

    def keys(self) -> set[InstanceKey]:
        """List the instances that are here."""
        return keys_of(self.folder)

    def close(
        self,
        target: Path | None = None,
        studies: Iterable[str] | None = None,
        marker: str | None = None,
    ) -> int:
        """Move the batch into place, and make its files read-only; return how many there are.

        Args:
            target: where to, if not to `self.target`.
            studies: close only these; the others stay in the open batch.
            marker: name of an empty file that says that the batch is complete.

        Raises:
            InputError: something lies at the place already.
        """
        target = target or self.target
        if target.exists():
            raise InputError(f"{target} exists: a batch is never changed; name another one")
        closing = self.folder
        if studies is not None:
            closing = target.with_name(f".{target.name}{CLOSING}")
            closing.mkdir()
            for study in studies:
                (self.folder / study).rename(closing / study)
            if not any(self.folder.iterdir()):
                self.folder.rmdir()
        for path in closing.rglob(".*"):
            discard(path)
        files = [path for path in closing.rglob("*.dcm") if path.is_file()]
        for path in files:
            path.chmod(0o444)
        if marker is not None:
            (closing / marker).touch()
        closing.rename(target)
        return len(files)

    def recover(self, name: str) -> None:
        """Take back the studies of a batch NAME-... whose closing was interrupted."""
        own = re.compile(rf"\.{re.escape(name)}-\d{{8}}-\d{{6}}(-\d+)?{re.escape(CLOSING)}")
        for closing in self.target.parent.glob(f".*{CLOSING}"):
            if own.fullmatch(closing.name) is None:
                continue
            for key in keys_of(closing):
                place = key.path_in(self.folder)
                place.parent.mkdir(parents=True, exist_ok=True)
                if not place.exists():
                    key.path_in(closing).rename(place)
                elif place.read_bytes() == key.path_in(closing).read_bytes():
                    key.path_in(closing).unlink()
            if not keys_of(closing):
                discard(closing)


def read_key(data: bytes) -> InstanceKey:
    """Read the UIDs of a file's bytes.

    Raises:
        InvalidInstanceError: saying what is wrong, without values.
    """
    try:
        if is_deflated(data):
            raise InvalidInstanceError("a deflated data set, which may be of any size")
        header = pydicom.dcmread(
            BytesIO(data), stop_before_pixels=True, specific_tags=list(UID_TAGS)
        )
        key = InstanceKey(*(str(header.get(tag, "")) for tag in UID_TAGS))
    except InvalidInstanceError:
        raise
    except Exception as error:  # a stranger's bytes: pydicom raises whatever it meets
        raise InvalidInstanceError(f"no DICOM file ({type(error).__name__})") from None
    if not key.valid:
        raise InvalidInstanceError("an instance without usable UIDs")
    return key


def is_deflated(data: bytes) -> bool:
    """Check whether reading a file's data set would inflate it, all of it and in memory."""
    stream = BytesIO(data)
    read_preamble(stream, False)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, *_: tag >> 16 != 2)
    return bool(meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian)


def keys_of(folder: Path) -> set[InstanceKey]:
    """List the instances of a folder that was written here, by the names of its files."""
    if not folder.is_dir():
        return set()
    keys = (
        InstanceKey(path.parts[-3], path.parts[-2], path.stem) for path in folder.glob("*/*/*.dcm")
    )
    return {key for key in keys if key.valid}


def check_batch_name(name: str) -> str:
    """Check that a word can name a batch.

    Raises:
        InputError: saying what a name may be.
    """
    try:
        return check_item_name(name)
    except ValueError as error:
        raise InputError(f"the batch {name!r}: {error}") from None
