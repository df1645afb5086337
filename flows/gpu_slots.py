"""Hold the slots of the limit `gpu`, which says how many trainers run at once.

A temporary Prefect server serves one machine. There a slot is a locked file in `PREFECT_HOME`,
which the kernel frees when its holder ends. On the user's own server, which other machines may
share, a slot is one of the server's global concurrency limit (`flows.prefect_gpu_slots`).
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from prefect import get_client
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_HOME

from flows.prefect_gpu_slots import GPU, ServerSlot
from flows.prefect_server import is_users_server
from flows.waiting import FileLock, local_time, wait_until, waiting_message


class Slot(Protocol):
    """One slot of the limit `gpu`."""

    def attempt(self) -> str | None:
        """Take the slot; return None, or a message that says what to wait for."""

    def free(self) -> None:
        """Give the slot back."""


@contextmanager
def hold_gpu_slot(say: Callable[[str], None], ended: threading.Event) -> Iterator[None]:
    """Hold one of the slots of the limit `gpu`; wait where all are taken.

    Args:
        say: Receives a message that names the run that holds the slot, and since when.
        ended: An event that is set when the run ends, which ends the wait.

    Raises:
        StageFailed: when the run ended first.
    """
    slot: Slot = (
        ServerSlot(prefect_run_name(), say) if is_users_server() else LocalSlot(prefect_run_name())
    )
    try:
        wait_until(slot.attempt, say, ended, poll_s=1)
        yield
    finally:
        slot.free()


def prefect_run_name() -> str:
    """Return the names that Prefect gave to the flow run and to the task run."""
    flow, task = FlowRunContext.get(), TaskRunContext.get()
    names = [flow.flow_run.name if flow and flow.flow_run else "unnamed"]
    if task is not None:
        names.append(f"({task.task_run.name})")
    return " ".join(names)


class LocalSlot:
    """A slot among the runs of this machine that share `PREFECT_HOME`."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._file: FileLock | None = None

    def attempt(self) -> str | None:
        """Take the first file that no living process holds."""
        with get_client(sync_client=True) as client:
            limit = client.read_global_concurrency_limit_by_name(GPU)
        if not limit.active:
            return None
        holders = []
        for number in range(limit.limit):
            file = FileLock(PREFECT_HOME.value() / "gpu-slots" / str(number))
            if file.acquire(f"run {self._run} since {local_time()}"):
                self._file = file
                return None
            holders.append(file.read_holder())
        return (
            waiting_message("the GPU", holders) if holders else f"the limit {GPU} of Prefect is 0"
        )

    def free(self) -> None:
        """Unlock the file."""
        if self._file is not None:
            self._file.release()


def ensure_gpu_limit(trainers: int = 1) -> None:
    """Set the limit `gpu` on the server, unless the server has one already."""
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(GPU)
        except ObjectNotFound:
            client.upsert_global_concurrency_limit_by_name(GPU, trainers)
