"""Draw slices from a trained generator: slice i of a seed is the same whatever the count.

An exported generator (`tasks/commands/export`) carries a copy of this file, so it reads
no params.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.dcgan import Generator, seeded_noise
from tasks.generate.mask_cleanup import Mask, clean_mask, mask_matches_label

# Batches are always full: a batch of 7 and one of 64 round differently.
BATCH = 64


@dataclass(frozen=True, kw_only=True)
class SamplingRequest:
    """Which slices are asked for, and when a mask is good enough (`tasks/params/generate.py`)."""

    count: int
    seed: int
    tumor_share: float
    min_island_px: int
    min_tumor_px: int
    attempts: int
    tumor_area_mm2: float | None = None
    position_mm: float | None = None


@dataclass(frozen=True)
class GeneratedSlice:
    """One accepted slice: `image` (C,H,W) float16, `mask` (H,W), what it was drawn from.

    Of a generator that was shown no masks the mask is empty and says nothing.
    """

    image: NDArray[np.float16]
    mask: Mask
    label: int
    seed: int
    redraws: int


def sample_generator(
    generator: Generator, asked: SamplingRequest, device: torch.device
) -> Iterator[GeneratedSlice]:
    """Yield up to `asked.count` slices in order; those that never agree are left out."""
    for start in range(0, asked.count, BATCH):
        batch = sample_batch(generator, asked, start, device)
        for index in range(start, min(start + BATCH, asked.count)):
            if (drawn := batch.get(index)) is not None:
                yield drawn


def sample_batch(
    generator: Generator, asked: SamplingRequest, start: int, device: torch.device
) -> dict[int, GeneratedSlice]:
    """Slices start, ..., start + 63 that agree with their label within the allowed attempts."""
    indices = range(start, start + BATCH)
    labels = [label_at(index, asked.tumor_share) for index in indices]
    accepted: dict[int, GeneratedSlice] = {}
    for attempt in range(asked.attempts):
        seeds = [slice_seed(asked.seed, index, attempt) for index in indices]
        with torch.inference_mode():
            z = seeded_noise(seeds, generator.architecture.latent).to(device)
            which = torch.tensor(labels, device=device)
            x = (
                generator(z, which, requested_conditions(generator, z, which, asked))
                .float()
                .cpu()
                .numpy()
            )
        for slot, index in enumerate(indices):
            if index in accepted:
                continue
            image, soft = x[slot, :-1], x[slot, -1]  # (C,H,W), (H,W)
            mask = clean_mask(soft, image, min_island_px=asked.min_island_px)
            if not generator.architecture.masked:
                mask[:] = 0
            elif not mask_matches_label(mask, labels[slot], min_tumor_px=asked.min_tumor_px):
                continue
            accepted[index] = GeneratedSlice(
                image.astype(np.float16), mask, labels[slot], seeds[slot], attempt
            )
        if len(accepted) == BATCH:
            break
    return accepted


def requested_conditions(
    generator: Generator, z: Tensor, labels: Tensor, asked: SamplingRequest
) -> Tensor | None:
    """What the slices are to show (B,k): what is asked for, the rest as z draws it."""
    names = generator.architecture.conditions
    if not names:
        return None
    shown = generator.conditions(z, labels)
    wanted = {"area": asked.tumor_area_mm2, "position": asked.position_mm}
    for place, name in enumerate(names):
        if (value := wanted[name]) is None:
            continue
        mean, deviation = generator.get_buffer("condition_scale")[place]
        # An area enters as its logarithm, and only where there is a tumour
        # (tasks/train_gan/conditions.py).
        entered = ((np.log(value) if name == "area" else value) - mean) / deviation
        meant = (labels == 1) | (name != "area")
        shown[:, place] = torch.where(meant, entered, shown[:, place])
    return shown


def label_at(index: int, tumor_share: float) -> int:
    """Labels in a fixed order that keeps the share at every count."""
    return int(np.floor((index + 1) * tumor_share) > np.floor(index * tumor_share))


def slice_seed(seed: int, index: int, attempt: int) -> int:
    """A seed below 2**63 for each slice and attempt."""
    low, high = np.random.SeedSequence([seed, index, attempt]).generate_state(2)
    return (int(high) << 32 | int(low)) % 2**63
