"""Cores and GPUs of one machine: nobody takes what another holds, and all is given back."""

import threading
from pathlib import Path
from unittest.mock import MagicMock

import httpx
import pytest
from prefect.settings import PREFECT_HOME, temporary_settings

from flows import core_slots, gpu_devices, stage_progress
from flows.core_slots import hold_cores, take_free_cores, wanted_cores
from flows.dvc_graph import TaskOptions, explain_status
from flows.gpu_devices import GPU_IF_ANY, VISIBLE, hold_gpu_device, needs_gpu_slot
from flows.prefect_gpu_slots import GPU
from flows.run_failure import StageFailed
from flows.stage_progress import ProgressArtifact, parse_progress
from tasks.stage.errors import InputError
from tests.imports import ROOT


@pytest.fixture(autouse=True)
def four_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setenv(core_slots.CORES_VARIABLE, "4")
    with temporary_settings({PREFECT_HOME: tmp_path}):
        yield


def test_stages_hold_no_more_cores_than_there_are_and_give_them_back() -> None:
    ended, said = threading.Event(), list[str]()
    with hold_cores(3, said.append, ended):
        assert take_free_cores(2, "another")[0] == []
        one, _ = take_free_cores(1, "another")
        assert len(one) == 1
        ended.set()
        with pytest.raises(StageFailed), hold_cores(1, said.append, ended):
            pass
        assert said[0].startswith("waiting for a core, held by another and by run unnamed since ")
        one[0].release()
    whole, _ = take_free_cores(4, "another")
    assert len(whole) == 4
    for lock in whole:
        lock.release()


@pytest.mark.parametrize(
    ("cores", "number"),
    [(1, 1), (9, 4), ("all", 4), ("gate.threads", 2), ("teacher.threads", 1)],
)
def test_cores_are_a_number_a_key_of_params_or_all(
    cores: int | str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert wanted_cores(TaskOptions(cores=cores).cores) == number


def test_a_number_of_cores_that_is_none_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(core_slots.CORES_VARIABLE, "many")
    with pytest.raises(InputError, match="expected a number of cores"):
        wanted_cores(1)


def test_trainers_that_run_at_once_see_a_gpu_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "2,GPU-5f/a")
    monkeypatch.setattr(gpu_devices, "trainers_at_once", lambda: 2)
    ended = threading.Event()
    with hold_gpu_device(str, ended) as first, hold_gpu_device(str, ended) as second:
        assert [first[VISIBLE], second[VISIBLE]] == ["2", "GPU-5f/a"]
        ended.set()
        with pytest.raises(StageFailed), hold_gpu_device(str, ended):
            pass
    with hold_gpu_device(str, ended) as again:
        assert again[VISIBLE] == "2"


def test_workers_that_see_the_same_single_gpu_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "3")
    monkeypatch.setattr(gpu_devices, "trainers_at_once", lambda: 2)
    ended = threading.Event()
    with hold_gpu_device(str, ended) as found:
        assert found == {VISIBLE: "3"}
        ended.set()
        with pytest.raises(StageFailed), hold_gpu_device(str, ended):
            pass


@pytest.mark.parametrize(("devices", "waits"), [("0", True), ("", False)])
def test_a_stage_that_can_do_without_a_gpu_waits_for_one_only_where_there_is_one(
    devices: str, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VISIBLE, devices)
    assert needs_gpu_slot({GPU_IF_ANY}) is waits
    assert needs_gpu_slot({GPU}) and not needs_gpu_slot(set())


@pytest.mark.parametrize(("devices", "trainers"), [("0,1", 1), ("", 2)])
def test_a_single_trainer_or_a_worker_without_a_gpu_needs_no_choice(
    devices: str, trainers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VISIBLE, devices)
    monkeypatch.setattr(gpu_devices, "trainers_at_once", lambda: trainers)
    with hold_gpu_device(str, threading.Event()) as found:
        assert found == {}


@pytest.mark.parametrize(
    ("line", "percent"),
    [
        ("train_gan@0:  12%|█▎        | 300/2400 [00:10<01:11, fd=3.1/2.0]", 12),
        ("ingest@ward:  40%|####      | 4/10 [00:01<00:02]", 40),
        ("7/20", 35),
        ("generate: 3/4 of the slices were sampled again", None),
        ("100% of the slices passed", None),
        ("0/0", None),
    ],
)
def test_progress_is_read_from_bars_and_counts_alone(line: str, percent: float | None) -> None:
    found = parse_progress(line)
    assert (found and found[0]) == percent


def test_what_changed_is_said_in_one_line() -> None:
    changes = [
        {"changed deps": {"data/slices": "modified", "params.yaml": {"gate.seed": "modified"}}},
        {"changed outs": {"data/gate/0": "deleted", "a": "new", "b": "new"}},
        "changed command",
    ]
    assert explain_status(changes) == (
        "data/slices modified, gate.seed of params.yaml modified, output data/gate/0 deleted,"
        " output a new and 2 more"
    )


def test_a_server_that_hangs_is_asked_for_a_bar_once_in_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(stage_progress, "time", MagicMock(monotonic=lambda: clock[0]))
    server = MagicMock()
    monkeypatch.setattr(stage_progress, "server_client", server)
    client = server.return_value.__enter__.return_value
    server.return_value.__exit__.return_value = False
    client.create_artifact.side_effect = httpx.ReadTimeout("hangs")
    bar = ProgressArtifact("train_gan@0")
    for _ in range(12):
        bar.read("3/20")
        bar.show(15, "3 of 20")
        clock[0] += 5
    assert server.call_args_list == [((0, stage_progress.ANSWER_LIMIT_S),)]
    client.create_artifact.side_effect = None
    clock[0] += 1
    bar.read("16/20")
    bar.finish()
    assert client.create_artifact.call_args.args[0].data == 80
    assert client.update_artifact.call_args.args[1].data == 100
