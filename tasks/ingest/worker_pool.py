"""Run work in worker processes that may die without ending the batch.

A decoder written in C can crash, hang or ask for all memory. Each worker has a memory limit
and each task a time limit. A task that kills its worker twice, the second time alone, has no
result.
"""

import ctypes
import faulthandler
import gc
import logging
import multiprocessing
import os
import resource
import sys
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TypeVar

from tasks.stage.processes import init_worker_process

T = TypeVar("T")
R = TypeVar("R")

TASKS_AHEAD = 16  # for each core, so that a long task does not keep other workers waiting
M_MMAP_THRESHOLD, MMAP_FROM = -3, 1 << 18  # malloc.h; bytes


def available_cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def map_in_workers(
    work: Callable[[T], R], tasks: Iterable[T], *, seconds: float, memory: int
) -> Generator[tuple[T, R | None]]:
    """Yield tasks with their results, in the order of the tasks; None for one that killed workers.

    A task may take `seconds`; a worker may take `memory` bytes beyond what it starts with. Only a
    few tasks are taken ahead. An exception that `work` raises is raised here. Closing the generator
    ends its workers, each after the task that it has begun.
    """
    remaining = iter(tasks)
    ahead = TASKS_AHEAD * available_cores()
    waiting = deque(islice(remaining, ahead))  # tasks without a result yet
    while waiting:
        jobs = min(available_cores(), len(waiting))
        futures: deque[Future[R]] = deque()
        suspects: list[Future[R]] = []
        with freeze_heap(), start_pool(jobs, memory) as workers:
            try:
                while waiting:
                    for task in islice(waiting, len(futures), None):
                        futures.append(workers.submit(run_with_timeout, work, task, seconds))
                    result = futures[0].result()
                    futures.popleft()
                    yield waiting.popleft(), result
                    waiting.extend(islice(remaining, ahead - len(waiting)))
            except BrokenProcessPool:
                suspects += list(futures)[: jobs + 1]
            finally:
                workers.shutdown(cancel_futures=True)
        for future in suspects:
            task = waiting.popleft()
            yield task, result_if_finished(future) or retry_alone(work, task, seconds, memory)
        waiting.extend(islice(remaining, ahead - len(waiting)))


@contextmanager
def freeze_heap() -> Iterator[None]:
    """Keep the garbage collector off existing objects: it would copy all shared pages."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def start_pool(jobs: int, memory: int) -> ProcessPoolExecutor:
    """Fork workers: what the parent has imported need not be imported again."""
    return ProcessPoolExecutor(
        jobs,
        mp_context=multiprocessing.get_context("fork"),
        initializer=init_worker,
        initargs=(memory,),
    )


def result_if_finished(future: "Future[R]") -> R | None:
    """Return the result of a task that finished before its pool broke; None of another."""
    if not future.done() or future.cancelled() or future.exception() is not None:
        return None
    return future.result()


def retry_alone(work: Callable[[T], R], task: T, seconds: float, memory: int) -> R | None:
    """Run one suspect in a worker of its own; None if it kills that worker too."""
    with start_pool(1, memory) as worker:
        try:
            return worker.submit(run_with_timeout, work, task, seconds).result()
        except BrokenProcessPool:
            return None


def init_worker(memory: int) -> None:
    """Silence a worker and limit its memory; it ends when its parent ends."""
    init_worker_process()
    release_freed_memory()
    faulthandler.disable()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.__stderr__.fileno() if sys.__stderr__ else 2)
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def release_freed_memory() -> None:
    """Make glibc return each volume's memory to the system when it is freed.

    By default glibc keeps large blocks after the first one, and a worker grows with the number of
    volumes that it has read.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, MMAP_FROM)


@contextmanager
def silence_libraries() -> Iterator[None]:
    """Silence libraries: their warnings quote attributes, and attributes hold names."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)


def run_with_timeout(work: Callable[[T], R], task: T, seconds: float) -> R:
    """Do the work; a watchdog that needs no Python thread ends the process when it hangs."""
    with Path(os.devnull).open("w") as nowhere:
        faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)
        try:
            return work(task)
        finally:
            faulthandler.cancel_dump_traceback_later()
