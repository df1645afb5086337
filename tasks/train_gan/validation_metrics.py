"""What a generator is worth at a step, measured on validation patients."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from models.dcgan import seeded_noise
from tasks.measures.features import features
from tasks.measures.frechet import frechet_distance
from tasks.train_gan.trainer import Trainer
from tasks.train_gan.training_data import TrainingData

N = 128  # generated slices of each label, at most
ENOUGH = 16  # validation slices of a label, below which no Fréchet distance is measured
PAIRS = 24
BATCH = 64
SUFFIX = {0: "none", 1: "tumor"}


@dataclass(frozen=True)
class ValidationReference:
    """The real slices of one label that generated ones are compared with.

    `train`, `val` (n,C+1,H,W) on the device, equally many, with their conditions (n,k) or None;
    `spread` the training slices' standard
    deviation over slices, mean over pixels; `val_features` (n,152 C) or None; `baseline` the
    Fréchet distance of `train` to `val`.
    """

    train: Tensor
    val: Tensor
    train_conditions: Tensor | None
    val_conditions: Tensor | None
    spread: float
    val_features: NDArray[np.float64] | None
    baseline: float


def references(examples: TrainingData) -> tuple[ValidationReference, ValidationReference]:
    """References of labels 0 and 1."""
    return reference(examples, 0), reference(examples, 1)


def reference(examples: TrainingData, label: int) -> ValidationReference:
    """Evenly spaced training and validation slices of one label, as many of each."""
    train, val = examples.train.of(label), examples.val.of(label)
    n = min(N, len(train), len(val))
    spread = float(train[:, :-1].std(0).mean())
    train, val = evenly(train, n), evenly(val, n)
    train_shown, val_shown = (
        None if side.conditions is None else evenly(side.conditions[side.rows[label]], n)
        for side in (examples.train, examples.val)
    )
    val_features, baseline = None, float("nan")
    if n >= ENOUGH:
        val_features = features(pixels(val))
        baseline = frechet_distance(features(pixels(train)), val_features)
    return ValidationReference(
        train=train, val=val, train_conditions=train_shown, val_conditions=val_shown,
        spread=spread, val_features=val_features, baseline=baseline,
    )  # fmt: skip


def evenly(x: Tensor, n: int) -> Tensor:
    """n of the rows, evenly spaced: slices of many patients, not the first patients' only."""
    return x[torch.linspace(0, max(len(x) - 1, 0), n).round().long()]


def validation_row(
    trainer: Trainer, real: tuple[ValidationReference, ValidationReference]
) -> dict[str, float]:
    """One row of `history.csv` without its losses."""
    sampler = trainer.sampler()
    row: dict[str, float] = {}
    drawn_slices = []
    for label, name in SUFFIX.items():
        fake = draw(sampler, label, N, latent=trainer.asked.latent, device=trainer.device)
        held = real[label]
        drawn_slices.append((fake, drawn_conditions(trainer, label, N)))
        image, mask = fake[:, :-1], fake[:, -1] > 0  # (N,C,H,W), (N,H,W)
        spread = float(image.std(0).mean())
        row[f"std_z_{name}"] = spread / held.spread
        row[f"ssim_{name}"] = pairwise_ssim(pixels(fake))
        row[f"mask_area_{name}"] = float(mask.float().mean())
        drawn = float(mask.any(2).any(1).float().mean())
        if label:
            masked = trainer.ema.architecture.masked
            row["mask_missing"] = 1 - drawn if masked else float("nan")
        else:
            row["mask_spurious"] = drawn
        row[f"fd_ratio_{name}"] = frechet_ratio(pixels(fake), held)
    row["score_train"] = score(trainer, [(one.train, one.train_conditions) for one in real])
    row["score_val"] = score(trainer, [(one.val, one.val_conditions) for one in real])
    row["score_fake"] = score(trainer, drawn_slices)
    return row


@torch.no_grad()
def draw(sampler: nn.Module, label: int, n: int, *, latent: int, device: torch.device) -> Tensor:
    """The first n slices (n,C+1,H,W) of a label: the same z at every step."""
    labels = torch.full((BATCH,), label, device=device)
    drawn = [
        sampler(seeded_noise(range(start, start + BATCH), latent).to(device), labels)
        for start in range(0, n, BATCH)
    ]
    return torch.cat(drawn)[:n].float()


def drawn_conditions(trainer: Trainer, label: int, n: int) -> Tensor | None:
    """The conditions (n,k) of what `draw` draws."""
    if not trainer.asked.conditions:
        return None
    labels = torch.full((n,), label, device=trainer.device)
    return trainer.ema.conditions(
        seeded_noise(range(n), trainer.asked.latent).to(trainer.device), labels
    )


@torch.no_grad()
def score(trainer: Trainer, by_label: Sequence[tuple[Tensor, Tensor | None]]) -> float:
    """Mean sigmoid score of slices (n,C+1,H,W) of labels 0 and 1 with their conditions (n,k).

    The batches are made as in training, of that size and with the labels by turns: the minibatch
    standard deviation of other groups would shift the scores. The rows are repeated until the last
    batch is full. NaN where a label has no slices.
    """
    n = min(len(x) for x, _ in by_label)
    if not n:
        return float("nan")
    size = trainer.asked.batch // trainer.ranks.count
    pairs = torch.arange(-(-2 * n // size) * size // 2, device=trainer.device) % n
    x = torch.stack([x[pairs] for x, _ in by_label], 1).flatten(0, 1)  # labels 0, 1, 0, 1, ...
    labels = torch.arange(len(x), device=trainer.device) % 2
    conditions = None
    if all(shown is not None for _, shown in by_label):
        conditions = torch.stack([shown[pairs] for _, shown in by_label], 1).flatten(0, 1)  # type: ignore[index]
    trainer.discriminator.eval()
    batches = [slice(start, start + size) for start in range(0, len(x), size)]
    logits = [
        trainer.score(x[some], labels[some], None if conditions is None else conditions[some])[0]
        for some in batches
    ]
    trainer.discriminator.train()
    return float(torch.sigmoid(torch.cat(logits)).mean())


def frechet_ratio(fake: NDArray[np.float32], real: ValidationReference) -> float:
    """Fréchet distance to validation slices, over that of as many training slices."""
    if real.val_features is None or not np.isfinite(fake).all():
        return float("nan")
    n = len(real.val_features)
    return frechet_distance(features(fake[:n]), real.val_features) / max(real.baseline, 1e-12)


def pairwise_ssim(images: NDArray[np.float32]) -> float:
    """Mean SSIM (Wang 2004) of disjoint pairs of slices (N,C,H,W), first channel."""
    first, second = images[0 : 2 * PAIRS : 2, 0], images[1 : 2 * PAIRS : 2, 0]
    values = [
        structural_similarity(
            a, b, data_range=2.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for a, b in zip(first, second, strict=True)
    ]
    return float(np.mean(values))


def pixels(x: Tensor) -> NDArray[np.float32]:
    """The image channels (N,C,H,W) of slices with masks, on the host."""
    found: NDArray[np.float32] = x[:, :-1].float().cpu().numpy()
    return found
