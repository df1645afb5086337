"""The slots of the limit `gpu`: how many trainers run at once.

A temporary server serves one machine: there a slot is a locked file in `PREFECT_HOME`, which the
kernel frees when its holder ends. On a server of the user's, which other machines may share, it is
a slot of the server's global concurrency limit (`flows.prefect_gpu_slots`).
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
from flows.prefect_server import is_shared
from flows.waiting import FileLock, local_time, wait_until, waiting_message


class Slot(Protocol):
    """One slot, to be taken and freed."""

    def attempt(self) -> str | None:
        """Take the slot; returns None, or in words what is to be waited for."""

    def free(self) -> None:
        """Give the slot back."""


@contextmanager
def gpu_slot(say: Callable[[str], None], ended: threading.Event) -> Iterator[None]:
    """Hold one of the slots of the limit `gpu`; wait for it where all are taken.

    Args:
        say: Is told what is waited for, and since when another run holds it.
        ended: Set when the run ends, which ends the wait.

    Raises:
        StageFailed: when the run ended first.
    """
    slot: Slot = ServerSlot(run_name(), say) if is_shared() else LocalSlot(run_name())
    try:
        wait_until(slot.attempt, say, ended, poll_s=1)
        yield
    finally:
        slot.free()


def run_name() -> str:
    """The names that Prefect gave the flow's run and the task's."""
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
            if file.take(f"run {self._run} since {local_time()}"):
                self._file = file
                return None
            holders.append(file.holder())
        return (
            waiting_message("the GPU", holders) if holders else f"the limit {GPU} of Prefect is 0"
        )

    def free(self) -> None:
        """Unlock the file."""
        if self._file is not None:
            self._file.free()


def ensure_gpu_limit(trainers: int = 1) -> None:
    """Some trainers at a time, unless the user's server already says how many."""
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(GPU)
        except ObjectNotFound:
            client.upsert_global_concurrency_limit_by_name(GPU, trainers)
