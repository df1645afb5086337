"""A run that was killed is reported as such; one that lives never is."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound

from flows import killed_runs
from flows.killed_runs import RUNS, noted_run, report_killed_runs

PREFECT_RUN, OWN = uuid4(), uuid4()


class Server:
    """A Prefect server that knows one run, in its second attempt."""

    def __init__(self) -> None:
        self.state: State[Any] = State(type=StateType.RUNNING)
        self.attempt = 2
        self.ends: list[StateType] = []

    def read_flow_run(self, run_id: UUID) -> FlowRun:
        if run_id != PREFECT_RUN:
            raise ObjectNotFound(http_exc=Exception())
        return FlowRun(id=run_id, flow_id=uuid4(), state=self.state, run_count=self.attempt)

    def read_task_runs(self, **_: object) -> list[Any]:
        return []

    def set_flow_run_state(self, run_id: UUID, state: State[Any]) -> None:
        assert run_id == PREFECT_RUN
        self.ends.append(state.type)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server; the working folder is an empty clone, in which a run's id is `PREFECT_RUN`."""
    made = Server()

    @contextmanager
    def client() -> Iterator[Server]:
        yield made

    (tmp_path / "clone").mkdir()
    monkeypatch.chdir(tmp_path / "clone")
    monkeypatch.setattr(killed_runs, "server_client", client)
    monkeypatch.setattr(killed_runs, "server_name", lambda: "https://prefect.example.org/api")
    monkeypatch.setattr("prefect.runtime.flow_run.id", str(PREFECT_RUN), raising=False)
    return made


def kill_a_run() -> Path:
    """Leave the note of a run that was killed: the kernel has freed it."""
    note, other_name = RUNS / str(PREFECT_RUN), RUNS / "other"
    with noted_run():
        other_name.hardlink_to(note)
    return other_name.rename(note)


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        (StateType.RUNNING, [StateType.CRASHED]),
        (StateType.PAUSED, [StateType.CRASHED]),
        (StateType.CANCELLING, [StateType.CANCELLED]),
        (StateType.SCHEDULED, []),
        (StateType.PENDING, []),
        (StateType.COMPLETED, []),
    ],
)
def test_a_killed_run_is_reported_once_where_only_its_process_could_go_on(
    server: Server, was: StateType, becomes: list[StateType]
) -> None:
    note = kill_a_run()
    server.state = State(type=was)
    report_killed_runs(str(OWN))
    report_killed_runs(str(OWN))
    assert server.ends == becomes
    assert not note.exists()


def test_a_run_that_lives_or_ended_is_let_alone(server: Server) -> None:
    with noted_run():
        report_killed_runs(str(OWN))
        assert (RUNS / str(PREFECT_RUN)).exists()
    report_killed_runs(str(OWN))
    assert not server.ends
    assert not list(RUNS.iterdir())


def test_a_retried_run_takes_itself_for_alive_and_is_so_for_others(server: Server) -> None:
    kill_a_run()
    server.attempt = 3
    with noted_run():  # the next attempt, in this clone
        report_killed_runs(str(OWN))
    kill_a_run()
    server.attempt = 4  # in another clone
    report_killed_runs(str(OWN))
    assert not server.ends


def test_a_copy_of_a_clone_does_not_report_the_runs_of_the_original(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with noted_run():
        copy = Path(shutil.copytree(Path.cwd(), "../copy"))
        monkeypatch.chdir(copy)
        report_killed_runs(str(OWN))
        assert not list(RUNS.iterdir())
        monkeypatch.chdir("../clone")
    assert not server.ends


@pytest.mark.parametrize("who", ["machine_name", "server_name"])
def test_a_note_of_another_machine_or_server_stays_for_it(
    server: Server, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    note = kill_a_run()
    with monkeypatch.context() as other:
        other.setattr(killed_runs, who, lambda: "another")
        report_killed_runs(str(OWN))
    assert not server.ends
    assert note.exists()
    report_killed_runs(str(OWN))
    assert server.ends == [StateType.CRASHED]


def test_a_note_that_is_none_is_removed(server: Server) -> None:
    RUNS.mkdir(parents=True)
    (RUNS / str(PREFECT_RUN)).write_text("")
    report_killed_runs(str(OWN))
    assert not server.ends
    assert not list(RUNS.iterdir())
