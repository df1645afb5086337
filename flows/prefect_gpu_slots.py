"""Hold slots of the limit `gpu` on the user's own Prefect server, and free those of dead holders.

The limit is Prefect's own, so that every flow on the server may share it. Prefect counts the taken
slots in its database and keeps the leases that free them in the server's memory. A slot whose
holder is killed is free a minute later, but never when the server is killed too. Therefore each
holder also leaves a record on the server, a Prefect variable `auglift-gpu-...`, which says who
holds which lease. A waiting run uses the records to return the slots of dead holders:

- On the holder's machine, a locked file shows at once whether the holder lives.
- On another machine, the holder counts as dead when it has not renewed the record for `STALE_S`.

A second lease, the witness, holds no slot and lasts a day. It shows whether the server forgot a
lease (it was restarted, and still counts the slot) or ended it (and returned the slot).
"""

import contextvars
import socket
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_HOME
from pydantic import BaseModel, ConfigDict, ValidationError

from flows.prefect_client import TIMEOUT_S, server_client
from flows.run_failure import StageFailed
from flows.waiting import FileLock, is_locked, waiting_message

GPU = "gpu"
PREFIX = "auglift-gpu-"
WITNESS = "auglift-witness"  # no limit has this name
LEASE_S = 60.0  # the shortest that Prefect allows
WITNESS_S = 86400.0  # the longest
RENEW_INTERVAL_S = 15.0
STALE_S = 90.0
SILENCE_LIMIT_S = 120.0  # how long a waiting run tolerates a server that does not answer
GONE, LOCKED, TOO_MANY = 410, 423, 422


class HolderRecord(BaseModel):
    """Which run holds a slot; `since` is in UTC, `lock` is a file on `machine`."""

    model_config = ConfigDict(frozen=True)
    run: str
    since: datetime
    machine: str
    lock: Path
    lease: str
    witness: str

    @property
    def holder(self) -> str:
        """The holder's run, and since when by this machine's clock."""
        return f"run {self.run} since {self.since.astimezone():%Y-%m-%d %H:%M:%S}"


class ServerSlot:
    """A slot on the user's Prefect server."""

    def __init__(self, run: str, say: Callable[[str], None]) -> None:
        self._run, self._say = run, say
        self._name = f"{PREFIX}{uuid.uuid4().hex[:12]}"
        self._lock = FileLock(PREFECT_HOME.value() / "gpu-slots" / self._name)
        self._record: HolderRecord | None = None
        self._is_counted = True  # whether the server still counts the slot as taken
        self._swept = False
        self._silent_since: datetime | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def attempt(self) -> str | None:
        """Take a slot; where all are taken, return those of dead holders and try again."""
        try:
            with server_client() as client:
                if not self._swept:
                    free_dead_slots(client)
                    self._swept = True
                if self._take(client):
                    return None
                living, given_back = free_dead_slots(client)
                if given_back and self._take(client):
                    return None
        except httpx.HTTPError as error:
            return self._tolerate_silence(error)
        self._silent_since = None
        if living:
            return waiting_message("the GPU", [record.holder for record in living])
        return (
            "waiting for the GPU: the server's limit `gpu` is taken, by no run of auglift; if"
            " nothing else uses it, free it with `prefect gcl update gpu --active-slots 0`"
        )

    def free(self) -> None:
        """Return the slot; where the server does not answer, the next waiting run returns it."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(TIMEOUT_S)
        try:
            if self._record is not None:
                with server_client() as client:
                    self._renew(client)
                    if self._is_counted and not renew_lease(client, self._record.lease, LEASE_S):
                        return_forgotten_slot(client)
                    release_lease(client, self._record.lease)
                    release_lease(client, self._record.witness)
                    delete_record(client, self._name)
        except httpx.HTTPError:
            self._say("the Prefect server did not take back the GPU slot; the next run frees it")
        self._lock.release()
        self._lock.path.unlink(missing_ok=True)

    def _take(self, client: Any) -> bool:
        """Take a slot of the server and leave a record; return False when all are taken."""
        lease = acquire_lease(client, [GPU], LEASE_S)
        if lease is None:
            return False
        self._record = HolderRecord(
            run=self._run,
            since=datetime.now(UTC),
            machine=machine_id(),
            lock=self._lock.path.absolute(),
            lease=lease,
            witness=acquire_lease(client, [WITNESS], WITNESS_S) or lease,
        )
        self._lock.acquire(self._record.holder)
        value = self._record.model_dump(mode="json")
        try:
            client.request("POST", "/variables/", json={"name": self._name, "value": value})
        except httpx.HTTPError:
            self._record = None
            release_lease(client, lease)  # otherwise the lease ends in a minute
            raise
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=lambda: context.run(self._keep), daemon=True)
        self._thread.start()
        return True

    def _keep(self) -> None:
        """Renew lease and record until the slot is freed."""
        while not self._stop.wait(RENEW_INTERVAL_S):
            try:
                with server_client() as client:
                    self._renew(client)
            except httpx.HTTPError:
                continue  # the server may be restarting

    def _renew(self, client: Any) -> None:
        """Renew the lease; where the server ended it, as after a sleep, take another."""
        assert self._record is not None
        witnessed = renew_lease(client, self._record.witness, WITNESS_S)
        if not renew_lease(client, self._record.lease, LEASE_S) and witnessed:
            lease = acquire_lease(client, [GPU], LEASE_S)
            if lease is None and self._is_counted:
                self._say("the Prefect server ended this run's GPU slot and gave it to another run")
            self._is_counted = lease is not None
            self._record = self._record.model_copy(update={"lease": lease or self._record.lease})
        value = self._record.model_dump(mode="json")
        client.request("PATCH", f"/variables/name/{self._name}", json={"value": value})

    def _tolerate_silence(self, error: httpx.HTTPError) -> str:
        """Return a waiting message while the server does not answer.

        Raises:
            StageFailed: when the server has not answered for `SILENCE_LIMIT_S`.
        """
        self._silent_since = self._silent_since or datetime.now(UTC)
        if datetime.now(UTC) - self._silent_since > timedelta(seconds=SILENCE_LIMIT_S):
            raise StageFailed(f"the Prefect server gives no slot of the GPU ({error})", 1)
        return "waiting for the Prefect server, which does not answer as it should"


def free_dead_slots(client: Any) -> tuple[list[HolderRecord], bool]:
    """Return the slots of dead holders to the server.

    Returns:
        The records of living holders, and whether any slot was returned.
    """
    answer = client.request(
        "POST", "/variables/filter", json={"variables": {"name": {"like_": f"{PREFIX}%"}}}
    )
    server_time = parsedate_to_datetime(answer.headers["date"])
    living: list[HolderRecord] = []
    dead: list[tuple[str, HolderRecord]] = []
    for variable in answer.json():
        try:
            record = HolderRecord.model_validate(variable["value"])
        except ValidationError:
            continue  # a variable of the user's with such a name
        age = server_time - datetime.fromisoformat(variable["updated"])
        if is_holder_alive(record, age.total_seconds()):
            living.append(record)
        else:
            dead.append((variable["name"], record))
    for name, record in dead:
        return_dead_slot(client, name, record, len(living))
    return living, bool(dead)


def is_holder_alive(record: HolderRecord, age_s: float) -> bool:
    """Check whether a holder lives.

    Args:
        record: Its record.
        age_s: How long ago the record was renewed, in seconds.
    """
    held = is_locked(record.lock) if record.machine == machine_id() else None
    return age_s < STALE_S if held is None else held


def return_dead_slot(client: Any, name: str, record: HolderRecord, living: int) -> None:
    """Return the slot of a dead holder, once, even where several runs see that it is dead."""
    known = renew_lease(client, record.lease, LEASE_S) or renew_lease(
        client, record.witness, WITNESS_S
    )
    if not delete_record(client, name):
        return
    if known:
        release_lease(client, record.lease)
        release_lease(client, record.witness)
    elif count_taken_slots(client) > living:
        return_forgotten_slot(client)
    if record.machine == machine_id():
        record.lock.unlink(missing_ok=True)


def acquire_lease(client: Any, limits: list[str], seconds: float) -> str | None:
    """Take a slot of a limit; return its lease, or None when all slots are taken.

    Where no such limit exists, the lease holds no slot.
    """
    try:
        answer = client.increment_concurrency_slots_with_lease(
            names=limits, slots=1, mode="concurrency", lease_duration=seconds
        )
    except httpx.HTTPStatusError as error:
        if error.response.status_code in (LOCKED, TOO_MANY):
            return None
        raise
    return str(answer.json()["lease_id"])


def renew_lease(client: Any, lease: str, seconds: float) -> bool:
    """Renew a lease; return False when the server does not know it."""
    try:
        client.renew_concurrency_lease(lease_id=uuid.UUID(lease), lease_duration=seconds)
    except httpx.HTTPStatusError as error:
        if error.response.status_code != GONE:
            raise
        return False
    return True


def release_lease(client: Any, lease: str) -> None:
    """End a lease and return its slot; a lease that the server does not know holds none."""
    client.release_concurrency_slots_with_lease(lease_id=uuid.UUID(lease))


def count_taken_slots(client: Any) -> int:
    """Return how many slots the server counts as taken."""
    try:
        return int(client.read_global_concurrency_limit_by_name(GPU).active_slots)
    except ObjectNotFound:
        return 0


def return_forgotten_slot(client: Any) -> None:
    """Return a slot whose lease the server forgot when it was restarted."""
    client.release_concurrency_slots(names=[GPU], slots=1, occupancy_seconds=1.0)


def delete_record(client: Any, name: str) -> bool:
    """Delete a record; return False when another process deleted it first."""
    try:
        client.request("DELETE", f"/variables/name/{name}")
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.NOT_FOUND:
            raise
        return False
    return True


def machine_id() -> str:
    """Return an id of this machine since its last boot."""
    started = Path("/proc/sys/kernel/random/boot_id")
    return started.read_text().strip() if started.exists() else socket.gethostname()
