"""Simulated cohorts for the judge's trials, kept on disk so that a later run begins where it ended.

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


def cohort(seed: int, folder: Path, *, size: int = 64) -> tuple[SliceSet, SliceSet, SliceSet]:
    """Training, validation and oracle slices of one seed, at 3 mm for 64 pixels a side."""
    path = folder / f"cohort-{size}-{seed}.npz"
    if not path.exists():
        write(path, seed, size)
    with np.load(path, allow_pickle=False) as saved:
        sides = [read(saved, name, size) for name in SPANS]
    return sides[0], sides[1], sides[2]


def write(path: Path, seed: int, size: int) -> None:
    """Simulate, and keep as `data/slices` does: float16 images."""
    arrays = {}
    for name, (first, count) in SPANS.items():
        side = simulated(first, count, seed=seed, size=size, pixel_mm=192 / size)
        arrays[f"{name} images"] = side.images.astype(np.float16)
        arrays[f"{name} masks"] = np.packbits(side.masks, axis=-1)
        for column in ("subject", "site", "label"):
            values = side.table[column].to_numpy()
            arrays[f"{name} {column}"] = values if column == "label" else values.astype("U16")
    folder = path.parent
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")
    np.savez(partial, **arrays)
    partial.replace(path)


def read(saved: np.lib.npyio.NpzFile, name: str, size: int) -> SliceSet:
    """One side of a cohort."""
    columns = {key: saved[f"{name} {key}"] for key in ("subject", "site", "label")}
    table = pd.DataFrame(columns)
    table.insert(0, "row", np.arange(len(table)))
    masks = np.unpackbits(saved[f"{name} masks"], axis=-1, count=size)
    return SliceSet(saved[f"{name} images"].astype(np.float32), masks, table)


if __name__ == "__main__":
    for seed in range(int(sys.argv[2]), int(sys.argv[2]) + int(sys.argv[3])):
        cohort(seed, Path(sys.argv[1]))
