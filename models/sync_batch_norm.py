"""Batch normalisation over the slices of all processes.

PyTorch's own `SyncBatchNorm` refuses to run on a CPU. This one asks for nothing but an all-reduce,
so gloo and NCCL both carry it.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class SumOverRanks(torch.autograd.Function):
    """The sum of a tensor over all processes; every process gets the gradients of all."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """x of any shape -> the sum, the same on every process."""
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        """Each process's loss depends on this process's x: their slopes add up."""
        total = slope.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


def mean_over_ranks(x: Tensor) -> Tensor:
    """The mean over all processes; x itself where there is only one."""
    if not (dist.is_available() and dist.is_initialized()):
        return x
    total: Tensor = SumOverRanks.apply(x)
    return total / dist.get_world_size()


class SyncBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` (Ioffe 2015) with the statistics of every process's slices together.

    All processes must hold equally many slices. Running statistics stay the same on all of them.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,H,W) -> (B,C,H,W)."""
        if not self.training:
            return super().forward(x)
        axes = (0, 2, 3)
        wide = x.float()
        mean = mean_over_ranks(wide.mean(axes))  # (C,)
        centred = wide - mean[:, None, None]
        variance = mean_over_ranks(centred.square().mean(axes))
        self.update_running_statistics(mean.detach(), variance.detach(), x.numel() // x.shape[1])
        scale = (variance + self.eps).rsqrt() * self.weight
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def update_running_statistics(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics, as `nn.BatchNorm2d` does, towards those of a batch.

        `count` is of one process's values of a channel; the running variance is unbiased.
        """
        if self.running_mean is None or self.running_var is None or self.momentum is None:
            return
        ranks = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        whole = count * ranks
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * whole / (whole - 1), self.momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


def replace_batch_norms(module: nn.Module) -> None:
    """Put `SyncBatchNorm2d` in the place of every batch norm inside a module, weights and all."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            norm = SyncBatchNorm2d(child.num_features, child.eps, child.momentum)
            norm.load_state_dict(child.state_dict())
            setattr(module, name, norm.to(child.weight.device).train(child.training))
        else:
            replace_batch_norms(child)
