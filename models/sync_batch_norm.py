"""Normalise batches over the slices of all processes.

PyTorch's own `SyncBatchNorm` does not run on a CPU. This one needs only an all-reduce, so gloo and
NCCL both support it.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class SumOverRanks(torch.autograd.Function):
    """The sum of a tensor over all processes; every process gets the gradients of all."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Return the sum of x, of any shape, over all processes."""
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Add up the gradients of all processes, whose losses all depend on this process's x."""
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


def mean_over_ranks(x: Tensor) -> Tensor:
    """Return the mean over all processes; x itself where there is only one."""
    if not (dist.is_available() and dist.is_initialized()):
        return x
    total: Tensor = SumOverRanks.apply(x)
    return total / dist.get_world_size()


class SyncBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` (Ioffe 2015) with the statistics of every process's slices together.

    All processes must hold equally many slices. Running statistics stay the same on all of them.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (B,C,H,W) to (B,C,H,W)."""
        if not self.training:
            return super().forward(x)
        axes = (0, 2, 3)
        x32 = x.float()
        mean = mean_over_ranks(x32.mean(axes))  # (C,)
        centred = x32 - mean[:, None, None]
        variance = mean_over_ranks(centred.square().mean(axes))
        self.update_running_statistics(mean.detach(), variance.detach(), x.numel() // x.shape[1])
        scale = (variance + self.eps).rsqrt() * self.weight
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def update_running_statistics(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics towards those of a batch, as `nn.BatchNorm2d` does.

        `count` is one process's number of values of a channel; the running variance is unbiased.
        """
        if self.running_mean is None or self.running_var is None or self.momentum is None:
            return
        ranks = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        total_count = count * ranks
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * total_count / (total_count - 1), self.momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


def replace_batch_norms(module: nn.Module) -> None:
    """Replace every batch norm inside a module by `SyncBatchNorm2d` with the same weights."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            norm = SyncBatchNorm2d(child.num_features, child.eps, child.momentum)
            norm.load_state_dict(child.state_dict())
            setattr(module, name, norm.to(child.weight.device).train(child.training))
        else:
            replace_batch_norms(child)
