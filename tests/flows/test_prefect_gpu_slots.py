"""Slots of the limit `gpu` on a user's server: they die with their holder, and only with it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from flows import prefect_gpu_slots
from flows.gpu_slots import ensure_gpu_limit
from flows.prefect_gpu_slots import ServerSlot
from tests.flows import toy_pipeline
from tests.flows.processes import (
    Server,
    has_ended,
    holder_records,
    kill,
    request_json,
    taken_slots,
)

# For each line of its input, a copy of the process takes a slot: Prefect is imported once for all.
HOLDERS = """
import os, signal, sys, time
from pathlib import Path
from prefect.settings import PREFECT_HOME, temporary_settings
from flows.prefect_gpu_slots import ServerSlot
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
for line in sys.stdin:
    run, home = line.split()
    if os.fork():
        continue
    with temporary_settings({PREFECT_HOME: Path(home)}):
        assert ServerSlot(run, print).attempt() is None
        print(os.getpid(), flush=True)
        time.sleep(600)
"""


@pytest.fixture(scope="module")
def holders(prefect_server: Server) -> Iterator["subprocess.Popen[str]"]:
    """A process that starts others which hold a slot."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDERS],
        env=toy_pipeline.environment(PREFECT_API_URL=prefect_server.url),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    yield process
    kill(process)


Holder = Callable[[str], AbstractContextManager[int]]


@pytest.fixture
def holder(holders: "subprocess.Popen[str]", tmp_path: Path) -> Holder:
    """Let another process hold a slot for a run; it is killed at the end."""

    @contextmanager
    def hold(run: str) -> Iterator[int]:
        assert holders.stdin is not None and holders.stdout is not None
        holders.stdin.write(f"{run} {tmp_path / run}\n")
        holders.stdin.flush()
        pid = int(holders.stdout.readline())
        try:
            yield pid
        finally:
            end(pid)

    return hold


def end(pid: int) -> None:
    """Kill a process, and wait until it is gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    assert has_ended(pid)


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


def test_only_the_dead_lose_their_slots(api: str, holder: Holder) -> None:
    allow(api, 2)
    with holder("quick-fox"), holder("lazy-dog") as dead:
        message = waits("new")
        assert re.search(r"held by run \S+ since \d{4}-\d\d-\d\d [\d:]+ and by run", message)
        end(dead)
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
    prefect_server: Server, api: str, holder: Holder
) -> None:
    allow(api, 2)
    old = ServerSlot("old", print)
    assert old.attempt() is None
    with holder("quick-fox"):
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


def test_a_lease_that_ran_out_costs_nobody_else_a_slot(api: str, holder: Holder) -> None:
    with holder("quick-fox"):
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
    api: str, holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with holder("quick-fox"):
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
