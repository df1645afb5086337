"""A GPU's work of a step, recorded once and replayed: one launch in place of thousands.

A small network's step is over sooner than a host can launch its kernels one by one. What cannot
be recorded, on whatever version or device, is run as it is.
"""

import sys
from collections.abc import Callable

import torch
from torch import Tensor

from tasks.train_gan.step_inputs import StepInputs

WARM_UP = 3  # plain steps of each kind first: libraries choose and allocate in them
Update = Callable[[StepInputs, bool], Tensor]


class CudaGraphStep:
    """An update that may be replayed.

    Args:
        update: draws and whether this step is penalised -> a tensor. It may not wait for the
            device, and must leave its results in tensors that stay where they are.
        device: where it computes; on a CPU every step is run as it is.
    """

    def __init__(self, update: Update, device: torch.device) -> None:
        self.update = update
        self.able = device.type == "cuda"
        self.taken = {False: 0, True: 0}
        self.recorded: dict[bool, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        self.inputs: StepInputs | None = None

    def __call__(self, draws: StepInputs, penalised: bool) -> Tensor:
        """The update of one step."""
        if penalised in self.recorded and self.inputs is not None:
            graph, result = self.recorded[penalised]
            self.inputs.copy_(draws)
            graph.replay()
            return result
        self.taken[penalised] += 1
        if self.able and self.taken[penalised] > WARM_UP:
            try:
                return self.record(draws, penalised)
            except RuntimeError as error:
                self.able = False
                reason = str(error).splitlines()[0]
                print(f"train_gan: no CUDA graph, plain steps: {reason}", file=sys.stderr)
        return self.warm(draws, penalised) if self.able else self.update(draws, penalised)

    def warm(self, draws: StepInputs, penalised: bool) -> Tensor:
        """A plain step on a side stream, as recording asks for."""
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            result = self.update(draws, penalised)
        torch.cuda.current_stream().wait_stream(side)
        return result

    def record(self, draws: StepInputs, penalised: bool) -> Tensor:
        """Record the step, then take it: recording itself computes nothing."""
        if self.inputs is None:
            self.inputs = draws.clone()
        self.inputs.copy_(draws)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = self.update(self.inputs, penalised)
        self.recorded[penalised] = graph, result
        graph.replay()
        return result
