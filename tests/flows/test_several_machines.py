"""One run by several machines: two clones, two workers, a DVC remote."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from unittest.mock import MagicMock, Mock
from uuid import uuid4

import httpx
import pytest
from prefect.client.schemas.objects import FlowRun, State, StateType

from flows import remote_runner
from flows.dvc_command import run_dvc
from flows.dvc_graph import Plan, Stage, TaskOptions, exchange_run_cache, read_plan
from flows.dvc_runner import DvcRunner, NotRestored, ReproOptions, StageOutcome
from flows.remote_runner import RemoteRunner, look_at_run, remove_old_signs
from flows.stage_exchange import (
    StageRequest,
    can_travel,
    check_exchange,
    check_own_clone,
    make_request,
    name_clone,
    prepare_worker,
    push_result,
    remove_leftovers,
)
from flows.stage_worker import write_sign
from tasks.stage.errors import InputError
from tests.flows import dag_with_quick_stages, toy_pipeline
from tests.flows.processes import start_process
from tests.flows.s3_store import s3_store
from tests.flows.stage_deployment import DEPLOY

DAG = """
stages:
  ingest:
    cmd: exec python stage.py ingest data/volumes/a
    deps: [stage.py, data/raw/a]
    outs: [data/volumes/a]
  train:
    foreach: [0, 1]
    do:
      cmd: exec python stage.py train data/gan/${item}
      deps: [stage.py, data/volumes]
      outs: ["data/gan/${item}"]
  lift:
    cmd: exec python stage.py lift data/lift
    deps: [stage.py, data/gan]
    outs: [data/lift]
"""
# The two trainings wait for each other: no worker can run both.
STAGE = """
import os, pathlib, sys, time
from tasks.stage.processes import die_with_parent
die_with_parent()
name, out = sys.argv[1], pathlib.Path(sys.argv[2])
log = pathlib.Path(os.environ["STAGE_LOG"])
with log.open("a") as file:
    print(out, pathlib.Path.cwd().name, file=file)
deadline = time.monotonic() + 400
while name == "train" and "MEET" in os.environ and log.read_text().count("data/gan/") < 2:
    assert time.monotonic() < deadline
    time.sleep(0.1)
out.mkdir(parents=True)
(out / "out.txt").write_text(str(out))
"""


def make_origin(root: Path, remote: str, *options: str) -> Path:
    """A clone with a tracked batch and a DVC remote, all committed."""
    root.mkdir()
    for name, content in {"dvc.yaml": DAG, "stage.py": STAGE, "data/raw/a/1.dcm": "scan"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    for name in (".gitignore", ".dvcignore", ".dvc/config", ".dvc/.gitignore", "params.yaml"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(toy_pipeline.ROOT / name, root / name)
    dag_with_quick_stages.git(root, "init", "-q")
    dag_with_quick_stages.dvc(root, "remote", "add", "--default", "store", remote)
    for option in options:
        dag_with_quick_stages.dvc(root, "remote", "modify", "store", *option.split("="))
    dag_with_quick_stages.dvc(root, "add", "data/raw/a")
    dag_with_quick_stages.commit(root)
    return root


@pytest.fixture(params=["folder", "s3"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """The address of a DVC remote and its options: a folder, or a bucket on this machine."""
    if request.param == "folder":
        yield (str(tmp_path / "store"),)
        return
    with s3_store(tmp_path) as options:
        yield options


RUN = """
import sys
from prefect import flow
from flows.dvc_graph import read_plan, sort_lock
from flows.remote_runner import RemoteRunner
from flows.stage_runs import run_changed_stages

@flow
def run():
    plan = read_plan()
    runner = RemoteRunner("auglift-stage/stage", plan, {})
    return run_changed_stages(plan, 4, runner)

print(run())
sort_lock()
"""


@pytest.mark.verify
@pytest.mark.timeout(3600)
def test_two_workers_share_a_run_and_end_in_the_bytes_of_one_machine(
    tmp_path: Path, prefect_api: str, remote: tuple[str, ...]
) -> None:
    one = make_origin(tmp_path / "one", *remote)
    log = tmp_path / "log"
    env = {"STAGE_LOG": str(log), "PREFECT_API_URL": prefect_api}
    workers = [tmp_path / name for name in ("w0", "w1")]
    coordinator = tmp_path / "coordinator"
    for clone in [*workers, coordinator]:
        subprocess.run(["git", "clone", "-q", str(one), str(clone)], check=True)
    dag_with_quick_stages.dvc(one, "push")
    dag_with_quick_stages.dvc(coordinator, "pull", "data/raw/a.dvc")
    log.write_text("")
    os.environ["STAGE_LOG"] = str(log)
    dag_with_quick_stages.dvc(one, "repro")  # the run on one machine, which shares no cache
    expected = (one / "dvc.lock").read_bytes()
    log.write_text("")
    python = [sys.executable, "-c"]
    done = subprocess.run(
        [*python, DEPLOY], env=toy_pipeline.environment(**env), cwd=coordinator, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with ExitStack() as running:
        for clone in workers:
            (clone / "data/volumes/left").mkdir(parents=True)
            (clone / "data/volumes/left/over.txt").write_text("of an earlier run")
            (clone / "stage.py").write_text("raise SystemExit('changed by hand')")
            words = ("prefect", "worker", "start", "--pool", "machines", "--limit", "1")
            running.enter_context(
                start_process(
                    clone, *words, "--name", clone.name, log=tmp_path / f"{clone.name}.log",
                    AUGLIFT_CLONE=str(clone), MEET="1", **env,
                )
            )  # fmt: skip
        done = subprocess.run(
            [*python, RUN], env=toy_pipeline.environment(**env), cwd=coordinator, check=False,
            capture_output=True, text=True, timeout=3000,
        )  # fmt: skip
    told = "\n".join((tmp_path / f"{w.name}.log").read_text()[-3000:] for w in workers)
    assert done.returncode == 0, done.stdout + done.stderr[-6000:] + told
    rows = [line.split() for line in log.read_text().splitlines()]
    assert sorted(out for out, _ in rows) == [
        "data/gan/0", "data/gan/1", "data/lift", "data/volumes/a",
    ], (rows, told)  # fmt: skip
    assert {clone for _, clone in rows} == {"w0", "w1"}
    assert (coordinator / "dvc.lock").read_bytes() == expected
    assert "up to date" in toy_pipeline.run_module(coordinator, "dvc", "repro").stdout


@pytest.mark.verify
def test_a_stage_that_another_clone_ran_is_restored_with_the_bytes_of_one_machine(
    tmp_path: Path, remote: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the coordinator and a worker do, without Prefect between them."""
    one = make_origin(tmp_path / "one", *remote)
    coordinator, worker = tmp_path / "coordinator", tmp_path / "worker"
    for clone in (worker, coordinator):
        subprocess.run(["git", "clone", "-q", str(one), str(clone)], check=True)
    log = tmp_path / "log"
    monkeypatch.setenv("STAGE_LOG", str(log))
    monkeypatch.setenv("PYTHONPATH", str(toy_pipeline.ROOT))
    dag_with_quick_stages.dvc(one, "push")
    dag_with_quick_stages.dvc(one, "repro", "train@0")
    (worker / "data/volumes/left").mkdir(parents=True)
    (worker / "data/volumes/left/over.txt").write_text("of an earlier run")
    (worker / "stage.py").write_text("raise SystemExit('changed by hand')")
    log.write_text("")
    for address in ("ingest", "train@0"):
        monkeypatch.chdir(coordinator)
        if address == "ingest":
            run_dvc("pull", "data/raw/a.dvc")
        plan = read_plan(names=["train@0"])
        outputs = {stage.address: stage.writes for stage in plan.stages}
        (stage,) = (stage for stage in plan.changed if stage.address == address)
        assert can_travel(stage, outputs)
        request = make_request(stage, outputs, check_exchange(), {})
        request = StageRequest.model_validate_json(request.model_dump_json())  # as Prefect hands it
        monkeypatch.chdir(worker)
        prepare_worker(request)
        if address == "ingest":  # what no clone ran is not restored, and not run in place of that
            with pytest.raises(NotRestored):
                DvcRunner().repro(address, print, ReproOptions(restore=True))
            assert log.read_text() == ""
        assert DvcRunner().repro(address, print) is StageOutcome.RAN
        push_result(address)
        monkeypatch.chdir(coordinator)
        exchange_run_cache("pull")
        restored = DvcRunner().repro(address, print, ReproOptions(restore=True))
        assert restored is StageOutcome.RESTORED
    assert log.read_text().split() == ["data/volumes/a", "worker", "data/gan/0", "worker"]
    assert (coordinator / "dvc.lock").read_bytes() == (one / "dvc.lock").read_bytes()
    out = Path("data/gan/0/out.txt")
    assert (coordinator / out).read_bytes() == (one / out).read_bytes()


def request(**values: object) -> StageRequest:
    """A worker's request, with what matters to a test."""
    usual = {"address": "train@0", "commit": "c", "options": TaskOptions(), "needs": (),
             "locks": {}, "inputs": (), "keep": ()}  # fmt: skip
    return StageRequest.model_validate(usual | values)


def test_a_worker_removes_what_would_change_the_hash_of_a_folder_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    dag_with_quick_stages.git(tmp_path, "init", "-q")
    own = "data/volumes/own/in_git/1"
    left_over = ("data/volumes/old/1", "data/volumes/own/old/1")
    for path in ("data/volumes/a/1", own, *left_over, "data/slices/1", "data/raw/b/1"):
        Path(path).parent.mkdir(parents=True)
        Path(path).touch()
    dag_with_quick_stages.git(tmp_path, "add", "-f", own)
    remove_leftovers(
        request(inputs=("data/volumes", "data/slices"), keep=("data/volumes/a", "data/slices"))
    )
    left = sorted(str(path) for path in Path("data").rglob("1"))
    assert left == ["data/raw/b/1", "data/slices/1", "data/volumes/a/1", own]


def test_a_stage_travels_only_with_inputs_that_git_or_a_stage_provides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    dag_with_quick_stages.git(tmp_path, "init", "-q")
    for path in ("code/a.py", "data/approval.json"):
        Path(path).parent.mkdir(parents=True)
        Path(path).touch()
    dag_with_quick_stages.commit(tmp_path)
    Path("data/raw/x").mkdir(parents=True)
    outputs = {"ingest@x": ("data/volumes/x",)}

    def travels(*reads: str) -> bool:
        stage = Stage("s", frozenset(outputs), True, TaskOptions(), reads=reads)
        return can_travel(stage, outputs)

    assert travels("code", "code/a.py", "data/volumes", "data/volumes/x", "data/approval.json")
    assert not travels("data/raw/x")
    needs = Stage("s", frozenset({"code/a.dvc"}), True, TaskOptions())
    assert not can_travel(needs, {"code/a.dvc": ("code/a",)})
    Path("data/approval.json").write_text("approved, not yet committed")
    assert not travels("data/approval.json")


@pytest.mark.parametrize(
    ("kind", "silent_s", "watched_s", "ends"),
    [
        (StateType.PENDING, 400, 90, False), (StateType.PENDING, 2000, 90, True),
        (StateType.CANCELLING, 400, 90, True), (StateType.RUNNING, 400, 90, True),
        (StateType.RUNNING, 200, 90, False), (StateType.SCHEDULED, 9000, 90, False),
        (StateType.RUNNING, 400, 2, False),  # the server was down; the next sign may be on its way
    ],
)  # fmt: skip
def test_a_worker_that_is_silent_in_any_state_is_taken_for_lost(
    kind: StateType, silent_s: float, watched_s: float, ends: bool
) -> None:
    now = datetime.now(UTC)
    state = State(type=kind, timestamp=now - timedelta(seconds=silent_s))
    run = FlowRun(flow_id=uuid4(), name="train@0", state=state)
    client = Mock()
    client.read_flow_run.return_value = run
    client.request.return_value.headers = {"date": format_datetime(now, usegmt=True)}
    client.request.return_value.json.return_value = []
    look_at_run(client, run.id, watched_s)
    assert client.set_flow_run_state.called is ends


def test_signs_of_life_of_dead_workers_are_removed_and_a_living_one_writes_its_anew() -> None:
    now = datetime.now(UTC)
    ages = {"auglift-stage-dead": 90000, "auglift-stage-alive": 400}
    client = Mock()
    client.request.return_value.headers = {"date": format_datetime(now, usegmt=True)}
    client.request.return_value.json.return_value = [
        {"name": name, "updated": (now - timedelta(seconds=age)).isoformat()}
        for name, age in ages.items()
    ]
    remove_old_signs(client)
    assert client.request.call_count == 2
    client.request.assert_called_with("DELETE", "/variables/name/auglift-stage-dead")
    gone = httpx.HTTPStatusError("gone", request=Mock(), response=httpx.Response(404))
    client.request = Mock(side_effect=[gone, None])
    write_sign(client, "auglift-stage-alive", "machine")
    value = {"name": "auglift-stage-alive", "value": "machine"}
    client.request.assert_called_with("POST", "/variables/", json=value)


def test_a_result_that_the_remote_lost_is_computed_within_the_limits_of_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("check_exchange", "get_client", "can_travel", "make_request", "remove_old_signs"):
        monkeypatch.setattr(remote_runner, name, MagicMock())
    monkeypatch.setattr(remote_runner, "exchange_run_cache", lambda _: None)
    monkeypatch.setattr(RemoteRunner, "_run_by_a_worker", lambda *_: "Completed")
    restore = Mock(side_effect=[NotRestored("", 1), StageOutcome.RESTORED])
    monkeypatch.setattr(RemoteRunner, "repro", restore)
    stage, said = Stage("train@0", frozenset(), True, TaskOptions()), list[str]()
    runner = RemoteRunner("auglift-stage/stage", Plan((stage,)), {})
    assert runner.run_elsewhere(stage, said.append) is None  # `run_here` takes cores and GPU
    assert said == ["the remote does not have the worker's result; it runs on this machine"]
    assert runner.run_elsewhere(stage, said.append) is StageOutcome.RAN


def test_a_worker_in_the_coordinators_clone_is_refused_instead_of_waiting_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(coordinator=name_clone())
    with pytest.raises(InputError, match="AUGLIFT_CLONE"):
        check_own_clone(asked)
    monkeypatch.chdir(tmp_path)
    check_own_clone(asked)
