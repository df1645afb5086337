"""All that is random in a training step, drawn before it."""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from models.diffaugment import DiffAugment
from tasks.common.torch_setup import seeded_generator
from tasks.params.train_gan import TrainGan
from tasks.train_gan.distributed import Ranks
from tasks.train_gan.training_data import TrainingData


@dataclass(frozen=True)
class StepInputs:
    """A step's slices and random numbers, on the device.

    `real` (B,C+1,H,W), `labels` (B,), `conditions` (B,k) or None and `z` (B,latent) are this
    process's share of the batch; `all_real` and `all_labels` the whole of it. `views` (3,B,13)
    decide the augmentation of real slices, of generated ones, and of the same again; `mix` (B,).
    """

    real: Tensor
    labels: Tensor
    conditions: Tensor | None
    z: Tensor
    views: Tensor
    mix: Tensor
    all_real: Tensor
    all_labels: Tensor

    def copy_(self, other: "StepInputs") -> None:
        """Take over the other's values, in place."""
        for mine, its in zip(self.tensors(), other.tensors(), strict=True):
            mine.copy_(its)

    def clone(self) -> "StepInputs":
        """The same values elsewhere."""
        return replace(self, **{name: getattr(self, name).clone() for name in self.names()})

    def names(self) -> list[str]:
        """The fields that hold something."""
        return [field.name for field in fields(self) if getattr(self, field.name) is not None]

    def tensors(self) -> list[Tensor]:
        """What they hold."""
        return [getattr(self, name) for name in self.names()]


def draw_step_inputs(
    asked: TrainGan, number: int, examples: TrainingData, ranks: Ranks
) -> StepInputs:
    """Everything random of a step, from (seed, step) alone.

    Each process draws for the whole batch, which costs little, and keeps its share: a slice's
    numbers do not depend on how many processes there are.
    """
    device = examples.train.x.device
    random = seeded_generator(asked.seed, number, device=device)
    real, labels, conditions = examples.batch(asked.batch, random)
    z = torch.randn(asked.batch, asked.latent, generator=random, device=device)
    views = [DiffAugment.random_numbers(asked.batch, random, device) for _ in range(3)]
    mix = torch.rand(asked.batch, generator=random, device=device)
    return StepInputs(
        real=ranks.share(real),
        labels=ranks.share(labels),
        conditions=None if conditions is None else ranks.share(conditions),
        z=ranks.share(z),
        views=torch.stack([ranks.share(view) for view in views]),
        mix=ranks.share(mix),
        all_real=real,
        all_labels=labels,
    )
