"""Train one generator in several processes (`train_gan.processes`) with torchrun's machinery.

Every process makes the random numbers of the whole batch from the same seed and takes every n-th
slice of it, so the result depends on the number of processes only by the rounding of sums.
Gradients are averaged by one all-reduce of all of them, not by DistributedDataParallel: its hooks
fire at the first backward pass through a parameter and miss the second one of a gradient penalty.
"""

import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from tasks.stage.errors import InputError

CONTINUE, STOP, RESTART = 0, 1, 2
TIMEOUT = timedelta(minutes=60)  # the first process may measure for long


@dataclass(frozen=True)
class Ranks:
    """The rank of this process and the number of processes."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process validates, saves and writes."""
        return self.rank == 0

    def shard(self, x: Tensor) -> Tensor:
        """Return this process's rows of a batch.

        It takes every n-th row, because the groups of the minibatch standard deviation are spread
        over a batch in the same way and so stay whole.
        """
        return x[self.rank :: self.world_size]

    def average_in_place(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its mean over all processes."""
        if self.world_size == 1:
            return
        to_average = list(tensors)
        flat = torch.cat([tensor.reshape(-1) for tensor in to_average])
        dist.all_reduce(flat)
        means = torch.split(flat / self.world_size, [tensor.numel() for tensor in to_average])
        for tensor, mean in zip(to_average, means, strict=True):
            tensor.copy_(mean.view_as(tensor))

    @contextmanager
    def stop_all_on_error(self, device: torch.device) -> Iterator[None]:
        """Tell the other processes to stop before an `InputError` ends the first one."""
        try:
            yield
        except InputError:
            if self.is_first:
                self.broadcast_decision(STOP, device)
            raise

    def barrier(self) -> None:
        """Wait until every process has come here."""
        if self.world_size > 1:
            dist.barrier()

    def broadcast_decision(self, decision: int, device: torch.device) -> int:
        """Return rank 0's decision; the argument of other ranks is ignored."""
        if self.world_size == 1:
            return decision
        shared = torch.tensor(decision, device=device)
        dist.broadcast(shared, 0)
        return int(shared)


def is_launched() -> bool:
    """Return whether torchrun, or `launch_processes`, started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def launch_processes(processes: int, fold: str) -> None:
    """Run the stage in several processes of this machine and wait for them.

    They are children of this one and end with it. Ends this process with the exit code of the
    first that failed.

    Raises:
        InputError: when there are GPUs, but fewer than processes.
    """
    if 0 < (gpus := torch.cuda.device_count()) < processes:
        raise InputError(
            f"train_gan.processes is {processes}, but this machine has {gpus} GPUs, and each"
            " process needs one of its own; make it smaller"
        )
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id="train_gan",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,  # the stage resumes when it is started again
    )
    try:
        elastic_launch(config, sys.executable)("-m", "tasks.train_gan", fold)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        raise SystemExit(failure.exitcode if failure.exitcode > 0 else 1) from None


def join_process_group(processes: int, device: torch.device) -> Ranks:
    """Join the other processes, where there are any.

    Raises:
        InputError: when torchrun started another number than params.yaml says.
    """
    if not is_launched():
        return Ranks()
    count = int(os.environ["WORLD_SIZE"])
    if count != processes:
        raise InputError(
            f"torchrun started {count} processes, train_gan.processes is {processes}; make them"
            " equal, or run the stage without torchrun: it starts its processes itself"
        )
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    return Ranks(dist.get_rank(), count)


def leave_process_group(ranks: Ranks) -> None:
    """Leave the other processes."""
    if ranks.world_size > 1:
        dist.destroy_process_group()
