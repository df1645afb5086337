"""Phantom slices without the files: any number of fresh patients from the simulator."""

from functools import cache

import numpy as np
import pandas as pd

from tasks.common.slice_set import SliceSet
from tasks.phantom.simulator import Simulator
from tasks.volumes.intensity_normalisation import z_score
from tasks.volumes.resampling import (
    centred_grid,
    largest_body_mask,
    resample_mask_slices,
    resample_slices,
)


@cache
def phantom_slices(first: int, count: int) -> SliceSet:
    """Slices of some patients, simulated once a session: copy what you want to change."""
    return simulated(first, count)


def simulated(
    first: int, count: int, *, seed: int = 7, size: int = 64, pixel_mm: float = 3.0, each: int = 10
) -> SliceSet:
    """Up to `each` slices of every simulated patient, tumour and others in equal parts."""
    images, masks, rows = [], [], []
    simulator = Simulator(seed)
    for patient in simulator.patients(first, count):
        brain = largest_body_mask(patient.volume)
        spacing = patient.spacing_mm[:2]
        grid = centred_grid(brain, spacing, pixel_mm=pixel_mm, size=size)
        unit = z_score(patient.volume, brain, clip_percentiles=(0.5, 99.5), z_range=(-2.5, 3.5))
        picture = resample_slices(unit, grid, fill=-1.0)
        mask = resample_mask_slices(patient.mask > 0, grid)
        area = (picture > -0.95).mean(axis=(1, 2))
        usable = np.flatnonzero(area > 0.45 * area.max())
        rng = np.random.default_rng([seed, patient.index])
        marked = mask.any(axis=(1, 2))
        for group in (usable[marked[usable]], usable[~marked[usable]]):
            for z in np.sort(rng.permutation(group)[: each // 2]):
                images.append(picture[z][None])
                masks.append(mask[z])
                rows.append((patient.participant_id, patient.kind.site, int(marked[z])))
    table = pd.DataFrame(rows, columns=["subject", "site", "label"])
    table.insert(0, "row", np.arange(len(table)))
    return SliceSet(np.stack(images), np.stack(masks), table)


def as_synthetic(slices: SliceSet) -> SliceSet:
    """The slices as if a generator had made them."""
    table = pd.DataFrame(
        {
            "row": np.arange(len(slices)),
            "seed": np.arange(len(slices)),
            "label": slices.table["label"].to_numpy(),
        }
    )
    return SliceSet(slices.images, slices.masks, table)
