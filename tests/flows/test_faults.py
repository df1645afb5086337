"""Faults in the midst of a run: the next run repairs what is needed and ends in an equal lock."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows import toy_pipeline
from tests.flows.kills import (
    LONG_S,
    cancel_on_server,
    kill_again_and_again,
    locks,
    run_flow,
    undisturbed,
)
from tests.flows.processes import FLOW, Server, start_process, wait_for_stage

ROUNDS = int(os.environ.get("AUGLIFT_KILLS", "20"))


@pytest.mark.verify
@pytest.mark.timeout(1200)
def test_a_run_that_is_cancelled_on_the_server_ends_its_stages_within_seconds(
    repo: Path, tmp_path: Path, prefect_api: str
) -> None:
    toy_pipeline.change_section(repo, "lift", seed=61)
    expected, _ = undisturbed(repo, tmp_path / "copy", PREFECT_API_URL=prefect_api)
    toy_pipeline.set_behaviour(repo, "lift", "hang")
    cancel_on_server(repo, prefect_api, tmp_path, lambda: wait_for_stage(repo, "lift"))
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
        expected, _ = undisturbed(repo, tmp_path / "copy", PREFECT_API_URL=server.url)
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
    expected, _ = undisturbed(repo, tmp_path / "copy", PREFECT_API_URL=prefect_api)
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


@pytest.mark.verify
@pytest.mark.timeout(7200)
def test_a_run_in_which_any_process_is_killed_ends_in_the_lock_of_an_undisturbed_one(
    tmp_path: Path, prefect_api: str
) -> None:
    repo = toy_pipeline.make_repo(tmp_path / "repo")
    env = {"PREFECT_API_URL": prefect_api}
    expected, seconds = undisturbed(repo, tmp_path / "copy", **env)
    kill_again_and_again(repo, tmp_path, expected, seconds, ROUNDS, **env)
