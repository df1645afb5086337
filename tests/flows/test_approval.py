"""A person's decision: from the shell, and in a Prefect run that pauses for it."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from prefect import flow
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_LOGGING_TO_API_ENABLED,
    temporary_settings,
)

from flows import approval, approval_pause, pipeline
from flows.run_request import RunRequest
from tasks.release.__main__ import main as run_release
from tasks.report.__main__ import main as run_report
from tests.flows.in_process import run_auglift
from tests.tasks.fake_run import Run, write


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up run that waits for approval, and looks like the root of a clone."""
    root = write(tmp_path_factory.mktemp("waiting") / "clone", Run(synthetic=6, accept_share=1.0))
    for folder in (".dvc", ".git"):
        (root / folder).mkdir()
    (root / "dvc.yaml").touch()
    tree = yaml.safe_load((root / "params.yaml").read_text())
    tree["release"]["require_approval"] = True
    (root / "params.yaml").write_text(yaml.safe_dump(tree))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        run_report()
        run_release()
    return root


@pytest.fixture
def clone(waiting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the waiting clone, as the current folder."""
    root = Path(shutil.copytree(waiting, tmp_path / "clone"))
    monkeypatch.chdir(root)
    return root


def read_decision() -> dict[str, Any]:
    decision: dict[str, Any] = json.loads(Path("data/approval.json").read_text())
    return decision


def released() -> bool:
    run_release()
    return Path("data/release/release.json").exists()


def test_approve_releases_what_the_report_shows(
    clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = approval.find_open_decision()
    assert found is not None
    words = ("--reviewer", "A. Reader", "--note", "looked at all", "--digest", found.digest[:12])
    assert run_auglift("approve", *words) == 0
    assert "approved by A. Reader" in capsys.readouterr().out
    assert read_decision() == {
        "decision": "approved", "reviewer": "A. Reader", "reason": "looked at all",
        "digest": found.digest,
    }  # fmt: skip
    assert released()
    assert approval.find_open_decision() is None


def test_refuse_leaves_a_refusal_with_the_reason(
    clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_auglift("refuse", "--reviewer", "AB", "--note", " ") == 2
    assert run_auglift("refuse", "--reviewer", "AB", "--note", "masks miss") == 0
    assert not released()
    assert "refused it by AB: masks miss" in Path("data/release/REFUSED.md").read_text()
    assert approval.find_open_decision() is None
    capsys.readouterr()


def change_slices() -> None:
    path = Path("data/synthetic/0/images.npy")
    np.save(path, np.load(path) * np.float16(0.9))


CHANGES: dict[str, tuple[Callable[[], None], list[str], str]] = {
    "other slices": (change_slices, ["approve", "--digest", "SEEN"], "not the one you looked at"),
    "no new report": (change_slices, ["approve"], "does not show what would be released now"),
    "refused too late": (
        change_slices, ["refuse", "--note", "x", "--digest", "SEEN"], "not the one you looked at"
    ),
    "short digest": (lambda: None, ["approve", "--digest", "abc"], "expected 12 digits or more"),
    "no report": (
        lambda: Path("data/report.html").unlink(), ["approve"], "does not show what would be"
    ),
    "no clone": (lambda: Path("dvc.yaml").unlink(), ["approve"], "run from the root of a clone"),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGES)
def test_a_changed_digest_is_one_line_and_nothing_is_written(
    clone: Path, case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change, words, message = CHANGES[case]
    found = approval.find_open_decision()
    assert found is not None
    before = read_decision()
    change()
    given = [found.digest if word == "SEEN" else word for word in words]
    assert run_auglift(*given, "--reviewer", "AB") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert read_decision() == before


def test_what_the_gate_rejected_cannot_be_approved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write(tmp_path / "rejected", Run(synthetic=6, verdict="rejected"))
    for folder in (".dvc", ".git"):
        (root / folder).mkdir()
    (root / "dvc.yaml").touch()
    monkeypatch.chdir(root)
    assert run_auglift("approve", "--reviewer", "AB") == 2
    assert "the gate rejected these slices" in capsys.readouterr().err


def test_no_decision_is_asked_for_where_something_else_blocks(
    clone: Path,
) -> None:
    tree = yaml.safe_load(Path("params.yaml").read_text())
    tree["release"]["readers"] = {"min_readers": 1}
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    run_release()
    assert approval.find_open_decision() is None


def test_a_run_from_the_shell_is_not_paused() -> None:
    assert not approval_pause.can_be_answered()


def test_a_deployments_run_on_a_server_without_pages_is_not_paused(
    prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approval_pause, "deployment", SimpleNamespace(id="of a deployment"))
    with temporary_settings({PREFECT_API_URL: prefect_api}):
        assert not approval_pause.can_be_answered()
        monkeypatch.setattr("prefect.client.orchestration.SyncPrefectClient.request", pages)
        assert approval_pause.can_be_answered()


def pages(*_: object) -> httpx.Response:
    """What a server with pages tells of its settings."""
    return httpx.Response(200, json={"server": {"ui": {"enabled": True}}})


@pytest.fixture
def paused_run(
    clone: Path, prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[Any, list[bool]]]]:
    """Run the end of a flow and answer its question; returns its state, and codes of answers."""
    monkeypatch.setattr(pipeline, "run_all_changed", lambda _: run_release())
    monkeypatch.setattr(approval_pause, "POLL_S", 0.2)

    @flow(name="ask", persist_result=False)
    def ask(hours: float) -> str:
        found = approval.find_open_decision()
        assert found is not None
        return pipeline.release_as_decided(found, hours, RunRequest(1))

    def run(*answers: dict[str, str], hours: float = 0.1, before: Any = None) -> Any:
        codes: list[bool] = []

        def answer() -> None:
            paused = {"flow_runs": {"state": {"type": {"any_": ["PAUSED"]}}}}
            with httpx.Client(base_url=f"{prefect_api}/", trust_env=False, timeout=60) as client:
                deadline = time.monotonic() + 120
                while not (found := client.post("flow_runs/filter", json=paused).json()):
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
                schema = found[0]["state"]["state_details"]["run_input_keyset"]["schema"]
                question = f"flow_runs/{found[0]['id']}/input/{schema}"  # stored after the state
                while client.get(question).is_error:
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
                if before:
                    before()
                for given in answers:
                    address = f"flow_runs/{found[0]['id']}/resume"
                    reply = client.post(address, json={"run_input": given})
                    codes.append(reply.json().get("status") == "ACCEPT")

        settings = {PREFECT_API_URL: prefect_api, PREFECT_LOGGING_TO_API_ENABLED: False}
        with temporary_settings(settings):
            thread = threading.Thread(target=answer)
            if answers:
                thread.start()
            state = ask(hours, return_state=True)
            if answers:
                thread.join()
        return state, codes

    yield run


def test_a_paused_run_takes_an_approval(paused_run: Callable[..., Any]) -> None:
    state, accepted = paused_run(
        {"approver": "", "decision": "approve"},
        {"approver": "AB", "decision": "perhaps"},
        {"approver": "A. Reader", "decision": "approve", "note": "all 6 looked at"},
    )
    assert accepted == [False, False, True]
    assert state.result() == ""
    card = Path("data/release/DATACARD.md").read_text()
    assert "- Review: approved by A. Reader: all 6 looked at." in card


def test_a_paused_run_takes_a_refusal(paused_run: Callable[..., Any]) -> None:
    state, _ = paused_run({"approver": "AB", "decision": "refuse", "note": "masks"})
    assert state.result() == "Refused by AB: masks"
    assert "refused it by AB: masks" in Path("data/release/REFUSED.md").read_text()


def test_slices_that_changed_during_the_pause_are_not_approved(
    paused_run: Callable[..., Any],
) -> None:
    state, _ = paused_run({"approver": "AB", "decision": "approve"}, before=change_slices)
    assert "not the one you looked at" in state.message
    assert read_decision()["decision"] == "pending"


def test_a_pause_that_nobody_ends_ends_as_without_it(paused_run: Callable[..., Any]) -> None:
    state, _ = paused_run(hours=1 / 3600)
    assert state.is_completed()
    assert state.result() == ""
    assert read_decision()["decision"] == "pending"
    found = approval.find_open_decision()
    assert found is not None and "auglift approve" in found.line
