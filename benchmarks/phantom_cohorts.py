"""Simulate cohorts for the trials of the gate, cached on disk so that a later run resumes.

    python -m benchmarks.phantom_cohorts DIR FIRST COUNT

A cohort is three sets of slices of the phantom's simulator, as in the demo: 26 training and 15
validation patients, and 30 more, whose slices are those of an oracle generator.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from tasks.common.slice_set import SliceSet
from tests.tasks.synthetic_cohort import simulated

SPANS = {"train": (0, 26), "val": (26, 15), "oracle": (100, 30)}


def read_or_simulate(
    seed: int, folder: Path, *, size: int = 64
) -> tuple[SliceSet, SliceSet, SliceSet]:
    """Return training, validation and oracle slices of one seed, at 3 mm for 64 pixels a side."""
    path = folder / f"cohort-{size}-{seed}.npz"
    if not path.exists():
        write_cohort(path, seed, size)
    with np.load(path, allow_pickle=False) as saved:
        partitions = [read_partition(saved, name, size) for name in SPANS]
    return partitions[0], partitions[1], partitions[2]


def write_cohort(path: Path, seed: int, size: int) -> None:
    """Simulate a cohort, and write it as `data/slices` does: float16 images."""
    arrays = {}
    for name, (first, count) in SPANS.items():
        slices = simulated(first, count, seed=seed, size=size, pixel_mm=192 / size)
        arrays[f"{name} images"] = slices.images.astype(np.float16)
        arrays[f"{name} masks"] = np.packbits(slices.masks, axis=-1)
        for column in ("subject", "site", "label"):
            values = slices.table[column].to_numpy()
            arrays[f"{name} {column}"] = values if column == "label" else values.astype("U16")
    folder = path.parent
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")
    np.savez(partial, **arrays)
    partial.replace(path)


def read_partition(saved: np.lib.npyio.NpzFile, name: str, size: int) -> SliceSet:
    """Read one partition of a cohort."""
    columns = {key: saved[f"{name} {key}"] for key in ("subject", "site", "label")}
    table = pd.DataFrame(columns)
    table.insert(0, "row", np.arange(len(table)))
    masks = np.unpackbits(saved[f"{name} masks"], axis=-1, count=size)
    return SliceSet(saved[f"{name} images"].astype(np.float32), masks, table)


if __name__ == "__main__":
    for seed in range(int(sys.argv[2]), int(sys.argv[2]) + int(sys.argv[3])):
        read_or_simulate(seed, Path(sys.argv[1]))
