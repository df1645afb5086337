"""Options of a run on the toy repository: what they change, what a kill leaves, what is shown."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows import summary
from flows.after_run import check_after_run, keep_results, read_head
from flows.dvc_graph import Plan, Stage, TaskOptions
from flows.overrides import Overrides, overridden
from flows.run_request import RunRequest
from flows.shell_run import report_nothing_to_do
from tasks.stage.errors import InputError
from tests.flows import toy_pipeline
from tests.flows.in_process import run_auglift
from tests.flows.processes import (
    RUN,
    has_ended,
    kill,
    request_json,
    start_process,
    wait_for,
    wait_for_stage,
)

PLANTED = "pl4nted-s3cret-4711"


def task_runs(api: str, flow_run: str) -> dict[str, dict[str, Any]]:
    """The tasks of a flow run, by their names."""
    body = {"flow_runs": {"name": {"any_": [flow_run]}}}
    return {run["name"]: run for run in request_json(f"{api}/task_runs/filter", "POST", body)}


def flow_runs(api: str) -> list[dict[str, Any]]:
    """All flow runs of a server."""
    runs: list[dict[str, Any]] = request_json(f"{api}/flow_runs/filter", "POST", {})
    return runs


def flow_names(api: str) -> list[str]:
    """The names of all flow runs of a server."""
    return [run["name"] for run in flow_runs(api)]


def test_a_killed_run_leaves_no_value_and_no_secret_and_the_next_restores_what_it_changed(
    repo: Path, tmp_path: Path, prefect_api: str, prefect_home: Path
) -> None:
    before = {name: (repo / name).read_bytes() for name in ("params.yaml", "dvc.lock")}
    toy_pipeline.set_behaviour(repo, "lift", "leak hang")
    words = ("--set", "gate.seed=71", "--set", "lift.seed=72")
    env = {"PREFECT_API_URL": prefect_api, "PACS_PASSWORD": PLANTED}
    log = tmp_path / "log"
    with start_process(repo, *RUN, *words, log=log, **env) as flow:
        stage = wait_for_stage(repo, "lift")
        assert wait_for(lambda: "the password is ***" in log.read_text(), 60)
        kill(flow)
        assert has_ended(stage)
    assert (repo / "params.yaml").read_bytes() == before["params.yaml"]
    assert yaml.safe_load((repo / "dvc.lock").read_text())["stages"]["gate@0"]["params"] == {
        "params.yaml": {"gate": {**yaml.safe_load(before["params.yaml"])["gate"], "seed": 71}}
    }
    (killed,) = {name for name in flow_names(prefect_api) if "gate.seed=71" in name}
    assert killed == "phantom, no commit, gate.seed=71 lift.seed=72"

    toy_pipeline.set_behaviour(repo, "lift", "")
    starts = len(toy_pipeline.read_log(repo, "gate"))
    words = ("downstream", "lift", "--set", 'release.license="none 73"')
    done = toy_pipeline.run_module(repo, *RUN, *words, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    for file, content in before.items():
        assert (repo / file).read_bytes() == content
    assert len(toy_pipeline.read_log(repo, "gate")) == starts
    (name,) = {name for name in flow_names(prefect_api) if "none 73" in name}
    states = {name: run["state_name"] for name, run in task_runs(prefect_api, name).items()}
    assert states["gate@0"] == states["gate@1"] == "Restored"
    assert states["slices"] == states["downstream@classify-real"] == "Unchanged"
    assert len(states) == 10
    (run,) = (run for run in flow_runs(prefect_api) if run["name"] == killed)
    assert run["state_name"] == "Crashed"  # found by the next run
    assert task_runs(prefect_api, killed)["lift"]["state_name"] == "Crashed"

    assert PLANTED not in done.stdout + done.stderr
    places = [log, *repo.rglob("*"), *prefect_home.rglob("*")]
    assert any(path.name == "prefect.db" for path in places)
    found = [path for path in places if path.is_file() and PLANTED.encode() in path.read_bytes()]
    assert found == []


def test_a_stage_that_takes_too_long_is_ended_and_tried_again(repo: Path, prefect_api: str) -> None:
    tree = yaml.safe_load((repo / "dvc.yaml").read_text())
    tree["stages"]["lift"]["meta"]["prefect"] |= {"timeout_seconds": 1, "cores": 1}
    (repo / "dvc.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    toy_pipeline.set_behaviour(repo, "lift", "hang")
    done = toy_pipeline.run_module(repo, *RUN, "lift", "--force", PREFECT_API_URL=prefect_api)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "auglift: lift: not done after 1 s, the timeout_seconds of meta.prefect in dvc.yaml"
    )
    (name,) = {name for name in flow_names(prefect_api) if name.endswith("forced")}
    run = task_runs(prefect_api, name)["lift"]
    assert (run["state_name"], run["run_count"]) == ("TimedOut", 2)


def test_a_dry_run_says_what_would_run_and_why(
    repo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repo)
    log = (repo / "told/log").read_text()
    assert run_auglift("run", "gate@1", "--dry-run", "--set", "gate.seed=70") == 0
    assert capsys.readouterr().out.splitlines() == [
        "1 of 5 stages would run", "  gate@1  gate of params.yaml modified"
    ]  # fmt: skip
    assert run_auglift("run", "lift", "--force", "--dry-run") == 0
    assert "lift  forced" in capsys.readouterr().out
    assert run_auglift("run", "gate") == 0
    assert "all 7 stages are up to date" in capsys.readouterr().out
    assert (repo / "told/log").read_text() == log


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gaet"], "there is no stage 'gaet', did you mean 'gate'?; stages: "),
        (["gate@7"], "there is no stage 'gate@7', did you mean 'gate@1'?; stages: gate@0, gate@1"),
        (["--set", "train_gan.steps=0"], "train_gan.steps is 0"),
        (["--preset", "big"], "there is no presets/big.yaml; presets: none"),
    ],
)
def test_a_wrong_option_is_one_line_before_anything_runs(
    repo: Path,
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(repo)
    assert run_auglift("run", *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def committed(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The repository with a commit and a DVC remote, as the current folder."""
    (repo / ".git/info/exclude").write_text("/told/\n")
    git(repo, "config", "user.name", "A. Person")
    git(repo, "config", "user.email", "person@example.org")
    config = repo / ".dvc/config"
    core = config.read_text().replace("[core]\n", "[core]\n    remote = store\n")
    config.write_text(f"{core}['remote \"store\"']\n    url = {tmp_path / 'store'}\n")
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "state")
    monkeypatch.chdir(repo)
    return repo


def keep(values: Overrides) -> list[str]:
    said: list[str] = []
    with overridden(values):
        check_after_run(values)
        keep_results(RunRequest(overrides=values), read_head(), said.append)
    return said


def test_results_are_committed_to_a_branch_of_their_own_and_pushed(
    committed: Path, tmp_path: Path
) -> None:
    head, state = git(committed, "rev-parse", "HEAD"), git(committed, "status", "--porcelain")
    on: dict[str, Any] = {
        "after_run.commit": True, "after_run.branch": "results", "after_run.push": True,
        "after_run.author": "Night Run <night@example.org>",
    }  # fmt: skip
    store = tmp_path / "store"
    store.write_text("the remote is lost")
    with pytest.raises(InputError, match="push failed"):
        keep(on)
    assert git(committed, "branch", "--list", "results") == ""  # it would name what nobody has
    store.unlink()
    assert "pushed to the DVC remote" in keep(on)[0]
    assert list((tmp_path / "store/files").rglob("*.dir"))
    assert git(committed, "log", "-1", "--format=%an %ce", "results") == (
        "Night Run night@example.org\n"
    )
    written = yaml.safe_load(git(committed, "show", "results:params.yaml"))
    assert written["after_run"]["branch"] == "results"
    metrics = json.loads(git(committed, "show", "results:metrics/gate-1.json"))
    assert metrics["verdict"] == "accepted"
    assert git(committed, "merge-base", "--is-ancestor", "HEAD", "results") == ""
    assert git(committed, "rev-parse", "HEAD") == head
    assert git(committed, "status", "--porcelain") == state
    assert keep(on)[1:] == ["results has these results"]


def test_results_on_the_branch_that_is_checked_out_leave_a_clean_tree(committed: Path) -> None:
    (said,) = keep_here = keep_written(committed)
    assert re.fullmatch(r"committed to \w+: [0-9a-f]{10}", said), keep_here
    assert git(committed, "status", "--porcelain") == ""
    assert (committed / "metrics/gate-0.json").exists()
    assert git(committed, "log", "-1", "--format=%an") == "A. Person\n"
    assert keep_written(committed)[0].endswith("has these results")


def keep_written(root: Path) -> list[str]:
    """Keep the results as params.yaml itself says."""
    toy_pipeline.change_section(root, "after_run", commit=True)
    return keep({})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"after_run.commit": True, "gate.seed": 5}, "branch that is checked out"),
        ({"after_run.push_commit": True}, "needs after_run.commit"),
        ({"after_run.commit": True, "after_run.branch": "a..b"}, "no branch's name"),
    ],
)
def test_what_could_not_be_kept_is_refused_before_anything_runs(
    committed: Path, values: Overrides, message: str
) -> None:
    with overridden(values), pytest.raises(InputError, match=message):
        check_after_run(values)


def test_results_of_code_that_is_not_committed_are_refused(committed: Path) -> None:
    (committed / "stage.py").open("a").write("\n")
    values = {"after_run.commit": True, "after_run.branch": "results"}
    with overridden(values), pytest.raises(InputError, match=r"stage\.py has changes"):
        check_after_run(values)


def test_results_are_not_kept_where_someone_changed_or_committed_something_meanwhile(
    committed: Path,
) -> None:
    values: Overrides = {"after_run.commit": True, "after_run.branch": "results"}
    with overridden(values):
        begun = read_head()
        git(committed, "commit", "-q", "--allow-empty", "-m", "meanwhile")
        with pytest.raises(InputError, match="another commit"):
            keep_results(RunRequest(overrides=values), begun, print)
        toy_pipeline.change_section(committed, "gate", seed=9)
        with pytest.raises(InputError, match="gate@0 would run again"):
            keep_results(RunRequest(overrides=values), read_head(), print)
    assert git(committed, "branch", "--list", "results") == ""


def test_a_kill_after_the_commit_and_a_fold_that_is_dropped_refuse_no_later_run(
    committed: Path,
) -> None:
    keep_written(committed)
    git(committed, "rm", "-q", "--cached", "metrics/gate-0.json")
    (committed / "metrics/gate-0.json").unlink()
    assert keep_written(committed)[0].endswith("has these results")
    assert git(committed, "status", "--porcelain") == ""


def test_a_gate_that_rejected_ends_a_run_of_it_alone_with_the_same_code_each_time(
    committed: Path,
) -> None:
    accepted = summary.read_summary(["gate@0"])
    assert list(accepted.gates) == ["0"]
    metrics = committed / "data/gate/0/metrics.json"
    metrics.write_text(metrics.read_text().replace('"accepted"', '"rejected"', 1))
    plan = Plan((Stage("gate@0", frozenset(), False, TaskOptions()),))
    assert report_nothing_to_do(plan, RunRequest(stages=("gate@0",))) == 3
    plan = Plan((Stage("gate@1", frozenset(), False, TaskOptions()),))
    assert report_nothing_to_do(plan, RunRequest(stages=("gate@1",))) == 0
