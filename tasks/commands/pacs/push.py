"""Send the DICOM files of a release to a PACS, by C-STORE or STOW-RS, and nothing else.

What is sent is what `release` wrote and nobody changed: no refusal, every checksum verified, every
file marked as synthetic. A record of what a PACS took lets a second run send the rest only.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pydicom
from pynetdicom import build_context
from pynetdicom.association import Association

from tasks.commands.export_dataset.release_folder import RefusedReleaseError
from tasks.commands.pacs import dicomweb, dimse
from tasks.commands.pacs.addresses import DimsePeer, WebPeer
from tasks.common import synthetic_marks
from tasks.ingest.privacy.private_files import make_private_folder
from tasks.release.checksums import verify_checksums
from tasks.stage.errors import InputError

STATUS_WORDS: Final = {
    0xA700: "out of resources", 0xA900: "data set does not match its SOP class",
    0xC000: "cannot be understood", 0x0122: "SOP class not supported", 0x0124: "not authorised",
    0x0111: "duplicate SOP instance",
}  # fmt: skip


@dataclass
class PushResult:
    """What a push did: files sent, taken by an earlier push, and why others failed, by name."""

    version: str
    files: int
    sent: int = 0
    before: int = 0
    failures: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PushRecord:
    """The names of the files that a PACS took of a release, one a line, in `.private/`."""

    path: Path

    def names(self) -> set[str]:
        """Return the names."""
        return set(self.path.read_text().split("\n")) - {""} if self.path.exists() else set()

    def add(self, name: str) -> None:
        """Add a name at once: what follows may fail."""
        with self.path.open("a") as file:
            file.write(f"{name}\n")


def read_summary(folder: Path) -> dict[str, Any]:
    """Read `release.json` of a release, after all its checksums were verified.

    Raises:
        RefusedReleaseError: it is a refusal.
        InputError: it is no release, or not as it was written.
    """
    refusal = folder / "refusal.json"
    if refusal.is_file():
        reasons = "; ".join(json.loads(refusal.read_text())["reasons"])
        raise RefusedReleaseError(f"{folder} is a refusal, nothing may be sent: {reasons}")
    if not (folder / "release.json").is_file():
        raise InputError(f"{folder} is no release (no release.json); run `dvc repro release` first")
    verify_checksums(folder)
    summary: dict[str, Any] = json.loads((folder / "release.json").read_text())
    if summary.get("status") != "released":
        raise RefusedReleaseError(f"{folder} was not released; nothing may be sent")
    return summary


def list_dicom(folder: Path) -> list[Path]:
    """List the DICOM files of a release; each must be marked as synthetic.

    Raises:
        InputError: naming the first file that is not, or saying that there is none.
    """
    files = sorted((folder / "dicom").rglob("*.dcm"))
    if not files:
        raise InputError(f"{folder} holds no DICOM files")
    for path in files:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        marked = header.get("SyntheticData") == "YES" and synthetic_marks.is_synthetic_uid(
            str(header.SOPInstanceUID)
        )
        if not marked:
            raise InputError(
                f"{path.relative_to(folder)} is not marked as synthetic; nothing was sent"
            )
    return files


def push(
    peer: DimsePeer | WebPeer,
    folder: Path,
    *,
    retries: int = 3,
    again: bool = False,
    say: Callable[[str], None] = print,
) -> PushResult:
    """Send a release.

    Args:
        peer: the PACS.
        folder: of the release.
        retries: how often to go on after a lost connection.
        again: send also what the PACS took earlier.
        say: prints a line of progress.

    Raises:
        RefusedReleaseError: it is a refusal.
        InputError: no release, a changed file, no answer, a rejected association.
    """
    summary = read_summary(folder)
    files = list_dicom(folder)
    record = open_record(peer, folder, again=again)
    taken = record.names()
    names = {path.relative_to(folder).as_posix(): path for path in files}
    result = PushResult(summary["version"], len(names), before=len(taken & set(names)))

    def send_rest() -> None:
        done = record.names() | set(result.failures)
        rest = {name: path for name, path in names.items() if name not in done}
        send = send_by_web if isinstance(peer, WebPeer) else send_by_dimse
        for name, problem in send(peer, rest):  # type: ignore[arg-type]
            if problem is None:
                record.add(name)
                result.sent += 1
                if result.sent % 100 == 0:
                    say(f"{result.sent + result.before} of {len(names)} files")
            else:
                result.failures[name] = problem

    try:
        dimse.retry(send_rest, retries=retries)
    except InputError as error:
        if not result.sent and not result.failures:
            raise
        for name in set(names) - record.names() - set(result.failures):
            result.failures[name] = str(error)
    return result


def open_record(peer: DimsePeer | WebPeer, folder: Path, *, again: bool) -> PushRecord:
    """Return the record of this release (by its checksums) and this PACS."""
    digest = hashlib.sha256((folder / "SHA256SUMS").read_bytes() + str(peer).encode())
    path = make_private_folder() / f"pacs-push-{digest.hexdigest()[:16]}.txt"
    if again:
        path.unlink(missing_ok=True)
    return PushRecord(path)


def send_by_dimse(peer: DimsePeer, files: dict[str, Path]) -> Iterator[tuple[str, str | None]]:
    """Send files by C-STORE in one association; yield each name, and what went wrong or None.

    Raises:
        LostConnectionError: the association ended.
    """
    if not files:
        return
    classes = {
        str(
            pydicom.dcmread(
                path, specific_tags=["SOPClassUID"], stop_before_pixels=True
            ).SOPClassUID
        )
        for path in files.values()
    }
    contexts = [build_context(uid, dimse.UNCOMPRESSED) for uid in sorted(classes)]
    with dimse.association_with(peer, contexts) as association:
        for name, path in files.items():
            yield name, store_one(association, path)


def store_one(association: Association, path: Path) -> str | None:
    """Send one file by C-STORE; return what went wrong, or None.

    Raises:
        LostConnectionError: the association ended.
    """
    try:
        status = association.send_c_store(pydicom.dcmread(path))
    except ValueError:  # no context was accepted for it
        return "the PACS takes no such SOP class"
    except RuntimeError:
        raise dimse.LostConnectionError("the PACS broke off the association") from None
    if "Status" not in status:
        raise dimse.LostConnectionError("the PACS broke off the association")
    code = int(status.Status)
    if code == dimse.SUCCESS or code in dimse.STORED_WITH_WARNING:
        return None
    return f"status 0x{code:04X} ({STATUS_WORDS.get(code, 'refused')})"


def send_by_web(peer: WebPeer, files: dict[str, Path]) -> Iterator[tuple[str, str | None]]:
    """Send files by STOW-RS, a slice's files in one request; yield as `send_by_dimse` does."""
    for group in by_folder(files):
        datasets = [pydicom.dcmread(files[name]) for name in group]
        with dicomweb.explain_errors(peer):
            failed = dicomweb.store(peer, datasets)
        for name, dataset in zip(group, datasets, strict=True):
            yield name, failed.get(str(dataset.SOPInstanceUID))


def by_folder(files: dict[str, Path]) -> list[Sequence[str]]:
    """Group names of files by their folder."""
    groups: dict[Path, list[str]] = {}
    for name, path in files.items():
        groups.setdefault(path.parent, []).append(name)
    return list(groups.values())
