"""Measure a generator on validation patients during training."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from models.dcgan import seeded_noise
from tasks.measures.features.feature_extraction import features
from tasks.measures.features.frechet import frechet_distance
from tasks.train_gan.trainer import Trainer
from tasks.train_gan.training_data import TrainingData

SAMPLES_PER_LABEL = 128  # generated slices of each label, at most
MIN_FRECHET_SLICES = 16  # validation slices of a label, below which no Fréchet distance is measured
SSIM_PAIRS = 24
SAMPLING_BATCH = 64
LABEL_SUFFIX = {0: "none", 1: "tumor"}


@dataclass(frozen=True)
class ValidationReference:
    """The real slices of one label that generated ones are compared with.

    `train`, `val` (n,C+1,H,W) on the device, equally many, with their conditions (n,k) or None;
    `spread` the training slices' standard deviation over slices, mean over pixels; `val_features`
    (n,152 C) or None; `baseline` the Fréchet distance of `train` to `val`.
    """

    train: Tensor
    val: Tensor
    train_conditions: Tensor | None
    val_conditions: Tensor | None
    spread: float
    val_features: NDArray[np.float64] | None
    baseline: float


def validation_references(
    examples: TrainingData,
) -> tuple[ValidationReference, ValidationReference]:
    """Return the references of labels 0 and 1."""
    return validation_reference(examples, 0), validation_reference(examples, 1)


def validation_reference(examples: TrainingData, label: int) -> ValidationReference:
    """Take evenly spaced training and validation slices of one label, as many of each."""
    train, val = examples.train.with_label(label), examples.val.with_label(label)
    n = min(SAMPLES_PER_LABEL, len(train), len(val))
    spread = float(train[:, :-1].std(0).mean())
    train, val = evenly_spaced_rows(train, n), evenly_spaced_rows(val, n)
    train_conditions, val_conditions = (
        None
        if slices.conditions is None
        else evenly_spaced_rows(slices.conditions[slices.rows_by_label[label]], n)
        for slices in (examples.train, examples.val)
    )
    val_features, baseline = None, float("nan")
    if n >= MIN_FRECHET_SLICES:
        val_features = features(image_pixels(val))
        baseline = frechet_distance(features(image_pixels(train)), val_features)
    return ValidationReference(
        train=train, val=val, train_conditions=train_conditions, val_conditions=val_conditions,
        spread=spread, val_features=val_features, baseline=baseline,
    )  # fmt: skip


def evenly_spaced_rows(x: Tensor, n: int) -> Tensor:
    """Take n of the rows, evenly spaced, so that slices of many patients are among them."""
    return x[torch.linspace(0, max(len(x) - 1, 0), n).round().long()]


def validation_row(
    trainer: Trainer, references: tuple[ValidationReference, ValidationReference]
) -> dict[str, float]:
    """Measure one row of `history.csv`, without its losses."""
    sampler = trainer.recalibrate_ema()
    row: dict[str, float] = {}
    sampled = []
    for label, name in LABEL_SUFFIX.items():
        fake = sample_slices(
            sampler, label, SAMPLES_PER_LABEL, latent=trainer.config.latent, device=trainer.device
        )
        reference = references[label]
        sampled.append((fake, sampled_conditions(trainer, label, SAMPLES_PER_LABEL)))
        image, mask = fake[:, :-1], fake[:, -1] > 0  # (N,C,H,W), (N,H,W)
        spread = float(image.std(0).mean())
        row[f"std_z_{name}"] = spread / reference.spread
        row[f"ssim_{name}"] = pairwise_ssim(image_pixels(fake))
        row[f"mask_area_{name}"] = float(mask.float().mean())
        with_mask = float(mask.any(2).any(1).float().mean())
        if label:
            masked = trainer.ema.architecture.masked
            row["mask_missing"] = 1 - with_mask if masked else float("nan")
        else:
            row["mask_spurious"] = with_mask
        row[f"fd_ratio_{name}"] = frechet_ratio(image_pixels(fake), reference)
    row["score_train"] = mean_score(
        trainer, [(one.train, one.train_conditions) for one in references]
    )
    row["score_val"] = mean_score(trainer, [(one.val, one.val_conditions) for one in references])
    row["score_fake"] = mean_score(trainer, sampled)
    return row


@torch.no_grad()
def sample_slices(
    sampler: nn.Module, label: int, n: int, *, latent: int, device: torch.device
) -> Tensor:
    """Sample the first n slices (n,C+1,H,W) of a label, from the same z at every step."""
    labels = torch.full((SAMPLING_BATCH,), label, device=device)
    batches = [
        sampler(seeded_noise(range(start, start + SAMPLING_BATCH), latent).to(device), labels)
        for start in range(0, n, SAMPLING_BATCH)
    ]
    return torch.cat(batches)[:n].float()


def sampled_conditions(trainer: Trainer, label: int, n: int) -> Tensor | None:
    """Return the conditions (n,k) of the slices that `sample_slices` samples."""
    if not trainer.config.conditions:
        return None
    labels = torch.full((n,), label, device=trainer.device)
    return trainer.ema.conditions(
        seeded_noise(range(n), trainer.config.latent).to(trainer.device), labels
    )


@torch.no_grad()
def mean_score(trainer: Trainer, by_label: Sequence[tuple[Tensor, Tensor | None]]) -> float:
    """Return the mean sigmoid score of slices (n,C+1,H,W) of labels 0 and 1.

    Each label has its slices and their conditions (n,k) or None.

    The batches are made as in training, of the same size and with alternating labels: other groups
    of the minibatch standard deviation would shift the scores. The rows are repeated until the last
    batch is full. NaN where a label has no slices.
    """
    n = min(len(x) for x, _ in by_label)
    if not n:
        return float("nan")
    size = trainer.config.batch // trainer.ranks.world_size
    pairs = torch.arange(-(-2 * n // size) * size // 2, device=trainer.device) % n
    x = torch.stack([x[pairs] for x, _ in by_label], 1).flatten(0, 1)  # labels 0, 1, 0, 1, ...
    labels = torch.arange(len(x), device=trainer.device) % 2
    conditions = None
    if all(shown is not None for _, shown in by_label):
        conditions = torch.stack([shown[pairs] for _, shown in by_label], 1).flatten(0, 1)  # type: ignore[index]
    trainer.joint.network.eval()
    batches = [slice(start, start + size) for start in range(0, len(x), size)]
    logits = [
        trainer.joint.score(
            x[some], labels[some], None if conditions is None else conditions[some]
        )[0]
        for some in batches
    ]
    trainer.joint.network.train()
    return float(torch.sigmoid(torch.cat(logits)).mean())


def frechet_ratio(fake: NDArray[np.float32], real: ValidationReference) -> float:
    """Return the Fréchet distance to validation slices, over that of as many training slices."""
    if real.val_features is None or not np.isfinite(fake).all():
        return float("nan")
    n = len(real.val_features)
    return frechet_distance(features(fake[:n]), real.val_features) / max(real.baseline, 1e-12)


def pairwise_ssim(images: NDArray[np.float32]) -> float:
    """Return the mean SSIM (Wang 2004) of disjoint pairs of slices (N,C,H,W), first channel."""
    first, second = images[0 : 2 * SSIM_PAIRS : 2, 0], images[1 : 2 * SSIM_PAIRS : 2, 0]
    values = [
        structural_similarity(
            a, b, data_range=2.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for a, b in zip(first, second, strict=True)
    ]
    return float(np.mean(values))


def image_pixels(x: Tensor) -> NDArray[np.float32]:
    """Copy the image channels (N,C,H,W) of slices with masks to the host."""
    images: NDArray[np.float32] = x[:, :-1].float().cpu().numpy()
    return images
