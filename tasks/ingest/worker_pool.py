"""Work spread over processes that may die without taking the batch with them.

A decoder written in C can crash, hang or ask for all memory. Each worker has a limit of memory
and each task one of time; a task that kills its worker twice, the second time alone, is given up.
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
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TypeVar

from tasks.stage.processes import init_worker_process

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 16  # tasks for each core, so that a long one does not keep others waiting
M_MMAP_THRESHOLD, LARGE = -3, 1 << 18  # malloc.h; bytes


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def map_in_workers(
    work: Callable[[T], R], tasks: Iterable[T], *, seconds: float, memory: int
) -> Iterator[tuple[T, R | None]]:
    """Tasks with their results, in the order of the tasks; None for one that killed its worker.

    `seconds` a task may take; `memory` bytes a worker may take beyond what it starts with. Only a
    few tasks are taken ahead. An exception that `work` raises is raised here.
    """
    coming = iter(tasks)
    ahead = AHEAD * cores()
    due = deque(islice(coming, ahead))  # tasks that have not been given out
    while due:
        jobs = min(cores(), len(due))
        futures: deque[Future[R]] = deque()
        suspects: list[Future[R]] = []
        with shared_heap(), pool(jobs, memory) as workers:
            try:
                while due:
                    for task in islice(due, len(futures), None):
                        futures.append(workers.submit(run_with_timeout, work, task, seconds))
                    result = futures[0].result()
                    futures.popleft()
                    yield due.popleft(), result
                    due.extend(islice(coming, ahead - len(due)))
            except BrokenProcessPool:
                suspects += list(futures)[: jobs + 1]
            finally:
                workers.shutdown(cancel_futures=True)
        for future in suspects:
            task = due.popleft()
            yield task, finished(future) or retry_alone(work, task, seconds, memory)
        due.extend(islice(coming, ahead - len(due)))


@contextmanager
def shared_heap() -> Iterator[None]:
    """Keep the collector off what is there: a collection copies every page that workers share."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def pool(jobs: int, memory: int) -> ProcessPoolExecutor:
    """Forked workers: what the parent has imported need not be imported again."""
    return ProcessPoolExecutor(
        jobs,
        mp_context=multiprocessing.get_context("fork"),
        initializer=prepare,
        initargs=(memory,),
    )


def finished(future: "Future[R]") -> R | None:
    """The result of a task that ended before its pool broke."""
    if not future.done() or future.cancelled() or future.exception() is not None:
        return None
    return future.result()


def retry_alone(work: Callable[[T], R], task: T, seconds: float, memory: int) -> R | None:
    """Run one suspect in a worker of its own."""
    with pool(1, memory) as worker:
        try:
            return worker.submit(run_with_timeout, work, task, seconds).result()
        except BrokenProcessPool:
            return None


def prepare(memory: int) -> None:
    """Make a worker silent, mortal and bounded."""
    init_worker_process()
    give_back_volumes()
    faulthandler.disable()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.__stderr__.fileno() if sys.__stderr__ else 2)
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def give_back_volumes() -> None:
    """Have glibc return each volume's memory when it is freed.

    Left alone it learns from the first large block to keep such blocks, and a worker grows with
    the number of volumes that went through it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE)


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
