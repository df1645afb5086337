"""Implement the peers of `benchmarks/train_speed.py`: the DCGAN tutorial's loop and `GanTrainer`.

Both train auglift's networks with the same losses and optimisers, in their own way.
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from models.dcgan import Architecture, Discriminator, Generator
from models.diffaugment import DiffAugment
from models.losses import r1_penalty
from tasks.params.train_gan import TrainGan
from tasks.train_gan.training_data import TrainingData

PEERS = ("tutorial", "monai")


class SliceDataset(Dataset[dict[str, Tensor]]):
    """Slices as a data loader takes them, from the host's memory."""

    def __init__(self, examples: TrainingData) -> None:
        self.x = examples.train.x.cpu()

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"reals": self.x[index]}


class AlternatingLabels(Sampler[int]):
    """Slices at random, their labels 0, 1, 0, 1, ... as in auglift's batches; for ever."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.random = np.random.default_rng(0)

    def __len__(self) -> int:
        return 10**9

    def __iter__(self) -> Iterator[int]:
        while True:
            rows = 2 * self.random.integers(self.n // 2, size=2)
            yield from (int(rows[0]), int(rows[1]) + 1)


class Peer:
    """What both peers train: the same networks, losses and optimisers, written plainly."""

    def __init__(
        self, config: TrainGan, shape: Architecture, examples: TrainingData, device: torch.device
    ) -> None:
        torch.manual_seed(config.seed)
        self.asked, self.device = config, device
        self.generator, self.discriminator = Generator(shape), Discriminator(shape)
        self.generator.to(device)
        self.discriminator.to(device)
        self.labels = torch.arange(config.batch, device=device) % 2
        self.augment = DiffAugment(
            **config.diffaugment.model_dump(include=set(DiffAugment.__dataclass_fields__))
        )
        self.random = torch.Generator(device=device).manual_seed(1)
        betas = (config.beta1, config.beta2)
        self.adam_g = torch.optim.Adam(self.generator.parameters(), config.learning_rate, betas)
        self.adam_d = torch.optim.Adam(self.discriminator.parameters(), config.learning_rate, betas)
        self.loader = DataLoader(
            SliceDataset(examples), config.batch, sampler=AlternatingLabels(512)
        )
        self.number = 0

    def generate(self, z: Tensor) -> Tensor:
        """Generate slices from z (B,latent)."""
        return self.generator(z, self.labels)

    def discriminator_loss(self, x: Tensor, target: float) -> Tensor:
        """Compute cross-entropy of the discriminator's logits for slices, augmented if enabled."""
        logits, _ = self.discriminator(self.augmented(x), self.labels)
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))

    def real_loss(self, x: Tensor) -> Tensor:
        """Compute the same of real slices, with R1 when it is due."""
        self.number += 1
        if not self.asked.r1_gamma or self.number % self.asked.r1_every:
            return self.discriminator_loss(x, 1.0)
        seen = self.augmented(x).requires_grad_()
        logits, _ = self.discriminator(seen, self.labels)
        penalty = self.asked.r1_gamma * self.asked.r1_every * r1_penalty(logits, seen)
        return F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits)) + penalty

    def augmented(self, x: Tensor) -> Tensor:
        """Augment slices as the discriminator sees them."""
        if not any(self.asked.diffaugment.model_dump().values()):
            return x
        return self.augment(x, self.random)


class TutorialLoop(Peer):
    """The loop of PyTorch's DCGAN tutorial, line by line, with its read-outs."""

    def __init__(
        self, config: TrainGan, shape: Architecture, examples: TrainingData, device: torch.device
    ) -> None:
        super().__init__(config, shape, examples, device)
        self.batches = iter(self.loader)
        self.losses: list[tuple[float, float]] = []

    def __call__(self) -> None:
        """Run one pass of the inner loop."""
        self.discriminator.zero_grad()
        real = next(self.batches)["reals"].to(self.device)
        loss_real = self.real_loss(real)
        loss_real.backward()
        z = torch.randn(self.asked.batch, self.asked.latent, device=self.device)
        fake = self.generate(z)
        loss_fake = self.discriminator_loss(fake.detach(), 0.0)
        loss_fake.backward()
        self.adam_d.step()
        self.generator.zero_grad()
        loss_g = self.discriminator_loss(fake, 1.0)
        loss_g.backward()
        self.adam_g.step()
        self.losses.append((loss_real.item() + loss_fake.item(), loss_g.item()))


class MonaiTrainer(Peer):
    """MONAI's `GanTrainer` as its own GAN tutorial sets it up.

    Its engine's work around an iteration (events, metrics, decollating) is left out, in its favour.
    """

    def __init__(
        self, config: TrainGan, shape: Architecture, examples: TrainingData, device: torch.device
    ) -> None:
        from monai.engines.trainer import GanTrainer

        super().__init__(config, shape, examples, device)
        self.trainer = GanTrainer(
            device=device,
            max_epochs=1,
            train_data_loader=self.loader,
            g_network=FixedLabels(self.generator, self.labels),
            g_optimizer=self.adam_g,
            g_loss_function=lambda fake: self.discriminator_loss(fake, 1.0),
            d_network=self.discriminator,
            d_optimizer=self.adam_d,
            d_loss_function=lambda fake, real: (
                self.real_loss(real) + self.discriminator_loss(fake.detach(), 0.0)
            ),
            latent_shape=config.latent,
            decollate=False,
        )
        self.batches = iter(self.loader)

    def __call__(self) -> None:
        """Run one iteration of its engine."""
        self.trainer._iteration(self.trainer, next(self.batches))


class FixedLabels(nn.Module):
    """A generator whose labels are fixed, for a trainer that passes latents only."""

    def __init__(self, inner: Generator, labels: Tensor) -> None:
        super().__init__()
        self.inner, self.labels = inner, labels

    def forward(self, z: Tensor) -> Tensor:
        """Generate slices from z (B,latent)."""
        slices: Tensor = self.inner(z, self.labels)
        return slices
