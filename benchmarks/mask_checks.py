"""Measure what ingest's mask checks reject: true masks, and masks damaged in reported ways.

`python benchmarks/mask_checks.py data/volumes/BATCH...` reads batches that were ingested, takes
their masks for true, and checks each on its image: unchanged, on an image whose tumour was made
fainter, and damaged. A line a kind: how many were rejected, by which code, and a check's cost.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.core.volume import Volume
from tasks.ingest.masks.mask_grid import place_mask
from tasks.ingest.masks.plausibility import CheckedImage, check_place, ignores_image, judge_outline

SHIFTS = (10, 25)  # in plane, in voxels
FAINT = (0.5, 0.25)  # of the tumour's contrast


@dataclass(frozen=True)
class Case:
    """An image, its mask, and the mask of another patient on the same number of slices."""

    image: Volume
    mask: NDArray[np.uint8]
    other: NDArray[np.uint8]
    seed: int


def read_cases(folder: Path) -> list[Case]:
    """Read the volumes of a batch that have a tumour."""
    rows = pd.read_parquet(folder / "manifest.parquet").query("mask_status == 'segmented'")
    pairs = []
    for row in rows.itertuples():
        image, mask = (nib.load(folder / path) for path in (row.image, row.mask))
        pairs.append((Volume(np.asanyarray(image.dataobj), image.affine), binarise(mask.dataobj)))
    return [
        Case(image, mask, resample_nearest(pairs[(i + 7) % len(pairs)][1], mask.shape), i)
        for i, (image, mask) in enumerate(pairs)
    ]


def binarise(data: object) -> NDArray[np.uint8]:
    """Convert to {0,1} in one piece of memory."""
    return np.ascontiguousarray(np.asanyarray(data) != 0).astype(np.uint8)


def resample_nearest(mask: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Resample a mask to another grid, voxel by voxel of the nearest position."""
    at = (
        np.linspace(0, n - 1, m).round().astype(int) for n, m in zip(mask.shape, shape, strict=True)
    )
    return mask[np.ix_(*at)]


def fade_tumor(case: Case, contrast: float) -> Volume:
    """Bring the tumour's mean nearer to that of its surroundings."""
    data, inside = case.image.data.astype(np.float32), case.mask > 0
    around = ndimage.binary_dilation(inside, iterations=3) & ~inside
    excess = float(data[inside].mean() - data[around].mean())
    smooth = ndimage.gaussian_filter(case.mask.astype(np.float32), (1.5, 1.5, 0))
    return Volume((data - (1 - contrast) * excess * smooth).round(), case.image.affine)


def shift_mask(case: Case, voxels: int) -> NDArray[np.uint8]:
    """Shift the mask in the plane, in a random direction."""
    angle = np.random.default_rng([case.seed, voxels]).uniform(0, 2 * np.pi)
    move = np.array([np.cos(angle), np.sin(angle), 0]) * voxels
    return ndimage.shift(case.mask, move, order=0)


def move_to_corner(case: Case) -> NDArray[np.uint8]:
    """Move the mask to a corner of the image, as by a lost origin."""
    low = np.argwhere(case.mask).min(axis=0)
    return np.roll(case.mask, (-low[0], -low[1]), (0, 1))


def approximate_brain(case: Case) -> NDArray[np.uint8]:
    """Approximate the brain: the head less a rim of a tenth of its width."""
    head = CheckedImage.of(case.image).head
    assert head is not None
    full = head.inside.repeat(head.steps[0], 0).repeat(head.steps[1], 1).repeat(head.steps[2], 2)
    full = full[tuple(slice(0, n) for n in case.mask.shape)]
    rim = int(0.05 * np.sqrt(full.any(axis=2).sum()))
    inner = ndimage.binary_erosion(full, ndimage.generate_binary_structure(2, 1)[..., None], rim)
    return resample_nearest(inner.astype(np.uint8), case.mask.shape)


def darker_half_of_brain(case: Case) -> NDArray[np.uint8]:
    """Return the darker half of the brain, as a class of tissue."""
    inside = approximate_brain(case) > 0
    middle = np.median(np.asarray(case.image.data)[inside]) if inside.any() else 0
    return (inside & (np.asarray(case.image.data) < middle)).astype(np.uint8)


def check_mask(image: Volume, mask: NDArray[np.uint8], affine: NDArray[np.float64]) -> str:
    """Return the rejection code, or `kept`, as `patient_masks` decides for one image."""
    try:
        placed = place_mask(Volume(mask, affine), image)
        scene = CheckedImage.of(image)
        check_place(placed, scene)
        view = judge_outline(placed, scene)
    except RejectionError as rejection:
        return rejection.code
    return "mask-ignores-image" if ignores_image(() if view is None else (view,)) else "kept"


Kind = Callable[[Case], tuple[Volume, NDArray[np.uint8], NDArray[np.float64]]]


def change_mask(change: Callable[[Case], NDArray[np.uint8]]) -> Kind:
    """Damage the mask alone."""
    return lambda case: (case.image, np.ascontiguousarray(change(case)), case.image.affine)


KINDS: dict[str, Kind] = {
    "true": change_mask(lambda case: case.mask),
    **{
        f"true, contrast x {f:g}": lambda case, f=f: (
            fade_tumor(case, f), case.mask, case.image.affine
        )
        for f in FAINT
    },
    "mirrored left to right": change_mask(lambda case: case.mask[::-1]),
    "mirrored front to back": change_mask(lambda case: case.mask[:, ::-1]),
    "slices in reverse": change_mask(lambda case: case.mask[:, :, ::-1]),
    **{f"shifted {n} voxels": change_mask(lambda case, n=n: shift_mask(case, n)) for n in SHIFTS},
    "another patient's": change_mask(lambda case: case.other),
    "in a corner": change_mask(move_to_corner),
    "brain": change_mask(approximate_brain),
    "half of the brain's voxels": change_mask(darker_half_of_brain),
    "identity affine": lambda case: (case.image, case.mask, np.eye(4)),
    "identity affine, mirrored": lambda case: (
        case.image, np.ascontiguousarray(case.mask[::-1]), np.eye(4)
    ),
}  # fmt: skip


def main(folders: list[str]) -> None:
    """Print a table for each batch."""
    for folder in map(Path, folders):
        cases = read_cases(folder)
        print(f"{folder.name}: {len(cases)} masks\n")
        print("| mask | n | refused | codes |\n|---|---|---|---|")
        seconds = 0.0
        for name, kind in KINDS.items():
            codes: Counter[str] = Counter()
            for case in cases:
                image, mask, affine = kind(case)
                if not mask.any():
                    continue
                start = time.process_time()
                codes[check_mask(image, mask, affine)] += 1
                seconds += (time.process_time() - start) * (name == "true")
            total = codes.total()
            kept = codes.pop("kept", 0)
            code_counts = ", ".join(f"{code} {count}" for code, count in codes.most_common())
            print(f"| {name} | {total} | {1 - kept / total:.1%} | {code_counts} |", flush=True)
        print(f"\n{1000 * seconds / len(cases):.0f} processor milliseconds a true mask\n")


if __name__ == "__main__":
    main(sys.argv[1:])
