"""Note which runs of this clone live, so that the next one reports those that were killed.

A run that is killed cannot say so: Prefect would list it as running for ever. While a flow runs, a
file named by its id is locked in `.locks/runs`; the kernel frees the lock when the flow ends,
however it ends. A file without a lock is that of a run which was killed.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect import get_client
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
from prefect.states import Crashed

from flows.waiting import FileLock, is_locked

RUNS = Path(".locks/runs")
MESSAGE = "It was killed; the next run of this clone found it so."
UNFINISHED = [StateType.RUNNING, StateType.PENDING]


@contextmanager
def noted_run() -> Iterator[None]:
    """Note that this flow's run lives; before that, report the runs that were killed."""
    report_killed_runs()
    name = str(flow_run.id)
    lock = FileLock(RUNS / f".{name}")  # locked before it has the name that others look at
    lock.acquire("")
    noted = lock.path.replace(RUNS / name)
    try:
        yield
    finally:
        noted.unlink(missing_ok=True)
        lock.release()


def report_killed_runs() -> None:
    """Set the state of this clone's killed runs to `Crashed`, where the server knows them.

    Where the server does not answer, the next run tries again.
    """
    killed = [path for path in RUNS.glob("[!.]*") if is_locked(path) is False]
    if not killed:
        return
    with suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        for path in killed:
            with suppress(ObjectNotFound, ValueError):  # of another server; no id
                set_crashed(client, UUID(path.name))
            path.unlink(missing_ok=True)


def set_crashed(client: Any, run_id: UUID) -> None:
    """Set a run and its unfinished tasks to `Crashed`, unless the run has ended.

    Raises:
        ObjectNotFound: the server has no such run.
    """
    state = client.read_flow_run(run_id).state
    if state is not None and state.is_final():
        return
    tasks = client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id])),
        task_run_filter=TaskRunFilter(
            state=TaskRunFilterState(type=TaskRunFilterStateType(any_=UNFINISHED))
        ),
    )
    for task in tasks:
        client.set_task_run_state(task.id, Crashed(message=MESSAGE), force=True)
    client.set_flow_run_state(run_id, Crashed(message=MESSAGE), force=True)
