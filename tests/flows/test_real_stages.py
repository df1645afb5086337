"""The real stages in the tiny configuration, and the demo: kills, a cancelled run, two machines.

The toy stages of `test_faults.py` and `test_several_machines.py` say the same in small.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from tests import test_end_to_end
from tests.flows import dag_with_quick_stages, toy_pipeline
from tests.flows.kills import (
    cancel_on_server,
    kill_again_and_again,
    locks,
    run_flow,
    undisturbed,
)
from tests.flows.processes import start_process, wait_for
from tests.flows.s3_store import s3_store
from tests.flows.stage_deployment import DEPLOY

pytestmark = [pytest.mark.verify, pytest.mark.timeout(6 * 3600)]
ROUNDS = int(os.environ.get("AUGLIFT_KILLS", "20"))
DEMO_ROUNDS = int(os.environ.get("AUGLIFT_DEMO_KILLS", "4"))
LONG_S = 900.0
LONG_TRAINING_STEPS = 5000  # longer than a worker needs to see that its run was cancelled


class Tiny(NamedTuple):
    """A clone in which nothing ran, the lock files of an undisturbed run, and its seconds."""

    start: Path
    expected: dict[str, bytes]
    seconds: float


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """The tiny configuration, with what an undisturbed run on one machine ends in."""
    folder = tmp_path_factory.mktemp("tiny")
    start = test_end_to_end.clone(folder / "start")
    return Tiny(start, *undisturbed(start, folder / "copy"))


def test_the_real_stages_survive_kills_of_any_process(tiny: Tiny, tmp_path: Path) -> None:
    kill_again_and_again(tiny.start, tmp_path, tiny.expected, tiny.seconds, ROUNDS)


def test_a_cancelled_run_is_resumed_to_the_lock_of_an_undisturbed_one(
    tiny: Tiny, tmp_path: Path, prefect_api: str
) -> None:
    root = Path(shutil.copytree(tiny.start, tmp_path / "clone", symlinks=True))
    toy_pipeline.change_section(root, "train_gan", steps=LONG_TRAINING_STEPS)
    expected, seconds = undisturbed(root, tmp_path / "copy", PREFECT_API_URL=prefect_api)
    limit = max(LONG_S, 3 * seconds)
    cancel_on_server(
        root, prefect_api, tmp_path, lambda: wait_for_process(root, "tasks.train_gan", limit)
    )
    assert "train_gan@0:" not in (root / "dvc.lock").read_text()  # it was cancelled, not done
    done = run_flow(root, PREFECT_API_URL=prefect_api)
    assert done.returncode in (0, 3), done.stderr[-3000:]
    assert locks(root) == expected


def wait_for_process(root: Path, module: str, limit_s: float) -> int:
    """Wait until a module runs in a clone; its process."""
    found: list[int] = []

    def look() -> bool:
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if module in process.cmdline() and process.cwd() == str(root):
                    found.append(process.pid)
        return bool(found)

    assert wait_for(look, limit_s)
    return found[0]


def test_two_workers_and_an_s3_remote_end_in_the_lock_of_one_machine(
    tiny: Tiny, tmp_path: Path, prefect_api: str
) -> None:
    with s3_store(tmp_path) as options:
        origin = Path(shutil.copytree(tiny.start, tmp_path / "origin", symlinks=True))
        url, *more = options
        dag_with_quick_stages.dvc(origin, "remote", "add", "--default", "store", url)
        for option in more:
            dag_with_quick_stages.dvc(origin, "remote", "modify", "store", *option.split("="))
        dag_with_quick_stages.commit(origin)
        clones = [tmp_path / name for name in ("w0", "w1", "coordinator")]
        for clone in clones:
            subprocess.run(["git", "clone", "-q", str(origin), str(clone)], check=True)
        *workers, coordinator = clones
        with started_workers(workers, prefect_api) as logs:
            done = subprocess.run(
                [sys.executable, "-m", "flows.cli", "run", "--workers", "4", "--elsewhere",
                 "auglift-stage/stage"],
                cwd=coordinator, env=toy_pipeline.environment(PREFECT_API_URL=prefect_api),
                capture_output=True, text=True, check=False, timeout=3 * 3600,
            )  # fmt: skip
            said = {log.name: log.read_text() for log in logs}
    assert done.returncode in (0, 3), done.stdout + done.stderr[-6000:]
    assert locks(coordinator) == tiny.expected
    ran = {
        name: {address for address in addresses(tiny.expected) if f"Flow run '{address}'" in text}
        for name, text in said.items()
    }
    assert all(ran.values()), ran  # both took stages
    assert not set.intersection(*ran.values()), ran  # none ran twice
    report = Path("data/report.html")
    assert (coordinator / report).exists()


def addresses(expected: dict[str, bytes]) -> set[str]:
    """The addresses of all stages of the lock files."""
    return {
        line.strip().rstrip(":")
        for text in expected.values()
        for line in text.decode().splitlines()
        if line.startswith("  ") and not line.startswith("   ")
    }


@contextmanager
def started_workers(clones: list[Path], api: str) -> Iterator[list[Path]]:
    """A worker in each clone, of a pool of its own kind; yields their logs."""
    env = {"PREFECT_API_URL": api}
    done = subprocess.run(
        [sys.executable, "-c", DEPLOY], env=toy_pipeline.environment(**env), cwd=clones[0],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    words = ("prefect", "worker", "start", "--pool", "machines", "--limit", "1")
    logs = [clone.with_suffix(".log") for clone in clones]
    with ExitStack() as running:
        for clone, log in zip(clones, logs, strict=True):
            started = start_process(
                clone, *words, "--name", clone.name, log=log, AUGLIFT_CLONE=str(clone), **env
            )
            running.enter_context(started)
        yield logs


def test_the_demo_survives_kills_of_any_process(tmp_path: Path) -> None:
    start = test_end_to_end.clone(tmp_path / "start", tiny=False)
    expected, seconds = undisturbed(start, tmp_path / "copy")
    kill_again_and_again(start, tmp_path, expected, seconds, DEMO_ROUNDS)
