"""A run of a shell ends when somebody cancels it on the server, also one within another."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import Mock

import pytest
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Completed

from flows import cancelled_runs
from flows.cancelled_runs import RunCancelled, ended_when_cancelled
from flows.intake import final_state


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mock]:
    """A user's server; its answers about the state of any run are set by the test."""
    made = Mock()
    made.read_flow_run.return_value.state.type = StateType.RUNNING

    @contextmanager
    def client() -> Iterator[Any]:
        yield made

    monkeypatch.setattr(cancelled_runs, "server_client", client)
    monkeypatch.setattr(cancelled_runs, "is_users_server", lambda: True)
    monkeypatch.setattr(cancelled_runs, "POLL_S", 0.02)
    before = signal.getsignal(signal.SIGUSR1)
    yield made
    signal.signal(signal.SIGUSR1, before)


def wait_until_asked(server: Mock, times: int) -> None:
    pause = threading.Event()
    while server.read_flow_run.call_count < times:
        pause.wait(0.02)


def test_a_cancelled_run_ends(server: Mock) -> None:
    with pytest.raises(RunCancelled), ended_when_cancelled():
        wait_until_asked(server, 2)
        server.read_flow_run.return_value.state.type = StateType.CANCELLING
        threading.Event().wait(10)
        pytest.fail("it went on")


def test_a_flow_can_be_cancelled_after_one_within_it_ended(server: Mock) -> None:
    with pytest.raises(RunCancelled), ended_when_cancelled():
        with ended_when_cancelled():
            wait_until_asked(server, 2)
        server.read_flow_run.return_value.state.type = StateType.CANCELLING
        threading.Event().wait(10)
        pytest.fail("it went on")


def test_a_run_that_somebody_deletes_goes_on(server: Mock) -> None:
    server.read_flow_run.side_effect = ObjectNotFound(http_exc=Exception())
    with ended_when_cancelled():
        wait_until_asked(server, 3)  # the look is repeated: the thread did not end


def test_an_intake_whose_pipeline_was_cancelled_is_cancelled() -> None:
    assert final_state("", {"quarantined"}, Cancelled()).is_cancelled()
    assert final_state("", {"batch"}, Completed()).is_completed()
