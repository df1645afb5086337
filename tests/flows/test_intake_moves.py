"""What a kill, another disk or a bad drop leaves of a drop on its way; no stage and no DVC runs."""

import errno
import shutil
from pathlib import Path

import pytest

from flows import batch_registration, inbox_intake, inbox_quarantine
from flows.batch_registration import RAW, Registration
from flows.dvc_runner import DvcRunner
from flows.inbox_drops import find_drops
from flows.inbox_intake import Outcome, resume, take_drop
from tests.flows.toy_pipeline import ROOT


class Killed(BaseException):
    """Stands for the end of the process."""


def die(*_: object, **__: object) -> None:
    """End the process at this step."""
    raise Killed


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The inbox of a folder in which a batch counts as registered once its `.dvc` file is there."""
    monkeypatch.chdir(tmp_path)
    for folder in ("data/raw", "data/inbox", ".private"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.setattr(batch_registration, "batches_dvc_makes", list)

    def register(registration: Registration, *_: object) -> None:
        registration.dvc_file.write_text(f"meta: {{content_sha256: '{registration.sha256}'}}\n")

    monkeypatch.setattr(inbox_intake, "register", register)
    return Path("data/inbox")


def put(inbox: Path, name: str, content: str = "scan") -> Path:
    """Put a folder, or an archive, into the inbox."""
    path = inbox / name
    if name.endswith(".zip"):
        path.write_text(content)
    else:
        path.mkdir()
        (path / "1.dcm").write_text(content)
    return path


def take(inbox: Path, name: str) -> Outcome:
    """Take one drop."""
    (drop,) = [drop for drop in find_drops(inbox, 0) if drop.name == name]
    return take_drop(drop, "token", DvcRunner(), lambda _: None)


def resume_after_kill() -> Outcome | None:
    """Do what the next run does first, and end the journal as it does."""
    outcome = resume(DvcRunner(), lambda _: None)
    if outcome is not None and outcome.kind == "batch":
        batch_registration.journal_path().unlink()
    return outcome


def files(folder: Path) -> list[str]:
    """All that is in a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.fixture
def other_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the inbox be on another disk than the clone."""
    rename = Path.rename

    def rename_within(self: Path, target: Path) -> Path:
        if "inbox" in {*self.parts, *target.parts} and self.parts[:2] != target.parts[:2]:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", rename_within)


def test_what_is_no_batch_yet_makes_no_drop_a_duplicate(inbox: Path) -> None:
    (RAW / ".old.partial").mkdir()
    (RAW / ".old.partial/1.dcm").write_text("scan")
    put(inbox, "ward7")
    assert take(inbox, "ward7").kind == "batch"


def test_a_drop_that_grew_after_a_kill_before_its_move_is_examined_anew(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop = put(inbox, "ward7")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(inbox_intake, "finish", die)
        take(inbox, "ward7")
    (drop / "2.dcm").write_text("the sender went on")
    assert resume_after_kill() is None
    assert not inbox_intake.is_work_left()
    assert "it changed 0 s ago" in find_drops(inbox, 60)[0].waits_for
    assert files(RAW) == []


def test_a_drop_that_grew_after_a_kill_behind_its_move_goes_back(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(inbox, "ward7")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(inbox_intake, "is_unchanged", die)
        take(inbox, "ward7")
    (RAW / "ward7/2.dcm").write_text("the sender went on, in the open folder")
    outcome = resume_after_kill()
    assert outcome is not None
    assert outcome.kind == "waits"
    assert files(inbox) == ["ward7", "ward7/1.dcm", "ward7/2.dcm"]
    assert files(RAW) == []


@pytest.mark.usefixtures("other_disk")
@pytest.mark.parametrize("place", ["copy", "removal"])
def test_a_move_from_another_disk_killed_midway_leaves_one_batch_and_nothing_else(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (put(inbox, "ward7") / "2.dcm").write_text("scan 2")
    copytree, rmtree = shutil.copytree, shutil.rmtree

    def copy_half(source: Path, target: Path, **_: object) -> None:
        target.mkdir()
        shutil.copy2(source / "1.dcm", target)
        raise Killed

    def remove_half(path: Path, **_: object) -> None:
        (path / "1.dcm").unlink()
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(shutil, "rmtree", remove_half if place == "removal" else die)
        patch.setattr(shutil, "copytree", copy_half if place == "copy" else copytree)
        take(inbox, "ward7")
    assert shutil.rmtree is rmtree
    outcome = resume_after_kill()
    if place == "copy":
        assert outcome is None
        assert take(inbox, "ward7").kind == "batch"
    else:
        assert outcome is not None
        assert outcome.kind == "batch"
    assert find_drops(inbox, 0) == []
    assert files(inbox) == []
    assert files(RAW) == ["ward7", "ward7.dvc", "ward7/1.dcm", "ward7/2.dcm"]


def test_a_drop_goes_back_beside_a_new_one_of_its_name(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(inbox, "ward7")

    def fail(*_: object) -> None:
        put(inbox, "ward7", "another scan")
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(inbox_intake, "register", fail)
    monkeypatch.setattr(inbox_intake, "undo", lambda _: None)
    assert take(inbox, "ward7").kind == "failed"
    assert (inbox / "ward7-2/1.dcm").read_text() == "scan"
    assert (inbox / "ward7/1.dcm").read_text() == "another scan"
    assert not inbox_intake.is_work_left()
    assert files(RAW) == []


@pytest.mark.usefixtures("other_disk")
def test_a_killed_copy_into_the_quarantine_is_made_again_at_its_place(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop = put(inbox, "ward7")

    def copy_half(_: Path, target: Path, **__: object) -> None:
        target.mkdir()
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(shutil, "copytree", copy_half)
        patch.setattr(shutil, "rmtree", die)
        inbox_quarantine.quarantine(drop, "token", "why")
    inbox_quarantine.quarantine(drop, "token", "why")
    assert files(Path("data/quarantine")) == [
        "token",
        "token.txt",
        "token/ward7",
        "token/ward7/1.dcm",
    ]
