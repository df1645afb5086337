"""A run of the intake after one that was killed ends as if there had been no kill."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flows import inbox_intake
from flows.inbox_drops import COMPLETE
from flows.inbox_intake import take_all
from tests.flows import toy_pipeline
from tests.flows.intake_clone import drop, git, take

CODE = (
    "from pathlib import Path; from flows.inbox_intake import take_all;"
    " [print(o.line) for o in take_all(Path('data/inbox'), 60, print)]"
)


def run_intake_once(kill_after: float | None = None) -> str:
    """Run the intake in a process of its own; kill it and its group after so many seconds."""
    child = subprocess.Popen(
        [sys.executable, "-c", CODE], env=toy_pipeline.environment(INGEST_SECONDS="0.3"),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = child.communicate(timeout=kill_after or 250)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGKILL)  # its children end with it
        return ""
    assert child.returncode == 0, output
    return output


@pytest.mark.verify
@pytest.mark.timeout(3600)
def test_a_run_after_a_kill_at_any_moment_ends_as_if_there_had_been_none(inbox: Path) -> None:
    drop(inbox, "good", "one")
    (inbox / "bad").mkdir()
    (inbox / "bad/letter.txt").write_text("no scan")
    (inbox / "bad" / COMPLETE).touch()
    start = Path("../start")
    shutil.copytree(Path(), start, symlinks=True)
    began = time.monotonic()
    run_intake_once()
    whole = time.monotonic() - began
    expected = {name: Path(name).read_bytes() for name in ("params.yaml", "dvc.lock",
                "data/raw/good.dvc", "data/raw/.gitignore")}  # fmt: skip
    seed = int.from_bytes(os.urandom(4))
    moments = random.Random(seed)
    for number in range(8):
        place = Path(f"../round-{number}").absolute()
        shutil.copytree(start, place, symlinks=True)
        os.chdir(place)
        for _ in range(moments.randint(1, 3)):
            run_intake_once(kill_after=moments.uniform(0.1, whole))
        run_intake_once()
        case = f"seed {seed}, round {number}"
        assert {name: Path(name).read_bytes() for name in expected} == expected, case
        assert not any(Path("data/inbox").iterdir()), case
        assert len(list(Path("data/quarantine").glob("*.txt"))) == 1, case
        assert git("log", "--format=%s").splitlines().count("Add the batch good") == 1, case
        assert not inbox_intake.journal_path().exists(), case
        assert inbox_intake.batches_to_start() == ["good"], case


def test_the_journal_alone_brings_a_killed_drop_to_its_end(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the move, before DVC knows the batch; then again before it is noted as done."""
    drop(inbox, "ward7")

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    for place in ("flows.batch_registration.track_with_dvc", "flows.inbox_intake.note_batch"):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(place, die)
            take_all(inbox, 60, lambda _: None)
        assert Path("data/raw/ward7").is_dir()
    assert take(inbox)["batch"].detail == "ward7"
    assert git("log", "--format=%s").splitlines().count("Add the batch ward7") == 1
    assert inbox_intake.batches_to_start() == ["ward7"]
    assert take(inbox) == {}


def test_an_archive_that_a_killed_run_had_half_moved_is_not_lost(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (inbox / "ward8.zip").write_bytes(b"PK")
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(Path, "rename", fail_for("ward8", Path.rename))
        take_all(inbox, 0, lambda _: None)
    assert not (inbox / "ward8.zip").exists()
    monkeypatch.setattr("flows.batch_registration.register", lambda *_: "commit")
    monkeypatch.setattr("flows.inbox_intake.register", lambda *_: "commit")
    assert take(inbox)["batch"].detail == "ward8"
    assert Path("data/raw/ward8/ward8.zip").read_bytes() == b"PK"


def fail_for(name: str, rename: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
    """A rename that is interrupted before it makes a path of that name."""

    def renamed(source: Path, target: Path) -> Path:
        if Path(target).name == name:
            raise RuntimeError("killed")
        return rename(source, target)

    return renamed
