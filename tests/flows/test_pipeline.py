"""The flow's promises, on a toy repository whose stages take a moment each."""

import json
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.flows import toy

FLOW = ("flows.pipeline", "--workers", "2")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, prefect_api: str) -> Path:
    """A toy repository that the flow has run once."""
    root = toy.make(tmp_path_factory.mktemp("toy") / "repo")
    toy.tell(root, "downstream", "meet")
    done = toy.call(root, *FLOW, PREFECT_API_URL=prefect_api)
    assert done.returncode == 0, done.stdout + done.stderr
    toy.tell(root, "downstream", "")
    return root


@pytest.fixture
def repo(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished repository."""
    return Path(shutil.copytree(finished, tmp_path / "repo", symlinks=True))


def test_either_door_leaves_the_same_lock_and_nothing_to_do(finished: Path, tmp_path: Path) -> None:
    other = toy.make(tmp_path / "repo")
    assert toy.call(other, "dvc", "repro").returncode == 0
    for lock in ("dvc.lock", "data/raw/dvc.lock"):
        assert (other / lock).read_bytes() == (finished / lock).read_bytes()

    again = toy.call(other, *FLOW)
    assert again.returncode == 0
    assert again.stdout.startswith("Nothing to do: all 10 stages are up to date.")
    assert "up to date" in toy.call(finished, "dvc", "repro").stdout


def test_siblings_run_at_once_and_trainers_take_turns(finished: Path) -> None:
    def moments(stage: str) -> list[str]:
        return [what for what, _, _ in sorted(toy.log(finished, stage), key=lambda row: row[1])]

    assert moments("downstream") == ["start", "start", "end", "end"]
    assert moments("train_gan") == ["start", "end", "start", "end"]


def test_only_what_changed_runs_and_a_rejection_is_a_failed_state_of_its_own_name(
    repo: Path, prefect_api: str
) -> None:
    before = len(toy.log(repo, "train_gan"))
    toy.change(repo, "gate", seed=98)
    toy.tell(repo, "gate", "reject")
    done = toy.call(repo, *FLOW, PREFECT_API_URL=prefect_api)
    assert done.returncode == 3
    assert "5 of 10 stages to run" in done.stderr + done.stdout
    assert len(toy.log(repo, "train_gan")) == before
    assert "Rejected: fold 0: reject" in done.stderr
    states = {(run["state_name"], run["state_type"]) for run in flow_runs(prefect_api)}
    assert ("Rejected", "FAILED") in states

    again = toy.call(repo, *FLOW)
    assert again.returncode == 3
    assert again.stdout.startswith("Nothing to do")


def test_wrong_input_is_one_line_and_no_second_try(repo: Path, prefect_api: str) -> None:
    toy.change(repo, "lift", seed=97)
    toy.tell(repo, "lift", "wrong")
    before = len(toy.log(repo, "lift"))
    done = toy.call(repo, *FLOW, PREFECT_API_URL=prefect_api)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "auglift: lift: found nothing, expected something; bring it"
    )
    assert not (repo / "data/lift.csv").exists()
    assert len(toy.log(repo, "lift")) == before + 1


def test_a_stage_that_fails_by_chance_is_tried_again(repo: Path, prefect_api: str) -> None:
    toy.change(repo, "lift", seed=96)
    toy.tell(repo, "lift", "once")
    assert toy.call(repo, *FLOW, PREFECT_API_URL=prefect_api).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_flow_that_is_ended_leaves_no_stage_behind(
    repo: Path, prefect_api: str, number: signal.Signals
) -> None:
    toy.change(repo, "lift", seed=95)
    toy.tell(repo, "lift", "hang")
    with started(repo, *FLOW, PREFECT_API_URL=prefect_api) as flow:
        stage = running(repo, "lift")
        flow.send_signal(number)
        assert flow.wait(40) != 0
        assert gone(stage)
    assert not (repo / "data/lift.csv").exists()


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_a_stage_dies_with_a_killed_dvc(repo: Path, shell: str) -> None:
    toy.change(repo, "lift", seed=94)
    toy.tell(repo, "lift", "hang")
    words = ("dvc", "repro", "--single-item", "lift")
    with started(repo, *words, SHELL=shell) as dvc:
        stage = running(repo, "lift")
        dvc.kill()
        assert gone(stage)


@contextmanager
def started(root: Path, *words: str, **env: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A process while the test runs."""
    # What a shell starts in the background ignores interrupts, and so would its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    child = subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=root,
        env=toy.environment(**env),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def running(root: Path, stage: str) -> int:
    """Wait until a stage that hangs has begun; its process."""
    before = len(toy.log(root, stage))
    assert until(lambda: len(toy.log(root, stage)) > before, 60)
    return toy.log(root, stage)[-1][2]


def gone(pid: int) -> bool:
    """Whether a process ends within some seconds; a zombie has ended."""

    def ended() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    return until(ended, 15)


def until(true: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def flow_runs(api: str) -> Iterator[dict[str, str]]:
    request = urllib.request.Request(
        f"{api}/flow_runs/filter",
        data=b"{}",
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        yield from json.load(answer)
