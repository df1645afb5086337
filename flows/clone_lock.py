"""Let one flow at a time work in a clone."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flows import dvc_locks
from flows.waiting import FileLock, is_locked, local_time, wait_until, waiting_message

RUN_LOCK = Path(".locks/run")


@contextmanager
def exclusive_run(say: Callable[[str], None]) -> Iterator[None]:
    """Wait until no other flow runs in this clone, then hold the clone.

    What a killed flow left in DVC's list of paths in use is removed.
    """
    from flows.gpu_slots import prefect_run_name  # imports Prefect, which waiting needs not

    lock = FileLock(RUN_LOCK)

    def attempt() -> str | None:
        if lock.acquire(f"run {prefect_run_name()} since {local_time()}"):
            return None
        return waiting_message("this clone", [lock.read_holder()])

    wait_until(attempt, say, threading.Event())
    try:
        dvc_locks.drop_dead_entries(Path())
        yield
    finally:
        lock.release()


def wait_for_other_run(say: Callable[[str], None]) -> None:
    """Wait until no flow runs in this clone, without holding the clone."""

    def attempt() -> str | None:
        if is_locked(RUN_LOCK):
            return waiting_message("this clone", [FileLock(RUN_LOCK).read_holder()])
        return None

    wait_until(attempt, say, threading.Event())
