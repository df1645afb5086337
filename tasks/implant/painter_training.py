"""Train a painter of tumours against two discriminators.

One discriminator sees whole slices with their masks, one the window around the tumour. Half of
what the painter shows them are tumour slices painted over: there its backgrounds are those of real
tumour slices, so only the painted tumour can give it away.
"""

import copy
import sys

import torch
from torch import Tensor, nn
from tqdm import tqdm

from models.dcgan import Architecture, Discriminator
from models.diffaugment import DiffAugment
from models.losses import discriminator_loss, generator_loss, r1_penalty
from models.tumor_painter import PainterArchitecture, PainterNoise, TumorPainter, cut_windows
from tasks.common.torch_setup import seeded_generator
from tasks.implant.painting import PaintedRegions
from tasks.params.implant import Implant

LOSSES = ("loss_d", "loss_g", "l1")
WEIGHTS_STREAM, STEP_STREAM = 0, 1  # `painting` has the next one
R1_EVERY = 8
BETAS = (0.0, 0.99)
HALF_LIFE = 60  # steps of the moving average of the weights
DECAY = 0.4  # of the steps, at the end, in which learning rates fall to 0
JITTER_PX = 6 / 64  # of the side, by which a window misses the tumour's centre
DISCRIMINATOR_WIDTH = 16


class PainterTrainer:
    """The painter, its moving average and the discriminators, on the device of the slices.

    All randomness of a step comes from (seed, step).
    """

    def __init__(self, config: Implant, size: int, channels: int, device: torch.device) -> None:
        self.config, self.device = config, device
        architecture = PainterArchitecture(size=size, channels=channels, width=config.width)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeded_generator(config.seed, WEIGHTS_STREAM).initial_seed())
            self.painter = TumorPainter(architecture).to(device)
            self.discriminators = nn.ModuleList(
                Discriminator(Architecture(size=side, channels=channels, width=DISCRIMINATOR_WIDTH))
                for side in (size, size // 2)
            ).to(device)
        self.average = copy.deepcopy(self.painter).requires_grad_(False)
        self.painter_adam, self.discriminator_adam = (
            torch.optim.Adam(network.parameters(), config.learning_rate, BETAS)
            for network in (self.painter, self.discriminators)
        )
        self.augment = DiffAugment(brightness=0.2, contrast=0.2, translation=0.125, flip=True)
        self.labels = torch.ones(config.batch, dtype=torch.int64, device=device)

    def step(self, number: int, tumors: PaintedRegions, hosts: PaintedRegions) -> Tensor:
        """Update the discriminators, then the painter; return the losses `LOSSES`."""
        share = min(1.0, (self.config.steps - number + 1) / max(DECAY * self.config.steps, 1))
        for adam in (self.painter_adam, self.discriminator_adam):
            adam.param_groups[0]["lr"] = self.config.learning_rate * share
        generator = seeded_generator(self.config.seed, STEP_STREAM, number, device=self.device)
        real, to_paint = sample_batch(tumors, hosts, self.config.batch, generator)
        noise = PainterNoise.sample(len(to_paint), self.painter.architecture, generator)
        fake = self.painter(to_paint.images, to_paint.filled, to_paint.masks, to_paint.reach, noise)
        fake_views = views(fake, to_paint, generator)
        penalised = self.config.r1_gamma > 0 and number % R1_EVERY == 0
        loss_d = self.update_discriminators(
            views(real.images, real, generator), fake_views, generator, penalised=penalised
        )
        self.discriminators.requires_grad_(False)
        loss_g = torch.stack(
            [
                generator_loss(self.score(network, view, generator), loss="logistic")
                for network, view in zip(self.discriminators, fake_views, strict=True)
            ]
        ).sum()
        l1 = error_where_painted_over(fake, to_paint)
        minimise(self.painter_adam, loss_g + self.config.l1 * l1)
        self.update_average(number)
        return torch.stack([loss_d, loss_g.detach(), l1.detach()])

    def update_discriminators(
        self,
        real_views: tuple[Tensor, Tensor],
        fake_views: tuple[Tensor, Tensor],
        generator: torch.Generator,
        *,
        penalised: bool,
    ) -> Tensor:
        """Update both discriminators, with a gradient penalty at every eighth step."""
        self.discriminators.requires_grad_(True)
        total = torch.zeros((), device=self.device)
        for network, real, fake in zip(self.discriminators, real_views, fake_views, strict=True):
            seen = self.augment(real, generator).requires_grad_(penalised)
            logits, _ = network(seen, self.labels)
            fake_logits = self.score(network, fake.detach(), generator)
            total = total + discriminator_loss(logits, fake_logits, loss="logistic")
            if penalised:
                total = total + self.config.r1_gamma * R1_EVERY * r1_penalty(logits, seen)
        minimise(self.discriminator_adam, total)
        return total.detach()

    def score(self, network: nn.Module, view: Tensor, generator: torch.Generator) -> Tensor:
        """Return a discriminator's logits (B,) of augmented slices."""
        logits: Tensor = network(self.augment(view, generator), self.labels)[0]
        return logits

    @torch.no_grad()
    def update_average(self, number: int) -> None:
        """Move the averaged weights towards the painter's; early in a run they follow closely."""
        keep = min(0.5 ** (1 / HALF_LIFE), (1 + number) / (10 + number))
        old: list[Tensor] = list(self.average.parameters())
        new: list[Tensor] = list(self.painter.parameters())
        torch._foreach_lerp_(old, new, 1 - keep)


def train_painter(
    tumors: PaintedRegions, hosts: PaintedRegions, config: Implant, *, fold: str
) -> tuple[TumorPainter, dict[str, float]]:
    """Train a painter.

    Args:
        tumors: real tumour slices, with their own tumours' shapes.
        hosts: slices without tumour, with shapes of tumours.
        config: the params.
        fold: named by the progress bar.

    Returns:
        The painter with the moving average of its weights, and the mean losses of the last tenth
        of the steps.
    """
    device = tumors.images.device
    channels, size = tumors.images.shape[1], tumors.images.shape[-1]
    trainer = PainterTrainer(config, size, channels, device)
    last = max(1, config.steps // 10)
    sums = torch.zeros(len(LOSSES), device=device)
    bar = tqdm(range(1, config.steps + 1), desc=f"implant: fold {fold}", unit="step",
               disable=not sys.stderr.isatty())  # fmt: skip
    for number in bar:
        losses = trainer.step(number, tumors, hosts)
        if number > config.steps - last:
            sums += losses
    means = (sums / last).tolist()
    return trainer.average.eval(), dict(zip(LOSSES, means, strict=True))


def minimise(adam: torch.optim.Adam, loss: Tensor) -> None:
    """Take one step of an optimiser."""
    adam.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    adam.step()


def error_where_painted_over(fake: Tensor, to_paint: PaintedRegions) -> Tensor:
    """Return the mean absolute error where the tumour slices, the first half, are painted."""
    half = len(fake) // 2
    reach = to_paint.reach[:half]
    error = (fake[:half] - to_paint.images[:half]).abs() * reach
    return error.sum() / (reach.sum() * fake.shape[1])


def sample_batch(
    tumors: PaintedRegions, hosts: PaintedRegions, size: int, generator: torch.Generator
) -> tuple[PaintedRegions, PaintedRegions]:
    """Sample the real slices of a batch, and those to be painted: tumours first, then hosts."""

    def rows(count: int, n: int) -> Tensor:
        return torch.randint(n, (count,), generator=generator, device=generator.device)

    real = tumors.select(rows(size, len(tumors)))
    painted_over = tumors.select(rows(size // 2, len(tumors)))
    return real, painted_over.joined_with(hosts.select(rows(size - size // 2, len(hosts))))


def views(
    images: Tensor, regions: PaintedRegions, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return whole slices with masks (B,C+1,H,W), and windows of half the side around tumours."""
    whole = torch.cat([images, regions.masks], 1)
    side = whole.shape[-1]
    jitter = torch.rand(regions.centers.shape, generator=generator, device=images.device)
    centers = regions.centers + (2 * jitter - 1) * JITTER_PX * side
    return whole, cut_windows(whole, centers, side // 2)
