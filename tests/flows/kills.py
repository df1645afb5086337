"""Kill processes of runs at random moments, cancel runs, and compare what they end in."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.flows import toy_pipeline
from tests.flows.processes import FLOW, has_ended, request_json, start_process, wait_for

# A killed run ends after this many times the undisturbed one: a killed stage may be tried again.
PATIENCE = 3
LOCKS = ("dvc.lock", "data/raw/dvc.lock")
LONG_S = 300.0  # what a busy machine, or a killed server, may need
DEPLOY = """
import sys
from prefect import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from flows.pipeline import pipeline
step = "set_working_directory"
with get_client(sync_client=True) as client:
    pool = WorkPoolCreate(name="cancel", type="process")
    client.create_work_pool(pool, overwrite=True)  # another test may have made it
    deployment = client.create_deployment(
        flow_id=client.create_flow(pipeline), name="cancelled", work_pool_name="cancel",
        entrypoint="flows.pipeline.pipeline",
        pull_steps=[{f"prefect.deployments.steps.{step}": {"directory": sys.argv[1]}}],
        parameter_openapi_schema=pipeline.parameters.model_dump(),
    )
    print(client.create_flow_run_from_deployment(deployment, parameters={"workers": 2}).id)
"""


def locks(root: Path) -> dict[str, bytes]:
    """The lock files of a clone."""
    return {name: (root / name).read_bytes() for name in LOCKS}


def run_flow(root: Path, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run the flow, however long it takes."""
    return subprocess.run(
        [sys.executable, "-m", *FLOW], cwd=root, env=toy_pipeline.environment(**env),
        capture_output=True, text=True, check=False, timeout=4 * 3600,
    )  # fmt: skip


def undisturbed(repo: Path, place: Path, **env: str) -> tuple[dict[str, bytes], float]:
    """The lock files after a run of a copy in which nothing goes wrong, and its seconds."""
    env = {"PREFECT_HOME": str(place.with_name("home")), **env}
    copy = Path(shutil.copytree(repo, place, symlinks=True))
    began = time.monotonic()
    done = run_flow(copy, **env)
    seconds = time.monotonic() - began
    assert done.returncode in (0, 3), done.stdout[-3000:] + done.stderr[-3000:]
    expected = locks(copy)
    shutil.rmtree(copy)
    return expected, seconds


def kill_again_and_again(
    start: Path, folder: Path, expected: dict[str, bytes], seconds: float, rounds: int, **env: str
) -> None:
    """Kill some process of a run at a random moment and run again, until so many were killed.

    A run that comes to its end before it is disturbed again must have ended well; the next one
    begins with a fresh clone.

    Args:
        start: A clone in which nothing ran.
        folder: Where copies of it are made.
        expected: The lock files of an undisturbed run.
        seconds: How long that took.
        rounds: How many kills.
        env: Of the runs.
    """
    env = {"PREFECT_HOME": str(folder / "home"), **env}
    seed = int(os.environ.get("AUGLIFT_KILLS_SEED", int.from_bytes(os.urandom(4))))
    chance = random.Random(seed)
    root = fresh_copy(start, folder)
    log = folder / "log"
    killed = 0
    case = f"seed {seed}"
    while killed < rounds:
        after = chance.uniform(0.3, seconds)
        with start_process(root, *FLOW, log=log, **env) as flow:
            if wait_for(lambda flow=flow: flow.poll() is not None, after):  # type: ignore[misc]
                said = f"{case}: ended with {flow.returncode}: {log.read_text()[-5000:]}"
                assert flow.returncode in (0, 3), said
                check_end(root, expected, case)
                root = fresh_copy(start, folder)
                continue
            killed += 1
            victim, family = kill_somebody(flow, chance)
            case = f"seed {seed}, kill {killed} of {rounds}: {victim} after {after:.1f} s"
            print(f"{time.strftime('%X')} {case}", flush=True)
            try:
                flow.wait(PATIENCE * seconds + LONG_S)
            except subprocess.TimeoutExpired:
                pytest.fail(f"{case}: no end: {log.read_text()[-5000:]}")
        assert wait_for(lambda: not any(map(runs, family)), 30), (  # noqa: B023 - asked at once
            f"{case}: left behind: {[p.cmdline() for p in family if runs(p)]}"
        )
    done = run_flow(root, **env)
    assert done.returncode in (0, 3), f"{case}: {done.stderr[-5000:]}"
    check_end(root, expected, case)
    again = run_flow(root, **env)
    assert again.stdout.startswith("Nothing to do"), f"{case}: {again.stdout}"
    assert "up to date" in toy_pipeline.run_module(root, "dvc", "repro").stdout, case


def fresh_copy(start: Path, folder: Path) -> Path:
    """A copy of a clone, in place of an earlier one."""
    shutil.rmtree(folder / "again", ignore_errors=True)
    return Path(shutil.copytree(start, folder / "again", symlinks=True))


def kill_somebody(
    flow: "subprocess.Popen[bytes]", chance: random.Random
) -> tuple[str, list[psutil.Process]]:
    """Kill the flow or one of the processes that it started; return which, and all of them."""
    root = psutil.Process(flow.pid)
    family = [root, *root.children(recursive=True)]
    with suppress(psutil.NoSuchProcess):
        victim = chance.choice(family)
        name = " ".join(" ".join(victim.cmdline()[1:4]).split())
        victim.send_signal(signal.SIGKILL)
        return name, family
    return "a process that had just ended", family


def runs(process: psutil.Process) -> bool:
    """Whether a process still runs; a zombie does not."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def check_end(root: Path, expected: dict[str, bytes], case: str) -> None:
    """Check that a run ended as an undisturbed one did, and left nothing half done."""
    assert locks(root) == expected, case
    assert not list((root / "data").rglob("*.partial")), case
    in_use = root / ".dvc/tmp/rwlock"
    text = in_use.read_text() if in_use.exists() else ""
    assert not any(json.loads(text or "{}").values()), f"{case}: {text}"


def cancel_on_server(
    root: Path, api: str, folder: Path, wait_until_it_runs: Callable[[], int]
) -> None:
    """Let a worker run the flow, and cancel that as the button of the UI does.

    Args:
        root: The clone.
        api: The address of the server.
        folder: Of the worker's log.
        wait_until_it_runs: Waits for a stage; returns its process, which has to end within seconds.
    """
    env = {"PREFECT_API_URL": api}
    made = subprocess.run(
        [sys.executable, "-c", DEPLOY, str(root)], env=toy_pipeline.environment(**env),
        capture_output=True, text=True, check=False, cwd=root,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    run = f"{api}/flow_runs/{made.stdout.strip()}"
    words = ("prefect", "worker", "start", "--pool", "cancel")
    log = folder / "worker.log"
    with start_process(root, *words, log=log, **env):
        stage = wait_until_it_runs()
        request_json(f"{run}/set_state", "POST", {"state": {"type": "CANCELLING"}, "force": True})
        asked = time.monotonic()
        while not has_ended(stage):
            assert time.monotonic() - asked < 90, log.read_text()
        assert wait_for(lambda: request_json(run)["state"]["type"] == "CANCELLED", 120)
    print(f"ended {time.monotonic() - asked:.1f} s after it was cancelled")
