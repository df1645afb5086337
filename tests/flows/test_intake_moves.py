"""What a kill, another disk or a bad drop leaves of a drop on its way; no stage and no DVC runs."""

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import httpx
import prefect.states
import pytest
from prefect.client.schemas.objects import State

from flows import batch_registration, inbox_drops, inbox_intake, inbox_quarantine, intake
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


@pytest.mark.parametrize("step", ["content_sha256", "quarantine", "move_in", "move_back"])
def test_an_error_of_the_disk_is_an_outcome_without_the_drops_name(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = put(inbox, "Mueller_Anna")
    if step == "quarantine":
        (path / "link").symlink_to("/")

    def fail(*_: object, **__: object) -> None:
        raise shutil.Error([(str(path), "there", f"[Errno {errno.EIO}] {path}")])

    monkeypatch.setattr(inbox_intake, step, fail)
    if step == "move_back":
        monkeypatch.setattr(inbox_intake, "move_in", fail)
    monkeypatch.setattr(inbox_intake, "undo", lambda _: None)
    outcome = take(inbox, "Mueller_Anna")
    assert (outcome.kind, outcome.detail) == ("failed", os.strerror(errno.EIO))
    assert files(path)
    if step == "move_back":  # the journal keeps the drop, and the next run lets it go
        assert inbox_intake.is_work_left()
        assert resume_after_kill() is None
    assert not inbox_intake.is_work_left()


def test_a_drop_that_cannot_be_listed_waits_and_holds_up_no_other(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(inbox, "a")
    put(inbox, "b")
    real = inbox_drops.list_entries

    def list_entries(path: Path, top: os.stat_result) -> object:
        if path.name == "a":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return real(path, top)

    monkeypatch.setattr(inbox_drops, "list_entries", list_entries)
    first, second = find_drops(inbox, 0)
    assert first.waits_for == f"it cannot be read now ({os.strerror(errno.EIO)})"
    assert not second.waits_for


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "Input/output error", "Mueller"), httpx.ConnectError("refused")]
)
def test_a_watch_goes_on_after_an_error_of_the_disk_or_the_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    looks = [error, error, KeyboardInterrupt()]

    def run_pass(*_: object) -> int:
        raise looks.pop(0)

    monkeypatch.setattr(intake, "run_pass", run_pass)
    monkeypatch.setattr(intake, "end_on_sigterm", lambda: None)
    assert intake.run_intake("data/inbox", 60, "no", 0, every=0) == 1
    printed = capsys.readouterr().err
    assert printed.count("the next look goes on from here") == 2
    assert "Mueller" not in printed


@pytest.mark.usefixtures("inbox")
@pytest.mark.parametrize(
    ("state", "left"),
    [
        (prefect.states.Completed(), ["b"]),
        (prefect.states.Failed(name="Rejected"), ["b"]),
        (prefect.states.Failed(), ["a", "b"]),
        (prefect.states.Failed(name="WrongInput"), ["a", "b"]),
    ],
)
def test_a_batch_that_comes_during_the_pipeline_or_whose_pipeline_failed_is_still_to_start(
    monkeypatch: pytest.MonkeyPatch, state: State[Any], left: list[str]
) -> None:
    inbox_intake.note_batch("a")

    def pipeline(*_: object, **__: object) -> State[Any]:
        inbox_intake.note_batch("b")  # by another intake
        return state

    monkeypatch.setattr("flows.pipeline.pipeline", pipeline)
    assert intake.start_pipeline("here", 1, lambda _: None)[1] is state
    assert inbox_intake.batches_to_start() == left


@pytest.mark.usefixtures("inbox")
def test_the_same_batches_at_another_commit_start_another_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = []
    monkeypatch.setattr(
        "prefect.deployments.run_deployment",
        lambda *_, idempotency_key, **__: keys.append(idempotency_key),
    )
    for commit in ("1" * 40, "2" * 40):
        monkeypatch.setattr(intake, "git", lambda *_, commit=commit: f"{commit}\n")
        inbox_intake.note_batch("a")
        intake.start_pipeline("deployment", 0, lambda _: None)
        assert not inbox_intake.is_work_left()
    assert len(set(keys)) == 2
