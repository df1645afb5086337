"""A pool of threads in which each thread computes its own matrix products."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits


@contextmanager
def single_threaded_blas(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of threads in which every matrix product runs in the thread that calls it.

    The products of the searches are small: threads of BLAS or of torch would wait for each other
    longer than they work.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(workers) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)
