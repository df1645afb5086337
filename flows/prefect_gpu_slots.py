"""Slots of the limit `gpu` on a server of the user's, which die with their holder.

The limit is Prefect's own, so that every flow on the server may share it. Prefect counts the taken
slots in its database and keeps the leases that free them in the server's memory: a slot whose
holder is killed is free a minute later, but never if the server is killed too. Therefore each
holder also leaves a record on the server, a Prefect variable `auglift-gpu-...`, which says who
holds which lease, and which a waiting run uses to give back the slots of dead holders:

- On the holder's machine, a locked file tells at once whether the holder lives.
- Elsewhere, the record must be renewed; after `STALE_S` without it the holder counts as dead.

Whether the server forgot a lease (it was restarted; its slot is still counted) or ended it (its
slot was given back) is told by a second lease, the witness, which holds no slot and lasts a day.
"""

import contextvars
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
from prefect import get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, PREFECT_HOME, temporary_settings
from pydantic import BaseModel, ConfigDict, ValidationError

from flows.run_failure import StageFailed
from flows.waiting import FileLock, is_locked, waiting_message

GPU = "gpu"
PREFIX = "auglift-gpu-"
WITNESS = "auglift-witness"  # no limit bears this name
LEASE_S = 60.0  # the shortest that Prefect allows
WITNESS_S = 86400.0  # the longest
RENEWED_EVERY_S = 15.0
STALE_S = 90.0
TIMEOUT_S = 10.0
SILENCE_LIMIT_S = 120.0  # how long a waiting run bears a server that does not answer
GONE, LOCKED, TOO_MANY = 410, 423, 422


class Record(BaseModel):
    """Who holds a slot; `since` is in UTC, `lock` a file on `machine`."""

    model_config = ConfigDict(frozen=True)
    run: str
    since: datetime
    machine: str
    lock: Path
    lease: str
    witness: str

    @property
    def holder(self) -> str:
        """The holder in words, with the time on this machine's clock."""
        return f"run {self.run} since {self.since.astimezone():%Y-%m-%d %H:%M:%S}"


class ServerSlot:
    """A slot on the user's server."""

    def __init__(self, run: str, say: Callable[[str], None]) -> None:
        self._run, self._say = run, say
        self._name = f"{PREFIX}{uuid.uuid4().hex[:12]}"
        self._lock = FileLock(PREFECT_HOME.value() / "gpu-slots" / self._name)
        self._record: Record | None = None
        self._is_counted = True  # whether the server still counts the slot as taken
        self._swept = False
        self._silent_since: datetime | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def attempt(self) -> str | None:
        """Take a slot; where all are taken, give back those of dead holders and try again."""
        try:
            with server() as client:
                if not self._swept:
                    sweep(client)
                    self._swept = True
                if self._take(client):
                    return None
                living, given_back = sweep(client)
                if given_back and self._take(client):
                    return None
        except httpx.HTTPError as error:
            return self._bear(error)
        self._silent_since = None
        if living:
            return waiting_message("the GPU", [record.holder for record in living])
        return (
            "waiting for the GPU: the server's limit `gpu` is taken, by no run of auglift; if"
            " nothing else uses it, free it with `prefect gcl update gpu --active-slots 0`"
        )

    def free(self) -> None:
        """Give the slot back; should the server not answer, the next run that waits does it."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(TIMEOUT_S)
        try:
            if self._record is not None:
                with server() as client:
                    self._renew(client)
                    if self._is_counted and not renew(client, self._record.lease, LEASE_S):
                        give_back_forgotten(client)
                    release(client, self._record.lease)
                    release(client, self._record.witness)
                    delete(client, self._name)
        except httpx.HTTPError:
            self._say("the Prefect server did not take back the GPU slot; the next run frees it")
        self._lock.free()
        self._lock.path.unlink(missing_ok=True)

    def _take(self, client: Any) -> bool:
        """Ask the server for a slot and leave a record; no slot is needed where is no limit."""
        lease = acquire(client, [GPU], LEASE_S)
        if lease is None:
            return False
        self._record = Record(
            run=self._run,
            since=datetime.now(UTC),
            machine=machine(),
            lock=self._lock.path.absolute(),
            lease=lease,
            witness=acquire(client, [WITNESS], WITNESS_S) or lease,
        )
        self._lock.take(self._record.holder)
        value = self._record.model_dump(mode="json")
        try:
            client.request("POST", "/variables/", json={"name": self._name, "value": value})
        except httpx.HTTPError:
            self._record = None
            release(client, lease)  # or it runs out in a minute
            raise
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=lambda: context.run(self._keep), daemon=True)
        self._thread.start()
        return True

    def _keep(self) -> None:
        """Renew lease and record until the slot is freed."""
        while not self._stop.wait(RENEWED_EVERY_S):
            try:
                with server() as client:
                    self._renew(client)
            except httpx.HTTPError:
                continue  # it may be restarted at this moment

    def _renew(self, client: Any) -> None:
        """Renew the lease; where the server ended it, as after a sleep, ask for another."""
        assert self._record is not None
        witnessed = renew(client, self._record.witness, WITNESS_S)
        if not renew(client, self._record.lease, LEASE_S) and witnessed:
            lease = acquire(client, [GPU], LEASE_S)
            if lease is None and self._is_counted:
                self._say("the Prefect server ended this run's GPU slot and gave it to another run")
            self._is_counted = lease is not None
            self._record = self._record.model_copy(update={"lease": lease or self._record.lease})
        value = self._record.model_dump(mode="json")
        client.request("PATCH", f"/variables/name/{self._name}", json={"value": value})

    def _bear(self, error: httpx.HTTPError) -> str:
        """Wait for a server that is away or overloaded for a moment.

        Raises:
            StageFailed: when it is away for longer.
        """
        self._silent_since = self._silent_since or datetime.now(UTC)
        if datetime.now(UTC) - self._silent_since > timedelta(seconds=SILENCE_LIMIT_S):
            raise StageFailed(f"the Prefect server gives no slot of the GPU ({error})", 1)
        return "waiting for the Prefect server, which does not answer as it should"


def sweep(client: Any) -> tuple[list[Record], bool]:
    """Give back the slots of dead holders.

    Returns:
        The records of the living, and whether any slot was given back.
    """
    answer = client.request(
        "POST", "/variables/filter", json={"variables": {"name": {"like_": f"{PREFIX}%"}}}
    )
    server_time = parsedate_to_datetime(answer.headers["date"])
    living: list[Record] = []
    dead: list[tuple[str, Record]] = []
    for variable in answer.json():
        try:
            record = Record.model_validate(variable["value"])
        except ValidationError:
            continue  # a variable of the user's that happens to be called so
        age = server_time - datetime.fromisoformat(variable["updated"])
        if is_living(record, age.total_seconds()):
            living.append(record)
        else:
            dead.append((variable["name"], record))
    for name, record in dead:
        give_back(client, name, record, len(living))
    return living, bool(dead)


def is_living(record: Record, age_s: float) -> bool:
    """Whether a holder lives.

    Args:
        record: Its record.
        age_s: How long ago the record was renewed, in seconds.
    """
    held = is_locked(record.lock) if record.machine == machine() else None
    return age_s < STALE_S if held is None else held


def give_back(client: Any, name: str, record: Record, living: int) -> None:
    """Give back the slot of a dead holder, once, whoever else sees that it is dead."""
    known = renew(client, record.lease, LEASE_S) or renew(client, record.witness, WITNESS_S)
    if not delete(client, name):
        return
    if known:
        release(client, record.lease)
        release(client, record.witness)
    elif taken_slots(client) > living:
        give_back_forgotten(client)
    if record.machine == machine():
        record.lock.unlink(missing_ok=True)


def acquire(client: Any, limits: list[str], seconds: float) -> str | None:
    """Take a slot of a limit, or of none where there is no such limit; returns the lease."""
    try:
        answer = client.increment_concurrency_slots_with_lease(
            names=limits, slots=1, mode="concurrency", lease_duration=seconds
        )
    except httpx.HTTPStatusError as error:
        if error.response.status_code in (LOCKED, TOO_MANY):
            return None
        raise
    return str(answer.json()["lease_id"])


def renew(client: Any, lease: str, seconds: float) -> bool:
    """Renew a lease; False when the server does not know it."""
    try:
        client.renew_concurrency_lease(lease_id=uuid.UUID(lease), lease_duration=seconds)
    except httpx.HTTPStatusError as error:
        if error.response.status_code != GONE:
            raise
        return False
    return True


def release(client: Any, lease: str) -> None:
    """End a lease and give back what it holds; one that is not known holds nothing."""
    client.release_concurrency_slots_with_lease(lease_id=uuid.UUID(lease))


def taken_slots(client: Any) -> int:
    """How many slots the server counts as taken."""
    try:
        return int(client.read_global_concurrency_limit_by_name(GPU).active_slots)
    except ObjectNotFound:
        return 0


def give_back_forgotten(client: Any) -> None:
    """Give back a slot whose lease the server forgot when it was restarted."""
    client.release_concurrency_slots(names=[GPU], slots=1, occupancy_seconds=1.0)


def delete(client: Any, name: str) -> bool:
    """Delete a record; False when another process did."""
    try:
        client.request("DELETE", f"/variables/name/{name}")
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.NOT_FOUND:
            raise
        return False
    return True


@contextmanager
def server() -> Iterator[Any]:
    """A client that does not try long: what asks here asks again, or lets the next run do it."""
    with (
        temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 3}),
        get_client(sync_client=True, httpx_settings={"timeout": TIMEOUT_S}) as client,
    ):
        yield client


def machine() -> str:
    """This machine since it was started."""
    started = Path("/proc/sys/kernel/random/boot_id")
    return started.read_text().strip() if started.exists() else socket.gethostname()
