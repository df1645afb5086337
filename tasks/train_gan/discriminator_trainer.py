"""Update one discriminator, and compute what it teaches the generator."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from models.diffaugment import DiffAugment
from models.losses import (
    discriminator_loss,
    feature_matching,
    generator_loss,
    gradient_penalty,
    r1_penalty,
)
from tasks.params.train_gan import TrainGan
from tasks.train_gan.step_inputs import DiscriminatorBatch

AddLoss = Callable[[str, Tensor], None]


class DiscriminatorTrainer:
    """A discriminator with its optimiser.

    Args:
        network: the discriminator, on its device.
        adam: its optimiser.
        config: losses, penalties and augmentation.
        autocast: makes the context of its products.
        suffix: of the names of its losses.
    """

    def __init__(
        self,
        network: nn.Module,
        adam: torch.optim.Adam,
        config: TrainGan,
        *,
        autocast: Callable[[], AbstractContextManager[None]],
        suffix: str = "",
    ) -> None:
        self.network = network
        self.adam = adam
        self.config = config
        self.autocast = autocast
        self.suffix = suffix
        self.augment = DiffAugment(**config.diffaugment.model_dump())

    def loss_of_discriminator(
        self,
        batch: DiscriminatorBatch,
        fake: Tensor,
        probability: Tensor,
        *,
        penalised: bool,
        add_loss: AddLoss,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the loss by which the discriminator learns, and let its gradients flow.

        Args:
            batch: real slices with their labels.
            fake: (B,C+1,H,W) generated slices, without gradients.
            probability: of each augmentation.
            penalised: whether R1 is added.
            add_loss: takes a name and a value for `history.csv`.

        Returns:
            The loss, the logits (B,) of the real slices, and these as they were seen (B,C+1,H,W).
        """
        config = self.config
        self.network.requires_grad_(True)
        seen_real = self.augment.apply(batch.real, batch.augmentation[0], probability)
        seen_real.requires_grad_(penalised)
        seen_fake = self.augment.apply(fake, batch.augmentation[1], probability)
        real_logits, fake_logits = self.score_both(seen_real, seen_fake, batch)  # (B,) each
        loss_d = total = discriminator_loss(real_logits, fake_logits, loss=config.loss)
        if penalised:
            # Lazy R1 (Karras 2020, appendix B): every r1_every steps, that many times stronger.
            r1 = r1_penalty(real_logits, seen_real)
            total = total + config.r1_gamma * config.r1_every * r1
            add_loss("r1" + self.suffix, r1 * config.r1_every)
        if config.gradient_penalty:
            penalty = gradient_penalty(
                lambda x: self.score(x, batch.labels, batch.conditions)[0],
                seen_real, seen_fake, batch.mix,
            )  # fmt: skip
            total = total + config.gradient_penalty * penalty
        add_loss("loss_d" + self.suffix, loss_d)
        return total, real_logits.detach(), seen_real.detach()

    def loss_of_generator(
        self,
        batch: DiscriminatorBatch,
        fake: Tensor,
        probability: Tensor,
        *,
        seen_real: Tensor,
        add_loss: AddLoss,
    ) -> Tensor:
        """Compute what the generator learns from this discriminator.

        Args:
            batch, probability, add_loss: as in `loss_of_discriminator`.
            fake: (B,C+1,H,W) generated slices, with gradients.
            seen_real: the real slices as `loss_of_discriminator` showed them.
        """
        # The discriminator needs no gradients of its own while the generator learns from it.
        self.network.requires_grad_(False)
        seen_fake = self.augment.apply(fake, batch.augmentation[2], probability)
        logits, fake_features = self.score(seen_fake, batch.labels, batch.conditions)
        loss_g = total = generator_loss(logits, loss=self.config.loss)
        if self.config.feature_matching:
            with torch.no_grad():
                _, real_features = self.score(seen_real, batch.labels, batch.conditions)
            matching = feature_matching(fake_features, real_features)
            total = total + self.config.feature_matching * matching
            add_loss("feature_matching" + self.suffix, matching)
        add_loss("loss_g" + self.suffix, loss_g)
        return total

    def score(
        self, x: Tensor, labels: Tensor, conditions: Tensor | None = None, parts: int = 1
    ) -> tuple[Tensor, Tensor]:
        """Return logits (B,) and features (B,F) in float32."""
        with self.autocast():
            logits, features = self.network(x, labels, conditions, parts)
        return logits.float(), features.float()

    def score_both(
        self, real: Tensor, fake: Tensor, batch: DiscriminatorBatch
    ) -> tuple[Tensor, Tensor]:
        """Return logits (B,) of real and of generated slices.

        One pass serves both, which saves a sixteenth of a step. There are two passes where batch
        norm would mix them (Radford 2016 keeps them apart) or where a gradient penalty would also
        compute gradients for the generated ones.
        """
        labels, conditions = batch.labels, batch.conditions
        if self.config.discriminator_norm == "batch" or real.requires_grad:
            real_logits, fake_logits = (self.score(x, labels, conditions)[0] for x in (real, fake))
            return real_logits, fake_logits
        if conditions is not None:
            conditions = conditions.repeat(2, 1)
        logits, _ = self.score(torch.cat([real, fake]), labels.repeat(2), conditions, 2)
        real_logits, fake_logits = logits.chunk(2)
        return real_logits, fake_logits
