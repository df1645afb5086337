"""A search over a toy trainer: several at once, killed, taken up, pruned, recorded, applied."""

import csv
import io
import math
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import yaml
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_LOGGING_TO_API_ENABLED,
    temporary_settings,
)

from flows.tune_deployment import tune
from tasks.stage.stage_io import file_lock
from tests.flows import toy_pipeline, toy_trainer
from tests.flows.in_process import run_auglift
from tests.flows.processes import has_ended, request_json, wait_for

pytestmark = pytest.mark.timeout(900)  # most of it is waiting for processes

RATES = (0.001, 0.002, 0.003, 0.005, 0.1)
SPACE = f"train_gan.learning_rate={','.join(map(str, RATES))}"
OPTIONS = ("--name", "toy", "--sampler", "grid", "--workers", "2", "--set", SPACE)


def log(root: Path) -> list[tuple[str, float, int, int, float]]:
    """What the trainer did: start or end, its rate, rows done before, its process, when."""
    rows = [line.split() for line in (root.parent / "log").read_text().splitlines()]
    return [(w, float(rate), int(done), int(pid), float(at)) for w, rate, done, pid, at in rows]


@pytest.fixture(scope="module")
def searched(
    tmp_path_factory: pytest.TempPathFactory, prefect_api: str
) -> Iterator[tuple[Path, str]]:
    """A search that was killed in the midst of two trials, and started again; what that said."""
    root = toy_trainer.make_repo(tmp_path_factory.mktemp("tune") / "repo")
    (root.parent / "slow").touch()
    (root.parent / "log").touch()
    env = {"TOY_LOG": str(root.parent / "log"), "PREFECT_API_URL": prefect_api}
    first = subprocess.Popen(
        [sys.executable, "-m", "flows.tune", *OPTIONS],
        cwd=root,
        env=toy_pipeline.environment(**env),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    trials = root / ".tune/toy/trials"
    try:
        assert wait_for(lambda: len([*trials.glob("*/.checkpoints/toy.json")]) == 2, 120)
        assert wait_for(
            lambda: all(p.read_text().count("[") > 5 for p in trials.glob("*/.checkpoints/*")), 60
        )
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    assert all(has_ended(pid) for _, _, _, pid, _ in log(root))
    with (root.parent / "log").open("a") as file:
        print("killed", 0, 0, 0, time.time(), file=file)
    (root.parent / "slow").unlink()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as output:
        patch.chdir(root)
        patch.setenv("TOY_LOG", env["TOY_LOG"])
        patch.setenv("PYTHONPATH", str(toy_pipeline.ROOT))
        code = run_auglift("tune", *OPTIONS, "--apply", api=prefect_api)
    assert code == 0, output.getvalue()
    yield root, output.getvalue()


def test_a_killed_search_goes_on_from_the_trainers_checkpoints(
    searched: tuple[Path, str],
) -> None:
    root, _ = searched
    starts = [(rate, rows) for what, rate, rows, _, _ in log(root) if what == "start"]
    fresh = [rate for rate, rows in starts if rows == 0]
    assert sorted(fresh) == sorted(RATES)  # none was begun anew
    assert len([rows for _, rows in starts if rows > 0]) == 2


def test_every_trial_is_in_the_table_and_the_one_that_lags_was_stopped(
    searched: tuple[Path, str],
) -> None:
    root, _ = searched
    with (root / ".tune/toy/trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    rates = [float(row["train_gan.learning_rate"]) for row in rows]
    assert rates == [0.003, 0.001, 0.005, 0.002, 0.1]
    assert [row["state"] for row in rows] == ["done"] * 3 + ["collapsed", "stopped"]
    for row in rows[:4]:
        expected = 2 + 4 * abs(math.log10(float(row["train_gan.learning_rate"]) / 0.002))
        assert math.isclose(float(row["frechet_ratio"]), expected)
    assert rows[4]["frechet_ratio"] == "" and int(rows[4]["steps"]) < 100
    assert all(has_ended(pid) for _, rate, _, pid, _ in log(root) if rate == 0.1)


def test_two_trials_run_at_once_and_never_three(
    searched: tuple[Path, str],
) -> None:
    root, _ = searched
    running, most = set(), 0
    for what, rate, _, _, _ in sorted(log(root), key=lambda row: row[4]):
        if what == "killed":
            running.clear()
            continue
        (running.add if what == "start" else running.discard)(rate)
        most = max(most, len(running))
    assert most == 2


def test_trials_that_ended_well_are_experiments_and_leave_a_generator_and_no_clone(
    searched: tuple[Path, str],
) -> None:
    root, _ = searched
    refs = toy_trainer.git(root, "for-each-ref", "--format=%(refname)", "refs/exps").split()
    ref_of_experiment = {ref.rpartition("/")[2]: ref for ref in refs}
    with (root / ".tune/toy/trials.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["state"] != "stopped"]
    assert {row["experiment"] for row in rows} == ref_of_experiment.keys()
    for row in rows:
        text = toy_trainer.git(root, "show", f"{ref_of_experiment[row['experiment']]}:params.yaml")
        rate = yaml.safe_load(text)["train_gan"]["learning_rate"]
        assert float(rate) == float(row["train_gan.learning_rate"])
        assert "data/gan/0" in toy_trainer.git(
            root, "show", f"{ref_of_experiment[row['experiment']]}:dvc.lock"
        )
    assert not list((root / ".tune/toy/trials").iterdir())
    kept = {path.parent.name for path in root.glob(".tune/toy/generators/*/generator.safetensors")}
    assert kept == {row["trial"] for row in rows}  # for readers to compare
    assert toy_trainer.git(root, "status", "--porcelain", "--", ".tune") == ""


def test_the_best_values_are_said_and_applied_and_already_trained(
    searched: tuple[Path, str],
) -> None:
    root, output = searched
    assert "dvc exp run -S train_gan.learning_rate=0.003" in output
    train_gan = yaml.safe_load((root / "params.yaml").read_text())["train_gan"]
    assert train_gan["learning_rate"] == 0.003
    before = len(log(root))
    again = toy_pipeline.run_module(
        root, "dvc", "repro", "train_gan@0", TOY_LOG=str(root.parent / "log")
    )
    assert again.returncode == 0, again.stderr
    assert len(log(root)) == before  # restored from the run cache


def test_the_deployment_goes_on_with_a_search_and_shows_its_trials(
    searched: tuple[Path, str],
    prefect_api: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root, _ = searched
    monkeypatch.chdir(root)
    settings = {PREFECT_API_URL: prefect_api, PREFECT_LOGGING_TO_API_ENABLED: False}
    with temporary_settings(settings):  # as a worker runs it
        state = tune("toy", space=[SPACE], sampler="grid", workers=2, return_state=True)
        wrong = tune("toy", space=["gate.seed=1,2"], return_state=True)
    assert (state.name, state.message) == (
        "Completed", "5 trials ended: .tune/toy/trials.csv"
    )  # fmt: skip
    assert wrong.name == "WrongInput"
    runs = request_json(f"{prefect_api}/flow_runs/filter", "POST", {})
    runs = [run for run in runs if run["name"].startswith("search toy, ")]
    # The one from the shell that was killed is named in the same way.
    assert [run["state_name"] for run in runs].count("Crashed") == 1
    (run,) = [run for run in runs if "5 trials" in (run["state"]["message"] or "")]
    body = {"flow_runs": {"id": {"any_": [run["id"]]}}}
    (shown,) = request_json(f"{prefect_api}/artifacts/filter", "POST", body)
    assert shown["key"] == "trials"
    assert shown["data"].count("\n") == 6 and "| collapsed |" in shown["data"]


def test_the_page_holds_all_its_pictures(
    searched: tuple[Path, str],
) -> None:
    root, _ = searched
    page = (root / ".tune/toy/index.html").read_text()
    for name in ("history", "curves", "importance", "parallel"):
        assert (root / f".tune/toy/{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f'alt="{name}" src="data:image/png;base64,' in page
    assert "http" not in page


def test_a_second_search_in_the_same_folder_waits_its_turn(
    searched: tuple[Path, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, _ = searched
    monkeypatch.chdir(root)
    with file_lock(root / ".tune/toy/lock", "taken"):
        assert run_auglift("tune", *OPTIONS) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("wait for it, or take --name")
