"""Slots of the limit `gpu` on a user's server: they die with their holder, and only with it."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from flows import prefect_gpu_slots
from flows.gpu_slots import ensure_gpu_limit
from flows.prefect_gpu_slots import ServerSlot
from tests.flows import toy_pipeline
from tests.flows.processes import Server, holder_records, kill, request_json, taken_slots

HOLDER = """
import sys, time
from flows.prefect_gpu_slots import ServerSlot
assert ServerSlot(sys.argv[1], print).attempt() is None
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def api(prefect_server: Server, tmp_path: Path) -> Iterator[str]:
    """The address of the suite's server with one slot, which is free; this process uses it."""
    url = prefect_server.url
    with temporary_settings({PREFECT_API_URL: url, PREFECT_HOME: tmp_path / "here"}):
        ensure_gpu_limit()
        allow(url, 1)
        for record in holder_records(url):
            request_json(f"{url}/variables/{record['id']}", "DELETE")
        yield url
        allow(url, 1)


def test_only_the_dead_lose_their_slots(api: str, tmp_path: Path) -> None:
    allow(api, 2)
    with holder(api, tmp_path / "a", "quick-fox"), holder(api, tmp_path / "b", "lazy-dog") as dead:
        message = waits("new")
        assert re.search(r"held by run \S+ since \d{4}-\d\d-\d\d [\d:]+ and by run", message)
        kill(dead)
        slot = ServerSlot("new", print)
        assert slot.attempt() is None
        message = waits("other")
        assert "run quick-fox" in message
        assert "lazy-dog" not in message
        assert taken_slots(api) == 2
        slot.free()
        assert taken_slots(api) == 1
    assert_free()


def test_a_living_holder_outlives_a_restart_of_the_server_and_a_dead_one_loses_its_slot(
    prefect_server: Server, api: str, tmp_path: Path
) -> None:
    allow(api, 2)
    old = ServerSlot("old", print)
    assert old.attempt() is None
    with holder(api, tmp_path / "a", "quick-fox"):
        prefect_server.kill()  # as a power cut does
    prefect_server.start()
    assert taken_slots(api) == 2  # it forgot the leases, which alone would free the dead one's
    new = ServerSlot("new", print)
    assert new.attempt() is None
    assert taken_slots(api) == 2
    assert re.search(r"held by run (old|new) since .* and by run (old|new) since", waits("third"))
    old.free()
    new.free()
    assert taken_slots(api) == 0
    assert not holder_records(api)


def test_a_lease_that_ran_out_costs_nobody_else_a_slot(api: str, tmp_path: Path) -> None:
    with holder(api, tmp_path / "a", "quick-fox"):
        pass
    (record,) = holder_records(api)
    limits = f"{api}/v2/concurrency_limits"
    request_json(f"{limits}/decrement-with-lease", "POST", {"lease_id": record["value"]["lease"]})
    request_json(f"{limits}/increment", "POST", {"names": ["gpu"], "slots": 1})  # by another flow
    message = waits("new")
    assert "by no run of auglift" in message
    assert "prefect gcl update gpu --active-slots 0" in message
    assert taken_slots(api) == 1
    assert not holder_records(api)


def test_a_holder_on_another_machine_is_dead_once_its_record_is_old(
    api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with holder(api, tmp_path / "a", "quick-fox"):
        monkeypatch.setattr(prefect_gpu_slots, "machine_id", lambda: "another")
        assert "quick-fox" in waits("new")
        monkeypatch.setattr(prefect_gpu_slots, "STALE_S", -2.0)
        assert_free()


def test_a_holder_asks_again_when_the_server_ended_its_lease(
    api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    message: list[str] = []
    monkeypatch.setattr(prefect_gpu_slots, "RENEW_INTERVAL_S", 0.2)
    slot = ServerSlot("old", message.append)
    assert slot.attempt() is None
    (record,) = holder_records(api)
    lease = record["value"]["lease"]
    request_json(f"{api}/v2/concurrency_limits/decrement-with-lease", "POST", {"lease_id": lease})
    while (new := holder_records(api)[0]["value"]["lease"]) == lease:
        pass
    assert taken_slots(api) == 1
    request_json(f"{api}/v2/concurrency_limits/decrement-with-lease", "POST", {"lease_id": new})
    request_json(f"{api}/v2/concurrency_limits/increment", "POST", {"names": ["gpu"], "slots": 1})
    while not message:
        pass
    slot.free()
    assert message == ["the Prefect server ended this run's GPU slot and gave it to another run"]
    assert taken_slots(api) == 1


@contextmanager
def holder(api: str, home: Path, run: str) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds a slot; it is killed at the end."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, run],
        env=toy_pipeline.environment(PREFECT_API_URL=api, PREFECT_HOME=str(home)),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        yield child
    finally:
        kill(child)


def waits(run: str) -> str:
    """What a run says that finds no slot free."""
    message = ServerSlot(run, print).attempt()
    assert message is not None
    return message


def assert_free() -> None:
    """Take a slot at the first attempt, and give it back."""
    slot = ServerSlot("other", print)
    assert slot.attempt() is None
    slot.free()


def allow(api: str, slots: int) -> None:
    """Set the limit, with all slots free."""
    request_json(f"{api}/v2/concurrency_limits/gpu", "PATCH", {"limit": slots, "active_slots": 0})
