"""Several processes train one generator: `train_gan.processes`, by the machinery of torchrun.

Every process draws the whole batch from the same seed and takes every so-manyth slice of it, so
the result does not depend on their number beyond the rounding of sums. Gradients are averaged by
one all-reduce of all of them in a row, not by DistributedDataParallel: its hooks fire at the first
backward pass through a parameter and know nothing of the second one of a gradient penalty.
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

GO_ON, STOP, START_OVER = 0, 1, 2
PATIENCE = timedelta(minutes=60)  # the first process may measure for long


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this one is."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process watches, saves and writes."""
        return self.rank == 0

    def share(self, x: Tensor) -> Tensor:
        """This process's rows.

        Every so-manyth, so that the minibatch standard deviation's groups, which are spread over
        a batch in the same way, stay whole.
        """
        return x[self.rank :: self.count]

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Put the mean over all processes into each tensor."""
        if self.count == 1:
            return
        listed = list(tensors)
        row = torch.cat([tensor.reshape(-1) for tensor in listed])
        dist.all_reduce(row)
        means = torch.split(row / self.count, [tensor.numel() for tensor in listed])
        for tensor, mean in zip(listed, means, strict=True):
            tensor.copy_(mean.view_as(tensor))

    @contextmanager
    def ending_together(self, device: torch.device) -> Iterator[None]:
        """Tell the others to stop before a `StageError` of the first process ends it."""
        try:
            yield
        except InputError:
            if self.first:
                self.broadcast_decision(STOP, device)
            raise

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.count > 1:
            dist.barrier()

    def broadcast_decision(self, word: int, device: torch.device) -> int:
        """What the first process says; what the others pass does not matter."""
        if self.count == 1:
            return word
        said = torch.tensor(word, device=device)
        dist.broadcast(said, 0)
        return int(said)


def launched() -> bool:
    """Whether torchrun, or `launch`, started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def launch(processes: int, fold: str) -> None:
    """Run the stage in several processes of this machine and wait for them.

    They are children of this one and end with it. Ends this process with the exit code of the
    first that failed.

    Raises:
        StageError: when there are GPUs, but fewer than processes.
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


def join(processes: int, device: torch.device) -> Ranks:
    """Meet the other processes, where there are any.

    Raises:
        StageError: when torchrun started another number than params.yaml says.
    """
    if not launched():
        return Ranks()
    count = int(os.environ["WORLD_SIZE"])
    if count != processes:
        raise InputError(
            f"torchrun started {count} processes, train_gan.processes is {processes}; make them"
            " equal, or run the stage without torchrun: it starts its processes itself"
        )
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    return Ranks(dist.get_rank(), count)


def leave(ranks: Ranks) -> None:
    """Part from the other processes."""
    if ranks.count > 1:
        dist.destroy_process_group()
