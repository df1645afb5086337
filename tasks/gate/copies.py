"""Which synthetic slices repeat a training slice.

A query's nearest training slice says little alone: smooth images are near to everything. So it is
compared with the nearest slice of patients the generator never saw, and both thresholds come from
held-out patients, who are compared with others only. A slice is a copy when

- it is nearer to a training slice than 99 % of held-out slices are, and much nearer to it than to
  the unseen patients (below the 5th percentile of held-out slices), or
- it is nearer to training than to unseen patients beyond all doubt (half of the 1st percentile).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.arrays import SliceSet
from tasks.measures import neighbours, ssim
from tasks.measures.neighbours import Nearest

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Likeness:
    """How near N slices are to training slices and to unseen patients.

    `to_train`, `to_unseen`: the nearest slices; `ratio` (N,) distance to training over distance
    to unseen patients, distances being 1 - correlation; `ssim` (N,) the best of the candidates,
    moved onto them, within both bodies.
    """

    to_train: Nearest
    to_unseen: Nearest
    ratio: Floats
    ssim: Floats


@dataclass(frozen=True)
class Thresholds:
    """From held-out patients."""

    correlation: float
    ratio: float
    beyond_doubt: float


def liken(
    images: Floats,
    bodies: Bools,
    train: SliceSet,
    train_bodies: Bools,
    unseen: SliceSet,
    *,
    max_shift: int,
    subjects: NDArray[np.object_] | None = None,
) -> Likeness:
    """Compare `images` (N,C,H,W) with training slices and with unseen patients.

    `subjects` (N,) are given when the images are the unseen slices themselves: nobody is compared
    with their own slices.
    """
    others = unseen.table["subject"].to_numpy()
    forbidden = None if subjects is None else subjects[:, None] == others[None, :]
    to_train = neighbours.nearest(images, train.images, max_shift=max_shift)
    to_unseen = neighbours.nearest(images, unseen.images, max_shift=max_shift, forbidden=forbidden)
    far_train, far_unseen = (1 - found.scores[:, 0] for found in (to_train, to_unseen))
    return Likeness(
        to_train,
        to_unseen,
        (far_train / np.maximum(far_unseen, 1e-6)).astype(np.float32),
        best_ssim(images, bodies, train.images, train_bodies, to_train),
    )


def best_ssim(
    images: Floats, bodies: Bools, references: Floats, reference_bodies: Bools, found: Nearest
) -> Floats:
    """The highest SSIM (N,) of each image with its candidates, within either body."""
    candidates = ssim.moments(references)
    best = np.full(len(images), -1, dtype=np.float32)
    for k in range(found.rows.shape[1]):
        places = list(zip(images, found.transforms[:, k], strict=True))
        turned = np.stack([neighbours.moved(image, change) for image, change in places])
        body = np.stack(
            [
                neighbours.moved(one[None], change)[0]
                for one, change in zip(bodies, found.transforms[:, k], strict=True)
            ]
        )
        rows = found.rows[:, k]
        region = body | reference_bodies[rows]
        best = np.maximum(
            best, ssim.ssim(ssim.moments(turned), candidates.take(rows), region=region)
        )
    return best


def calibrate(held_out: Likeness) -> Thresholds:
    """Thresholds from the likeness of held-out slices to training and to each other."""
    return Thresholds(
        float(np.quantile(held_out.to_train.scores[:, 0], 0.99)),
        float(np.quantile(held_out.ratio, 0.05)),
        float(np.quantile(held_out.ratio, 0.01) / 2),
    )


def memorised(likeness: Likeness, thresholds: Thresholds) -> Bools:
    """Which of the N slices are copies."""
    near = likeness.to_train.scores[:, 0] >= thresholds.correlation
    copies: Bools = (near & (likeness.ratio <= thresholds.ratio)) | (
        likeness.ratio <= thresholds.beyond_doubt
    )
    return copies


def twins(images: Floats, held_out: Likeness) -> Bools:
    """Which images (N,) have a near-copy in their own set: closer by far than real patients are.

    The bound is a quarter of the median distance from a held-out slice to the nearest slice of
    another patient.
    """
    bound = float(np.median(1 - held_out.to_train.scores[:, 0])) / 4
    if len(images) < 2:
        return np.zeros(len(images), dtype=bool)
    own = neighbours.nearest(
        images, images, keep=1, max_shift=0, forbidden=np.eye(len(images), dtype=bool)
    )
    close: Bools = 1 - own.scores[:, 0] <= bound
    return close
