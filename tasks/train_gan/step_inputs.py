"""Make the batch and all random numbers of a training step before the step runs."""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from models.diffaugment import DiffAugment
from tasks.common.torch_setup import seeded_generator
from tasks.params.train_gan import TrainGan
from tasks.train_gan.distributed import Ranks
from tasks.train_gan.training_data import TrainingData


@dataclass(frozen=True)
class DiscriminatorBatch:
    """What one discriminator is shown at a step, besides the generated slices.

    `real` (B,C+1,H,W); `labels` (B,), -1 where unknown, of the real slices and of the generated
    ones; `conditions` (B,k) or None; `augmentation` and `mix` as in `StepInputs`.
    """

    real: Tensor
    labels: Tensor
    conditions: Tensor | None
    augmentation: Tensor
    mix: Tensor


@dataclass(frozen=True)
class StepInputs:
    """A step's slices and random numbers, on the device.

    `real` (B,C+1,H,W), `labels` (B,), `conditions` (B,k) or None and `z` (B,latent) are this
    process's share of the batch; `all_real` and `all_labels` are the whole batch. `augmentation`
    (3,B,13) holds the random numbers that augment the real slices, the generated ones for the
    discriminator's update, and the generated ones for the generator's; `mix` (B,) is for the
    gradient penalty. Where a second discriminator sees images without masks, `images` (B,C+1,H,W)
    are its real slices and `image_labels` (B,) their labels, -1 where unknown. It shares the other
    random numbers with the first, so that both see the same generated slices.
    """

    real: Tensor
    labels: Tensor
    conditions: Tensor | None
    z: Tensor
    augmentation: Tensor
    mix: Tensor
    all_real: Tensor
    all_labels: Tensor
    images: Tensor | None = None
    image_labels: Tensor | None = None

    def batches(self) -> list[DiscriminatorBatch]:
        """Return what each discriminator is shown: the joint one, and that of images, if any."""
        joint = DiscriminatorBatch(
            self.real, self.labels, self.conditions, self.augmentation, self.mix
        )
        if self.images is None or self.image_labels is None:
            return [joint]
        return [joint, replace(joint, real=self.images, labels=self.image_labels, conditions=None)]

    def copy_(self, other: "StepInputs") -> None:
        """Copy another step's values into these tensors."""
        for mine, its in zip(self.tensors(), other.tensors(), strict=True):
            mine.copy_(its)

    def clone(self) -> "StepInputs":
        """Return a copy in other memory."""
        return replace(self, **{name: getattr(self, name).clone() for name in self.field_names()})

    def field_names(self) -> list[str]:
        """Return the names of the fields that are not None."""
        return [field.name for field in fields(self) if getattr(self, field.name) is not None]

    def tensors(self) -> list[Tensor]:
        """Return the tensors of these fields."""
        return [getattr(self, name) for name in self.field_names()]


def make_step_inputs(
    config: TrainGan, number: int, examples: TrainingData, ranks: Ranks
) -> StepInputs:
    """Make a step's batch and random numbers from (seed, step) alone.

    Each process makes those of the whole batch, which costs little, and keeps its share: a slice's
    numbers do not depend on how many processes there are.
    """
    device = examples.train.x.device
    generator = seeded_generator(config.seed, number, device=device)
    real, labels, conditions = examples.random_batch(config.batch, generator)
    z = torch.randn(config.batch, config.latent, generator=generator, device=device)
    augmentation = [DiffAugment.random_numbers(config.batch, generator, device) for _ in range(3)]
    mix = torch.rand(config.batch, generator=generator, device=device)
    images = image_labels = None
    if examples.without_outlines is not None:
        images, image_labels = examples.without_outlines.random_batch(real, labels, generator)
    return StepInputs(
        real=ranks.shard(real),
        labels=ranks.shard(labels),
        conditions=None if conditions is None else ranks.shard(conditions),
        z=ranks.shard(z),
        augmentation=torch.stack([ranks.shard(numbers) for numbers in augmentation]),
        mix=ranks.shard(mix),
        all_real=real,
        all_labels=labels,
        images=None if images is None else ranks.shard(images),
        image_labels=None if image_labels is None else ranks.shard(image_labels),
    )
