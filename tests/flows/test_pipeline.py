"""The flow's promises, on a toy repository whose stages take a moment each."""

import json
import signal
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows import toy_pipeline
from tests.flows.in_process import run_auglift
from tests.flows.processes import FLOW, has_ended, request_json, start_process, wait_for_stage


def test_flow_and_dvc_repro_leave_the_same_lock_and_nothing_to_do(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = toy_pipeline.make_repo(tmp_path / "repo")
    assert toy_pipeline.run_module(other, "dvc", "repro").returncode == 0
    for lock in ("dvc.lock", "data/raw/dvc.lock"):
        assert (other / lock).read_bytes() == (finished / lock).read_bytes()

    monkeypatch.chdir(other)
    assert run_auglift("run") == 0
    assert capsys.readouterr().out.startswith("Nothing to do: all 10 stages are up to date.")
    assert "up to date" in toy_pipeline.run_module(finished, "dvc", "repro").stdout


def test_siblings_run_at_once_and_trainers_take_turns(finished: Path) -> None:
    def moments(stage: str) -> list[str]:
        return [
            what
            for what, _, _ in sorted(toy_pipeline.read_log(finished, stage), key=lambda row: row[1])
        ]

    assert moments("downstream") == ["start", "start", "end", "end"]
    assert moments("train_gan") == ["start", "end", "start", "end"]


def test_only_what_changed_runs_and_a_rejection_is_a_failed_state_of_its_own_name(
    repo: Path,
    prefect_api: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(repo)
    before = stages_begun(repo)
    toy_pipeline.change_section(repo, "gate", seed=98)
    toy_pipeline.set_behaviour(repo, "gate", "reject")
    toy_pipeline.change_section(repo, "lift", seed=98)
    toy_pipeline.set_behaviour(repo, "lift", "once")  # fails by chance, and is tried again
    assert run_auglift("run", "--workers", "2", api=prefect_api) == 3
    assert stages_begun(repo) - before == Counter(gate=2, downstream=2, lift=2)
    assert not (repo / "told/lift").exists()
    assert "Rejected: fold 0: reject" in capsys.readouterr().err
    states = {(run["state_name"], run["state_type"]) for run in flow_runs(prefect_api)}
    assert ("Rejected", "FAILED") in states

    assert run_auglift("run") == 3
    assert capsys.readouterr().out.startswith("Nothing to do")


def stages_begun(root: Path) -> Counter[str]:
    """How often each stage began."""
    rows = [line.split() for line in (root / "told/log").read_text().splitlines()]
    return Counter(stage for stage, what, *_ in rows if what == "start")


def test_wrong_input_is_one_line_and_no_second_try(
    repo: Path,
    prefect_api: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(repo)
    toy_pipeline.change_section(repo, "lift", seed=97)
    toy_pipeline.set_behaviour(repo, "lift", "wrong")
    before = stages_begun(repo)
    assert run_auglift("run", api=prefect_api) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "auglift: lift: found nothing, expected something; bring it"
    )
    assert not (repo / "data/lift.csv").exists()
    assert stages_begun(repo) - before == Counter(lift=1)


@pytest.mark.parametrize(
    "number",
    [
        None,  # cancelled on the server
        pytest.param(signal.SIGTERM, marks=pytest.mark.verify),
        pytest.param(signal.SIGINT, marks=pytest.mark.verify),
        pytest.param(signal.SIGKILL, marks=pytest.mark.verify),
    ],
)
def test_a_flow_that_is_ended_leaves_no_stage_behind(
    repo: Path, prefect_api: str, number: signal.Signals | None
) -> None:
    toy_pipeline.change_section(repo, "lift", seed=95)
    toy_pipeline.set_behaviour(repo, "lift", "hang")
    with start_process(repo, *FLOW, PREFECT_API_URL=prefect_api) as flow:
        stage = wait_for_stage(repo, "lift")
        if number is None:
            run = last_running(prefect_api)
            asked = {"state": {"type": "CANCELLING"}, "force": True}  # as the button does
            request_json(f"{prefect_api}/flow_runs/{run}/set_state", "POST", asked)
        else:
            flow.send_signal(number)
        assert flow.wait(40) != 0
        assert has_ended(stage)
    if number is None:
        state = request_json(f"{prefect_api}/flow_runs/{run}")["state"]
        assert (state["type"], state["message"]) == (
            "CANCELLED", "cancelled on the server; the next run goes on from here"
        )  # fmt: skip
    assert not (repo / "data/lift.csv").exists()


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_a_stage_dies_with_a_killed_dvc(repo: Path, shell: str) -> None:
    toy_pipeline.change_section(repo, "lift", seed=94)
    toy_pipeline.set_behaviour(repo, "lift", "hang")
    words = ("dvc", "repro", "--single-item", "lift")
    with start_process(repo, *words, SHELL=shell) as dvc:
        stage = wait_for_stage(repo, "lift")
        dvc.kill()
        assert has_ended(stage)


def last_running(api: str) -> str:
    """The flow run that began last, of those that run."""
    body = {"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}, "sort": "START_TIME_DESC"}
    return str(request_json(f"{api}/flow_runs/filter", "POST", body)[0]["id"])


def flow_runs(api: str) -> Iterator[dict[str, str]]:
    request = urllib.request.Request(
        f"{api}/flow_runs/filter",
        data=b"{}",
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        yield from json.load(answer)
