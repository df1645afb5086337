"""Faults in the midst of a run: the next run repairs what is needed and ends in an equal lock."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests import test_end_to_end
from tests.flows import toy_pipeline
from tests.flows.processes import (
    FLOW,
    Server,
    has_ended,
    request_json,
    start_process,
    wait_for,
    wait_for_stage,
)

LONG_S = 300.0
ROUNDS = int(os.environ.get("AUGLIFT_KILLS", "20"))
LOCKS = ("dvc.lock", "data/raw/dvc.lock")


def locks(root: Path) -> dict[str, bytes]:
    """The lock files of a clone."""
    return {name: (root / name).read_bytes() for name in LOCKS}


def run_flow(root: Path, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run the flow, however long it takes."""
    return subprocess.run(
        [sys.executable, "-m", *FLOW], cwd=root, env=toy_pipeline.environment(**env),
        capture_output=True, text=True, check=False, timeout=3600,
    )  # fmt: skip


def undisturbed(repo: Path, place: Path, api: str) -> dict[str, bytes]:
    """The lock files after a run of a copy of the clone in which nothing goes wrong."""
    copy = Path(shutil.copytree(repo, place, symlinks=True))
    done = run_flow(copy, PREFECT_API_URL=api)
    assert done.returncode == 0, done.stdout + done.stderr
    return locks(copy)


DEPLOY = """
import sys
from prefect import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from flows.pipeline import pipeline
step = "set_working_directory"
with get_client(sync_client=True) as client:
    client.create_work_pool(WorkPoolCreate(name="cancel", type="process"))
    deployment = client.create_deployment(
        flow_id=client.create_flow(pipeline), name="toy", work_pool_name="cancel",
        entrypoint="flows.pipeline.pipeline",
        pull_steps=[{f"prefect.deployments.steps.{step}": {"directory": sys.argv[1]}}],
        parameter_openapi_schema=pipeline.parameters.model_dump(),
    )
    print(client.create_flow_run_from_deployment(deployment, parameters={"workers": 2}).id)
"""


@pytest.mark.verify
@pytest.mark.timeout(1200)
def test_a_run_that_is_cancelled_on_the_server_ends_its_stages_within_seconds(
    repo: Path, tmp_path: Path, prefect_api: str
) -> None:
    toy_pipeline.change_section(repo, "lift", seed=61)
    expected = undisturbed(repo, tmp_path / "copy", prefect_api)
    toy_pipeline.set_behaviour(repo, "lift", "hang")
    env = {"PREFECT_API_URL": prefect_api}
    made = subprocess.run(
        [sys.executable, "-c", DEPLOY, str(repo)], env=toy_pipeline.environment(**env),
        capture_output=True, text=True, check=True, cwd=repo,
    )  # fmt: skip
    run = f"{prefect_api}/flow_runs/{made.stdout.strip()}"
    words = ("prefect", "worker", "start", "--pool", "cancel")
    with start_process(repo, *words, log=tmp_path / "worker.log", **env):
        stage = wait_for_stage(repo, "lift")
        cancel = {"state": {"type": "CANCELLING"}, "force": True}
        request_json(f"{run}/set_state", "POST", cancel)  # what the button of the UI does
        asked = time.monotonic()
        while not has_ended(stage):
            assert time.monotonic() - asked < 90, (tmp_path / "worker.log").read_text()
        assert wait_for(lambda: request_json(run)["state"]["type"] == "CANCELLED", 120)
    print(f"ended {time.monotonic() - asked:.1f} s after it was cancelled")
    toy_pipeline.set_behaviour(repo, "lift", "")
    done = run_flow(repo, PREFECT_API_URL=prefect_api)
    assert done.returncode == 0, done.stdout + done.stderr
    assert locks(repo) == expected


@pytest.mark.verify
@pytest.mark.timeout(1200)
def test_a_run_outlives_a_restart_of_the_server(repo: Path, tmp_path: Path) -> None:
    toy_pipeline.change_section(repo, "lift", seed=60)
    (tmp_path / "home").mkdir()
    server = Server(tmp_path / "home")
    try:
        expected = undisturbed(repo, tmp_path / "copy", server.url)
        toy_pipeline.set_behaviour(repo, "lift", "last")
        log = tmp_path / "log"
        with start_process(repo, *FLOW, log=log, PREFECT_API_URL=server.url) as flow:
            wait_for_stage(repo, "lift")
            server.kill()
            time.sleep(3)
            server.start()
            toy_pipeline.set_behaviour(repo, "lift", "")
            assert flow.wait(LONG_S) == 0, log.read_text()
        assert locks(repo) == expected
    finally:
        server.kill()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 420 MB, which root may mount."""
    place = tmp_path / "disk"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=420m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(words, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.verify
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("size_mb", [250, 500])  # full in DVC's cache, full in the stage
def test_a_full_disk_loses_nothing(
    repo: Path, small_disk: Path, tmp_path: Path, prefect_api: str, size_mb: int
) -> None:
    toy_pipeline.change_section(repo, "lift", seed=59)
    code = (repo / "stage.py").read_text()
    large = f'(pathlib.Path("data/lift.csv")).write_bytes(bytes({size_mb} * 10**6))'
    (repo / "lift.py").write_text(code.replace("out.write_text(name)", large))
    dag = (repo / "dvc.yaml").read_text()
    (repo / "dvc.yaml").write_text(
        dag.replace("python stage.py lift", "python lift.py lift").replace(
            "deps: [stage.py, data/downstream]", "deps: [lift.py, data/downstream]"
        )
    )
    expected = undisturbed(repo, tmp_path / "copy", prefect_api)
    root = Path(shutil.copytree(repo, small_disk / "repo", symlinks=True))
    before = locks(root)
    done = run_flow(root, PREFECT_API_URL=prefect_api)
    assert done.returncode != 0
    last = done.stderr.splitlines()[-1]
    assert last.startswith("auglift: ") and "space left" in last, done.stderr[-3000:]
    assert locks(root) == before
    subprocess.run(["mount", "-o", "remount,size=2g", str(small_disk)], check=True)
    done = run_flow(root, PREFECT_API_URL=prefect_api)
    assert done.returncode == 0, done.stdout + done.stderr
    assert locks(root) == expected


def kill_somebody(flow: "subprocess.Popen[bytes]", chance: random.Random) -> str:
    """Kill the flow or one of the processes that it started; return which."""
    with suppress(psutil.NoSuchProcess):
        family = [psutil.Process(flow.pid), *psutil.Process(flow.pid).children(recursive=True)]
        victim = chance.choice(family)
        name = " ".join(victim.cmdline()[1:4])
        victim.send_signal(signal.SIGKILL)
        return name
    return "nobody: it had ended"


def kill_again_and_again(
    start: Path, folder: Path, expected: dict[str, bytes], seconds: float, rounds: int, **env: str
) -> None:
    """Kill some process of a run at random moments until it is done; compare the lock files."""
    seed = int.from_bytes(os.urandom(4))
    chance = random.Random(seed)
    root = Path(shutil.copytree(start, folder / "again", symlinks=True))
    case = ""
    for number in range(rounds):
        with start_process(root, *FLOW, log=folder / "log", **env) as flow:
            after = chance.uniform(0.3, seconds)
            wait_for(lambda flow=flow: flow.poll() is not None, after)  # type: ignore[misc]
            victim = kill_somebody(flow, chance)
            case = f"seed {seed}, round {number}: {victim} after {after:.1f} s"
            print(case, flush=True)
            family = (
                psutil.Process(flow.pid).children(recursive=True) if flow.poll() is None else []
            )
            try:
                flow.wait(LONG_S)
            except subprocess.TimeoutExpired:
                pytest.fail(f"{case}: no end: {(folder / 'log').read_text()}")
        assert all(has_ended(process.pid) for process in family), case
    done = run_flow(root, **env)
    assert done.returncode in (0, 3), f"{case}: {done.stderr[-3000:]}"
    assert locks(root) == expected, case
    assert not list((root / "data").rglob("*.partial")), case
    again = run_flow(root)
    assert again.stdout.startswith("Nothing to do"), f"{case}: {again.stdout}"


@pytest.mark.verify
@pytest.mark.timeout(7200)
def test_a_run_in_which_any_process_is_killed_ends_in_the_lock_of_an_undisturbed_one(
    tmp_path: Path, prefect_api: str
) -> None:
    repo = toy_pipeline.make_repo(tmp_path / "repo")
    began = time.monotonic()
    expected = undisturbed(repo, tmp_path / "copy", prefect_api)
    seconds = time.monotonic() - began
    env = {"PREFECT_API_URL": prefect_api}
    kill_again_and_again(repo, tmp_path, expected, seconds, ROUNDS, **env)


@pytest.mark.verify
@pytest.mark.timeout(14400)
def test_the_real_stages_survive_kills_of_any_process(tmp_path: Path) -> None:
    start = test_end_to_end.clone(tmp_path / "start")
    copy = Path(shutil.copytree(start, tmp_path / "copy", symlinks=True))
    began = time.monotonic()
    done = run_flow(copy)
    assert done.returncode in (0, 3), done.stderr[-3000:]
    seconds = time.monotonic() - began
    kill_again_and_again(start, tmp_path, locks(copy), seconds, ROUNDS)
