"""Record the GPU work of a training step once and replay it: one launch in place of thousands.

A GPU finishes a small network's step sooner than the host can launch its kernels one by one. A
device or version that cannot record runs plain steps.
"""

import sys
from collections.abc import Callable

import torch
from torch import Tensor

from tasks.train_gan.step_inputs import StepInputs

WARM_UP_STEPS = 3  # plain steps of each kind first: libraries choose and allocate in them
Update = Callable[[StepInputs, bool], Tensor]


class CudaGraphStep:
    """An update of the networks that is recorded and replayed where the device can.

    Args:
        update: function of the step's inputs and whether this step is penalised; returns a tensor.
            It may not wait for the device, and must leave its results in tensors that keep their
            memory.
        device: where it computes; on a CPU every step is a plain one.
    """

    def __init__(self, update: Update, device: torch.device) -> None:
        self.update = update
        self.can_record = device.type == "cuda"
        self.plain_steps = {False: 0, True: 0}
        self.recorded: dict[bool, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        self.static_inputs: StepInputs | None = None

    def __call__(self, inputs: StepInputs, penalised: bool) -> Tensor:
        """Run the update of one step."""
        if penalised in self.recorded and self.static_inputs is not None:
            graph, result = self.recorded[penalised]
            self.static_inputs.copy_(inputs)
            graph.replay()
            return result
        self.plain_steps[penalised] += 1
        if self.can_record and self.plain_steps[penalised] > WARM_UP_STEPS:
            try:
                return self.record_and_replay(inputs, penalised)
            except RuntimeError as error:
                self.can_record = False
                reason = str(error).splitlines()[0]
                print(f"train_gan: no CUDA graph, plain steps: {reason}", file=sys.stderr)
        return (
            self.run_on_side_stream(inputs, penalised)
            if self.can_record
            else self.update(inputs, penalised)
        )

    def run_on_side_stream(self, inputs: StepInputs, penalised: bool) -> Tensor:
        """Run a plain step on a side stream, as CUDA graphs need before recording."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = self.update(inputs, penalised)
        torch.cuda.current_stream().wait_stream(stream)
        return result

    def record_and_replay(self, inputs: StepInputs, penalised: bool) -> Tensor:
        """Record the step, then replay it: recording itself computes nothing."""
        if self.static_inputs is None:
            self.static_inputs = inputs.clone()
        self.static_inputs.copy_(inputs)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = self.update(self.static_inputs, penalised)
        self.recorded[penalised] = graph, result
        graph.replay()
        return result
