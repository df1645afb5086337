"""Share this machine's cores among stages, so that they do not slow each other down.

A core is a locked file in `PREFECT_HOME`, as a slot of the GPU is: all runs with this
`PREFECT_HOME` share them, and the kernel frees them when their holder ends, however it ends.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prefect.settings import PREFECT_HOME

from flows.gpu_slots import prefect_run_name
from flows.waiting import FileLock, local_time, wait_until, waiting_message
from tasks import params
from tasks.stage.errors import InputError

ALL = "all"
CORES_VARIABLE = "AUGLIFT_CORES"


def shared_cores() -> int:
    """Return how many cores stages share: `AUGLIFT_CORES`, else those that this process may use.

    Raises:
        InputError: when the variable is no such number.
    """
    if text := os.environ.get(CORES_VARIABLE):
        if not (text.isdecimal() and int(text) > 0):
            raise InputError(f"{CORES_VARIABLE} is {text!r}; expected a number of cores, 1 or more")
        return int(text)
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def wanted_cores(cores: int | str) -> int:
    """Return how many cores a stage keeps busy, at most all.

    Args:
        cores: `cores` of its `meta.prefect`: a number, a key of `params.yaml` (1 where it is not
            written), or `all`.
    """
    total = shared_cores()
    if cores == ALL:
        return total
    number = cores
    if isinstance(cores, str):
        number = dict(params.leaf_values(params.load_params())).get(cores, 1)
    return max(1, min(int(number), total))


@contextmanager
def hold_cores(wanted: int, say: Callable[[str], None], ended: threading.Event) -> Iterator[None]:
    """Hold some of the cores; wait where too few are free.

    Args:
        wanted: How many.
        say: Receives a message that names the runs that hold the others.
        ended: An event that is set when the run ends, which ends the wait.

    Raises:
        StageFailed: when the run ended first.
    """
    held: list[FileLock] = []
    holder = f"run {prefect_run_name()} since {local_time()}"

    def attempt() -> str | None:
        found, holders = take_free_cores(wanted, holder)
        held.extend(found)
        if found:
            return None
        cores = "a core" if wanted == 1 else f"{wanted} of {shared_cores()} cores"
        return waiting_message(cores, sorted(set(holders)))

    try:
        wait_until(attempt, say, ended)
        yield
    finally:
        for lock in held:
            lock.release()


def take_free_cores(wanted: int, holder: str) -> tuple[list[FileLock], list[str]]:
    """Lock as many cores as are wanted, or none; return them, and who holds the others."""
    found: list[FileLock] = []
    holders: list[str] = []
    for number in range(shared_cores()):
        lock = FileLock(PREFECT_HOME.value() / "core-slots" / str(number))
        if lock.acquire(holder):
            found.append(lock)
        else:
            holders.append(lock.read_holder())
        if len(found) == wanted:
            return found, holders
    for lock in found:
        lock.release()
    return [], holders
