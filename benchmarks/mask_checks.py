"""What ingest's checks of masks refuse: true masks, and masks damaged in ways that people report.

`python benchmarks/mask_checks.py data/volumes/BATCH...` reads batches that were ingested, takes
their masks for true, and judges each on its image: as it is, on an image whose tumour was made
fainter, and damaged. A line a kind: how many were refused, by which code, and what a check costs.
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
from tasks.ingest.masks.plausibility import CheckedImage, check_place, is_ignored, view_of_outline

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
    """The volumes of a batch that have a tumour."""
    rows = pd.read_parquet(folder / "manifest.parquet").query("mask_status == 'segmented'")
    pairs = []
    for row in rows.itertuples():
        image, mask = (nib.load(folder / path) for path in (row.image, row.mask))
        pairs.append((Volume(np.asanyarray(image.dataobj), image.affine), binary(mask.dataobj)))
    return [
        Case(image, mask, fitted(pairs[(i + 7) % len(pairs)][1], mask.shape), i)
        for i, (image, mask) in enumerate(pairs)
    ]


def binary(data: object) -> NDArray[np.uint8]:
    """{0,1} in one piece of memory."""
    return np.ascontiguousarray(np.asanyarray(data) != 0).astype(np.uint8)


def fitted(mask: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """A mask on another grid, voxel by voxel of the nearest place."""
    at = (
        np.linspace(0, n - 1, m).round().astype(int) for n, m in zip(mask.shape, shape, strict=True)
    )
    return mask[np.ix_(*at)]


def made_faint(case: Case, contrast: float) -> Volume:
    """The image with its tumour's mean brought nearer to that of what lies around it."""
    data, inside = case.image.data.astype(np.float32), case.mask > 0
    around = ndimage.binary_dilation(inside, iterations=3) & ~inside
    excess = float(data[inside].mean() - data[around].mean())
    smooth = ndimage.gaussian_filter(case.mask.astype(np.float32), (1.5, 1.5, 0))
    return Volume((data - (1 - contrast) * excess * smooth).round(), case.image.affine)


def shifted(case: Case, voxels: int) -> NDArray[np.uint8]:
    """The mask moved in the plane, in a direction of chance."""
    angle = np.random.default_rng([case.seed, voxels]).uniform(0, 2 * np.pi)
    move = np.array([np.cos(angle), np.sin(angle), 0]) * voxels
    return ndimage.shift(case.mask, move, order=0)


def corner(case: Case) -> NDArray[np.uint8]:
    """The mask in a corner of the image, as by an origin that was lost."""
    low = np.argwhere(case.mask).min(axis=0)
    return np.roll(case.mask, (-low[0], -low[1]), (0, 1))


def brain(case: Case) -> NDArray[np.uint8]:
    """About the brain: the head less a rim of a tenth of its width."""
    head = CheckedImage.of(case.image).head
    assert head is not None
    full = head.inside.repeat(head.steps[0], 0).repeat(head.steps[1], 1).repeat(head.steps[2], 2)
    full = full[tuple(slice(0, n) for n in case.mask.shape)]
    rim = int(0.05 * np.sqrt(full.any(axis=2).sum()))
    inner = ndimage.binary_erosion(full, ndimage.generate_binary_structure(2, 1)[..., None], rim)
    return fitted(inner.astype(np.uint8), case.mask.shape)


def tissue(case: Case) -> NDArray[np.uint8]:
    """The darker half of the brain, as a class of tissue."""
    inside = brain(case) > 0
    middle = np.median(np.asarray(case.image.data)[inside]) if inside.any() else 0
    return (inside & (np.asarray(case.image.data) < middle)).astype(np.uint8)


def judge(image: Volume, mask: NDArray[np.uint8], affine: NDArray[np.float64]) -> str:
    """Give the rejection code, or `kept`, as `patient_masks` decides for one image."""
    try:
        placed = place_mask(Volume(mask, affine), image)
        scene = CheckedImage.of(image)
        check_place(placed, scene)
        view = view_of_outline(placed, scene)
    except RejectionError as refusal:
        return refusal.code
    return "mask-ignores-image" if is_ignored(() if view is None else (view,)) else "kept"


Kind = Callable[[Case], tuple[Volume, NDArray[np.uint8], NDArray[np.float64]]]


def on_image(change: Callable[[Case], NDArray[np.uint8]]) -> Kind:
    """A damage of the mask alone."""
    return lambda case: (case.image, np.ascontiguousarray(change(case)), case.image.affine)


KINDS: dict[str, Kind] = {
    "true": on_image(lambda case: case.mask),
    **{
        f"true, contrast x {f:g}": lambda case, f=f: (
            made_faint(case, f), case.mask, case.image.affine
        )
        for f in FAINT
    },
    "mirrored left to right": on_image(lambda case: case.mask[::-1]),
    "mirrored front to back": on_image(lambda case: case.mask[:, ::-1]),
    "slices in reverse": on_image(lambda case: case.mask[:, :, ::-1]),
    **{f"shifted {n} voxels": on_image(lambda case, n=n: shifted(case, n)) for n in SHIFTS},
    "another patient's": on_image(lambda case: case.other),
    "in a corner": on_image(corner),
    "brain": on_image(brain),
    "half of the brain's voxels": on_image(tissue),
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
                codes[judge(image, mask, affine)] += 1
                seconds += (time.process_time() - start) * (name == "true")
            total = codes.total()
            kept = codes.pop("kept", 0)
            told = ", ".join(f"{code} {count}" for code, count in codes.most_common())
            print(f"| {name} | {total} | {1 - kept / total:.1%} | {told} |", flush=True)
        print(f"\n{1000 * seconds / len(cases):.0f} processor milliseconds a true mask\n")


if __name__ == "__main__":
    main(sys.argv[1:])
