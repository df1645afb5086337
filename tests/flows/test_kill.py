"""After a kill, nothing hangs: locks die with their holders, and waits are seen and ended."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from flows.gpu_slots import ensure_gpu_limit
from flows.prefect_gpu_slots import ServerSlot
from flows.waiting import FileLock
from tests.flows import toy_pipeline
from tests.flows.in_process import run_auglift
from tests.flows.processes import (
    FLOW,
    RUN,
    has_ended,
    kill,
    start_process,
    taken_slots,
    wait_for,
    wait_for_stage,
)

ROUNDS = 20
LONG_S = 150.0  # what a busy machine may need
# The time of a whole run, from which the moment of the kill is drawn.
RUN_S = {"temporary": 16.0, "own": 10.0}


@pytest.mark.verify
def test_a_killed_holder_of_the_gpu_keeps_no_other_run_waiting(repo: Path) -> None:
    toy_pipeline.change_section(repo, "train_gan", seed=88)
    toy_pipeline.set_behaviour(repo, "train_gan", "hang")
    with start_process(repo, *FLOW) as flow:
        trainer = wait_for_stage(repo, "train_gan")
        kill(flow)
    assert has_ended(trainer)
    toy_pipeline.set_behaviour(repo, "train_gan", "")
    done = toy_pipeline.run_module(repo, *FLOW)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.verify
@pytest.mark.parametrize("server", ["temporary", "own"])
def test_a_run_that_waits_for_the_gpu_says_so_and_can_be_ended(
    repo: Path,
    tmp_path: Path,
    prefect_api: str,
    empty_prefect_database: Path,
    server: str,
) -> None:
    toy_pipeline.change_section(repo, "train_gan", seed=77)
    env = {"PREFECT_HOME": str(tmp_path / "home")}
    (tmp_path / "home").mkdir()
    shutil.copy(empty_prefect_database, tmp_path / "home/prefect.db")
    log = tmp_path / "log"
    file = FileLock(tmp_path / "home/gpu-slots/0")
    settings = {PREFECT_API_URL: prefect_api, PREFECT_HOME: tmp_path / "other"}
    with temporary_settings(settings):
        slot = ServerSlot("old", print)
        if server == "own":
            env["PREFECT_API_URL"] = prefect_api
            ensure_gpu_limit()
            assert slot.attempt() is None
        else:
            assert file.acquire("run old since 2026-01-02 03:04:05")
        with start_process(repo, *FLOW, log=log, **env) as flow:
            message = "waiting for the GPU, held by run old since 20"
            assert wait_for(lambda: message in log.read_text(), LONG_S)
            flow.send_signal(signal.SIGINT if server == "temporary" else signal.SIGTERM)
            assert flow.wait(30) == 1
        slot.free()
        file.release()
    assert "Traceback" not in log.read_text()
    assert log.read_text().splitlines()[-1].startswith("auglift: ended before it was done")


def test_a_second_run_in_a_clone_waits_for_the_first(
    repo: Path, tmp_path: Path, prefect_api: str
) -> None:
    toy_pipeline.change_section(repo, "lift", seed=66)
    toy_pipeline.set_behaviour(repo, "lift", "last")
    log = tmp_path / "log"
    with start_process(repo, *FLOW, PREFECT_API_URL=prefect_api) as first:
        wait_for_stage(repo, "lift")
        with start_process(repo, *RUN, log=log, PREFECT_API_URL=prefect_api) as second:
            assert wait_for(
                lambda: "waiting for this clone, held by run" in log.read_text(), LONG_S
            )
            toy_pipeline.set_behaviour(repo, "lift", "")
            assert first.wait(LONG_S) == 0
            assert second.wait(LONG_S) == 0
    assert "Nothing to do" in log.read_text()


def test_a_run_waits_for_dvc_repro_and_finds_its_work_done(repo: Path, tmp_path: Path) -> None:
    toy_pipeline.change_section(repo, "lift", seed=65)
    toy_pipeline.set_behaviour(repo, "lift", "last")
    log = tmp_path / "log"
    with start_process(repo, "dvc", "repro") as dvc:
        wait_for_stage(repo, "lift")
        with start_process(repo, *RUN, log=log) as flow:
            assert wait_for(
                lambda: re.search(r"waiting for `.*repro` \(process", log.read_text()), 60
            )
            toy_pipeline.set_behaviour(repo, "lift", "")
            assert dvc.wait(LONG_S) == 0
            assert flow.wait(LONG_S) == 0
    assert "Nothing to do" in log.read_text()


@pytest.mark.verify
def test_a_stage_waits_for_a_dvc_repro_that_came_later(
    repo: Path, tmp_path: Path, prefect_api: str
) -> None:
    toy_pipeline.change_section(repo, "gate", seed=64)
    toy_pipeline.change_section(repo, "lift", seed=64)
    for stage in ("gate", "lift"):
        toy_pipeline.set_behaviour(repo, stage, "last")
    log = tmp_path / "log"
    with start_process(repo, *FLOW, log=log, PREFECT_API_URL=prefect_api) as flow:
        wait_for_stage(repo, "gate")
        with start_process(repo, "dvc", "repro", "--single-item", "lift") as dvc:
            wait_for_stage(repo, "lift")
            toy_pipeline.set_behaviour(repo, "gate", "")
            assert wait_for(lambda: "which uses data/" in log.read_text(), LONG_S)
            toy_pipeline.set_behaviour(repo, "lift", "")
            assert dvc.wait(LONG_S) == 0
        assert flow.wait(LONG_S) == 0
    assert "up to date" in toy_pipeline.run_module(repo, "dvc", "repro").stdout


@pytest.mark.parametrize("kind", ["dead", pytest.param("torn", marks=pytest.mark.verify)])
def test_what_a_dead_dvc_left_is_no_obstacle(
    repo: Path, prefect_api: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repo)
    toy_pipeline.change_section(repo, "lift", seed=63)
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    assert wait_for(lambda: Path(f"/proc/{zombie.pid}/stat").read_text().split()[2] == "Z", 20)
    entries = [{"pid": pid, "cmd": "/bin/dvc repro"} for pid in (os.getppid(), zombie.pid)]
    paths = [str(repo / "data/lift.csv"), str(repo / "data/downstream")]
    text = json.dumps({"write": dict(zip(paths, entries, strict=True))})
    (repo / ".dvc/tmp/rwlock").write_text(text[:20] if kind == "torn" else text)
    code = run_auglift("run", api=prefect_api)
    zombie.wait()
    assert code == 0


def test_dvc_of_a_flow_leaves_its_lock_file_whole(repo: Path) -> None:
    code = (
        "import os, sys, flows.dvc_process as p\n"
        "def torn(data, file, **options):\n"
        "    file.write('schema'); file.flush(); os._exit(9)\n"
        "from dvc.utils.serialize import _common, _yaml\n"
        "whole = p.dump_atomically\n"
        "p.dump_atomically = lambda path, data, dumper, **o: whole(path, data, torn, **o)\n"
        "sys.argv[1:] = ['repro', '--single-item', 'lift']\n"
        "p.main()\n"
    )
    toy_pipeline.change_section(repo, "lift", seed=62)
    before = (repo / "dvc.lock").read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repo, env=toy_pipeline.environment(), check=False
    )
    assert done.returncode == 9
    assert (repo / "dvc.lock").read_bytes() == before


@pytest.mark.verify
@pytest.mark.timeout(5400)
@pytest.mark.parametrize("server", ["temporary", "own"])
def test_runs_after_kills_at_many_moments(
    finished: Path, tmp_path: Path, prefect_api: str, server: str
) -> None:
    kill_and_run_again(finished, tmp_path, prefect_api if server == "own" else None)


def kill_and_run_again(finished: Path, folder: Path, api: str | None) -> None:
    """Kill a run at a random moment, and run again at once: it has to end well, every time."""
    seed = int.from_bytes(os.urandom(4))
    moments = random.Random(seed)
    root = shutil.copytree(finished, folder / "repo", symlinks=True)
    env = {"PREFECT_API_URL": api} if api else {}
    for number in range(ROUNDS):
        print(f"{time.strftime('%X')} round {number}", flush=True)
        toy_pipeline.change_section(root, "train_gan", seed=1000 + number)
        after = moments.uniform(0.2, RUN_S["own" if api else "temporary"])
        with start_process(root, *FLOW, **env) as flow:
            wait_for(lambda flow=flow: flow.poll() is not None, after)  # type: ignore[misc]
        log = folder / f"log-{number}"
        case = f"seed {seed}, round {number}, killed after {after:.2f} s"
        with start_process(root, *FLOW, log=log, **env) as flow:
            try:
                assert flow.wait(2 * LONG_S) == 0, f"{case}: {log.read_text()}"
            except subprocess.TimeoutExpired:
                pytest.fail(f"{case}: no end: {log.read_text()}")
        assert "Traceback" not in log.read_text(), f"{case}: {log.read_text()}"
        assert not list((root / "data").rglob(".*.partial"))
        assert api is None or taken_slots(api) == 0, case
