"""Note which runs of this clone live, so that the next one reports those that were killed.

A run that is killed cannot say so: Prefect would list it as running for ever. While a flow runs, a
file named by its id is locked in `.locks/runs`; the kernel frees the lock when the flow ends,
however it ends. A file without a lock is that of a run which was killed, if it was written here: a
copy of a clone has copies of such files, which nobody locks.
"""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL, PREFECT_HOME
from prefect.states import Cancelled, Crashed
from pydantic import BaseModel, ConfigDict, ValidationError

from flows.prefect_client import server_client
from flows.prefect_server import is_users_server
from flows.waiting import FileLock

RUNS = Path(".locks/runs")
MESSAGE = "It was killed; the next run of this clone found it so."
UNFINISHED = [StateType.RUNNING, StateType.PENDING]
# States that only a living process can leave; one that is retried is scheduled or pending first.
KILLED_IN = (StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING)
FORGOTTEN_AFTER_S = 30 * 86400.0  # notes of another server or machine


class RunNote(BaseModel):
    """What tells a run from another attempt, server, machine or copy of the clone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    server: str
    machine: str
    file: str  # its folder and its inode, which a copy does not share
    attempt: int | None  # of Prefect's count; None where the server did not tell


@contextmanager
def noted_run() -> Iterator[None]:
    """Note that this flow's run lives; before that, report the runs that were killed."""
    name = str(flow_run.id)
    report_killed_runs(name)
    lock = FileLock(RUNS / f".{name}")  # locked before it has the name that others look at
    RUNS.mkdir(parents=True, exist_ok=True)
    lock.path.touch()
    note = RunNote(
        server=server_name(),
        machine=machine_name(),
        file=file_id(lock.path.stat()),
        attempt=read_attempt(name),
    )
    lock.acquire(note.model_dump_json())
    noted = lock.path.replace(RUNS / name)
    try:
        yield
    finally:
        noted.unlink(missing_ok=True)  # before it is free: nobody takes it for one of the killed
        lock.release()


def report_killed_runs(own: str) -> None:
    """Set the state of this clone's killed runs to `Crashed`, where the server knows them.

    Where the server does not answer, the next run tries again.

    Args:
        own: The id of the run that asks; it lives, even where an earlier attempt was killed.
    """
    killed = [path for path in RUNS.glob("[!.]*") if path.name != own and was_killed(path)]
    if not killed:
        return
    with suppress(httpx.HTTPError), server_client() as client:
        for path in killed:
            attempt = RunNote.model_validate_json(path.read_text(encoding="utf-8")).attempt
            with suppress(ObjectNotFound, ValueError):  # deleted by somebody; no id
                set_crashed(client, UUID(path.name), attempt)
            path.unlink(missing_ok=True)


def was_killed(path: Path) -> bool:
    """Check whether a note is that of a run of this clone, machine and server which was killed.

    A note that can be none, such as a copy, is removed.
    """
    try:
        with path.open(encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            found = os.fstat(file.fileno())
            if path.stat().st_ino != found.st_ino:
                return False  # another attempt of the run has just written its own
            note = RunNote.model_validate_json(file.read())
    except ValidationError:
        path.unlink(missing_ok=True)
        return False
    except OSError:  # locked: the run lives; or it has just ended
        return False
    if (note.machine, note.server) != (machine_name(), server_name()):
        if time.time() - found.st_mtime > FORGOTTEN_AFTER_S:
            path.unlink(missing_ok=True)
        return False
    if note.file != file_id(found):
        path.unlink(missing_ok=True)
        return False
    return True


def set_crashed(client: Any, run_id: UUID, attempt: int | None) -> None:
    """Set a killed run and its unfinished tasks to `Crashed`; to `Cancelled` one that was to end.

    A run that has ended, waits to be tried again, or is another attempt by now, stays as it is.

    Raises:
        ObjectNotFound: the server has no such run.
    """
    run = client.read_flow_run(run_id)
    if run.state is None or run.state.type not in KILLED_IN or run.run_count != attempt:
        return
    tasks = client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id])),
        task_run_filter=TaskRunFilter(
            state=TaskRunFilterState(type=TaskRunFilterStateType(any_=UNFINISHED))
        ),
    )
    for task in tasks:
        client.set_task_run_state(task.id, Crashed(message=MESSAGE), force=True)
    end = Cancelled if run.state.type == StateType.CANCELLING else Crashed
    client.set_flow_run_state(run_id, end(message=MESSAGE))  # the server keeps a final state


def read_attempt(run_id: str) -> int | None:
    """Return how many times Prefect has started a run; None where the server does not answer."""
    with suppress(httpx.HTTPError, ObjectNotFound, ValueError), server_client() as client:
        return int(client.read_flow_run(UUID(run_id)).run_count)
    return None


def server_name() -> str:
    """Return which server's database has this process's runs, without a password."""
    if not is_users_server():
        return f"temporary, in {PREFECT_HOME.value()}"
    parts = urlsplit(str(PREFECT_API_URL.value()))
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def machine_name() -> str:
    """Return a name of this machine that outlives a restart of it."""
    identity = Path("/etc/machine-id")
    known = identity.read_text(encoding="utf-8").strip() if identity.exists() else ""
    return f"{socket.gethostname()} {known}".strip()


def file_id(file: os.stat_result) -> str:
    """Return what tells a file of this clone from a copy of it elsewhere."""
    return f"{RUNS.resolve()} {file.st_ino}"
