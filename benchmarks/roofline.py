"""Measure what a piece of work costs, and the best that the machine can do."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

Step = Callable[[], None]


def time_steps(step: "Step", count: int, device: torch.device) -> tuple[float, float]:
    """Time a step: the process's CPU seconds over its threads (a GPU's: wall), and wall."""
    spent, wall = time.process_time(), time.perf_counter()
    for _ in range(count):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    wall = (time.perf_counter() - wall) / count
    spent = (time.process_time() - spent) / count / torch.get_num_threads()
    return (wall if device.type == "cuda" else spent), wall


@dataclass(frozen=True)
class Cost:
    """What a step needs on any machine: FLOPs of its products, bytes that it moves."""

    flops: float
    bytes: float

    @classmethod
    def of(cls, step: "Step", period: int) -> "Cost":
        """Count whole periods of steps."""
        step()
        with Counter() as counter:
            for _ in range(period):
                step()
        return cls(counter.flops / period, counter.bytes / period)


class Counter(TorchDispatchMode):
    """FLOPs of products, and bytes that operators read and write as if nothing were cached.

    `FlopCounterMode` itself fails on the double backward of a gradient penalty.
    """

    flops = 0
    bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        if (flops := flop_registry.get(func._overloadpacket)) is not None:
            self.flops += flops(*args, **kwargs, out_val=made)
        if not func.is_view:
            for each in tree_leaves((args, kwargs, made)):
                if isinstance(each, Tensor):
                    self.bytes += each.nbytes
        return made


@dataclass(frozen=True)
class MachinePeak:
    """FLOP/s of large matrix products and bytes/s of a large copy, on this machine today."""

    fp32: float
    bf16: float
    copy: float

    @classmethod
    def measure(cls, device: torch.device) -> "MachinePeak":
        """Measure the best of some tries: other work on the machine can only slow one down."""
        n = 8192 if device.type == "cuda" else 1024
        products = []
        for dtype in (torch.float32, torch.bfloat16):
            a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
            products.append(2 * n**3 / least_seconds(lambda a=a, b=b: a @ b, device))  # type: ignore[misc]
        x = torch.randn(2**28 if device.type == "cuda" else 2**24, device=device)
        y = torch.empty_like(x)
        return cls(
            products[0], products[1], 2 * x.nbytes / least_seconds(lambda: y.copy_(x), device)
        )

    def __str__(self) -> str:
        return (
            f"ceilings: {self.fp32 / 1e9:.0f} GFLOP/s in fp32, {self.bf16 / 1e9:.0f} in bf16,"
            f" copy {self.copy / 1e9:.0f} GB/s"
        )


def least_seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return the least seconds of a piece of work."""
    return min(time_steps(lambda: discard(work()), 3, device)[0] for _ in range(12))


def discard(_: object) -> None:
    """Drop a result."""


def describe_machine(device: torch.device) -> str:
    """Describe the processor or GPU that the figures were measured on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    model = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    capabilities = torch.cpu.get_capabilities()
    fast = [name for name in ("avx512_f", "avx512_bf16", "amx_bf16") if capabilities.get(name)]
    return f"{model[0].split(':')[1].strip() if model else 'processor'} ({', '.join(fast)})"
