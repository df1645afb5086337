"""Sample slices from a trained generator: slice i of a seed is the same whatever the count.

An exported generator (`tasks/commands/export`) carries a copy of this file, so it reads no params.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from models.dcgan import SITE, Architecture, Generator, seeded_noise
from tasks.generate.mask_cleanup import Mask, clean_air, clean_mask, mask_matches_label

# Batches are always full: a batch of 7 and one of 64 round differently.
BATCH = 64


@dataclass(frozen=True, kw_only=True)
class SamplingRequest:
    """Which slices to sample, and when a mask is good enough (`tasks/params/generate.py`)."""

    count: int
    seed: int
    tumor_share: float
    min_island_px: int
    min_tumor_px: int
    attempts: int
    tumor_area_mm2: float | None = None
    position_mm: float | None = None
    site: str | None = None


@dataclass(frozen=True)
class GeneratedSlice:
    """One accepted slice: `image` (C,H,W) float16, `mask` (H,W), and the seed that it comes from.

    Of a generator that was trained without masks the mask is empty and means nothing.
    """

    image: NDArray[np.float16]
    mask: Mask
    label: int
    seed: int
    redraws: int


def build_generator(architecture: dict[str, Any], weights: Path, device: torch.device) -> Generator:
    """Build a generator of an architecture with its weights, in evaluation mode.

    Args:
        architecture: the fields of `Architecture`.
        weights: a safetensors file.
        device: where it runs.
    """
    generator = Generator(Architecture(**architecture))
    generator.load_state_dict(load_file(weights))
    layout = torch.channels_last
    on_device: Generator = generator.to(device, memory_format=layout)  # type: ignore[call-overload]
    return on_device.eval()


def sample_generator(
    generator: Generator, request: SamplingRequest, device: torch.device
) -> Iterator[GeneratedSlice]:
    """Yield up to `request.count` slices in order, without those that never match their label."""
    for start in range(0, request.count, BATCH):
        batch = sample_batch(generator, request, start, device)
        for index in range(start, min(start + BATCH, request.count)):
            if (sample := batch.get(index)) is not None:
                yield sample


def sample_batch(
    generator: Generator, request: SamplingRequest, start: int, device: torch.device
) -> dict[int, GeneratedSlice]:
    """Sample slices start, ..., start + 63 that match their label within the allowed attempts."""
    indices = range(start, start + BATCH)
    labels = [label_at(index, request.tumor_share) for index in indices]
    accepted: dict[int, GeneratedSlice] = {}
    for attempt in range(request.attempts):
        seeds = [slice_seed(request.seed, index, attempt) for index in indices]
        with torch.inference_mode():
            z = seeded_noise(seeds, generator.architecture.latent).to(device)
            label_tensor = torch.tensor(labels, device=device)
            conditions = requested_conditions(generator, z, label_tensor, request)
            x = generator(z, label_tensor, conditions).float().cpu().numpy()  # (64,C+1,H,W)
        for slot, index in enumerate(indices):
            if index in accepted:
                continue
            image, soft = x[slot, :-1], x[slot, -1]  # (C,H,W), (H,W)
            mask = clean_mask(soft, image, min_island_px=request.min_island_px)
            if not generator.architecture.masked:
                mask[:] = 0
            elif not mask_matches_label(mask, labels[slot], min_tumor_px=request.min_tumor_px):
                continue
            accepted[index] = GeneratedSlice(
                clean_air(image).astype(np.float16), mask, labels[slot], seeds[slot], attempt
            )
        if len(accepted) == BATCH:
            break
    return accepted


def requested_conditions(
    generator: Generator, z: Tensor, labels: Tensor, request: SamplingRequest
) -> Tensor | None:
    """Return the conditions (B,k) of the slices: the requested ones, the others from z."""
    names = generator.architecture.conditions
    if not names:
        return None
    conditions = generator.conditions(z, labels)
    requested = {"area": request.tumor_area_mm2, "position": request.position_mm}
    for place, name in enumerate(names):
        if name.startswith(SITE):
            if request.site is not None:
                conditions[:, place] = float(name == SITE + request.site)
            continue
        if (value := requested[name]) is None:
            continue
        mean, deviation = generator.get_buffer("condition_scale")[place]
        # An area enters as its logarithm, and only where there is a tumour
        # (tasks/train_gan/conditions.py).
        standardised = ((np.log(value) if name == "area" else value) - mean) / deviation
        applies = (labels == 1) | (name != "area")
        conditions[:, place] = torch.where(applies, standardised, conditions[:, place])
    return conditions


def known_sites(conditions: Sequence[str]) -> list[str]:
    """Return the sites that a generator with these conditions can be asked for."""
    return [name.removeprefix(SITE) for name in conditions if name.startswith(SITE)]


def label_at(index: int, tumor_share: float) -> int:
    """Return the label of a slice; the fixed order keeps the tumour share at every count."""
    return int(np.floor((index + 1) * tumor_share) > np.floor(index * tumor_share))


def slice_seed(seed: int, index: int, attempt: int) -> int:
    """Return a seed below 2**63 for each slice and attempt."""
    low, high = np.random.SeedSequence([seed, index, attempt]).generate_state(2)
    return (int(high) << 32 | int(low)) % 2**63
