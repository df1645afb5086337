"""Detect synthetic slices that copy a training slice or a training patient's tumour.

No single detector finds every kind of copy, so four examine each slice: the correlation of whole
slices after a light blur, their SSIM, their features, and the correlation of the tumour alone.
Each compares the nearest training slice with the nearest slice of patients the generator never
saw, because smooth images are near to everything. All limits come from held-out patients, and no
patient is compared with their own slices. A detector reports a copy when

- the slice is nearer to a training slice than held-out slices are, and its proportion (distance to
  the training slice over distance to the unseen patients) is far lower than theirs, or
- its proportion is well below the lowest one of all held-out slices.

A fifth detector sums the log proportions of correlation and features: a copy that was turned or
scaled is somewhat too near in both, but not near enough in either.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.common.gate_requirements import LEAST_HELD_OUT
from tasks.common.slice_set import SliceSet
from tasks.gate.slice_features import SliceFeatures
from tasks.measures.features.feature_distances import nearest_rows
from tasks.measures.similarity import ncc_search
from tasks.measures.similarity.ncc_search import Nearest
from tasks.measures.similarity.ssim_search import nearest_ssim
from tasks.measures.similarity.tumor_patch_search import nearest_patch

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.intp]

DETECTORS = ("correlation", "ssim", "features", "tumor")
SUMMED_DETECTORS = ("correlation", "features")
NEAR_QUANTILE, PROPORTION_QUANTILE = 0.0025, 0.01  # quantiles of held-out slices
PROPORTION_FACTOR = 0.8  # times the lowest proportion (NEAR_QUANTILE) of held-out slices
SUM_FACTOR = 1.2  # times the lowest sum (the same quantile), which is negative
MOST_COUNTED = 8  # near-copies of a slice


@dataclass(frozen=True)
class Similarity:
    """How near N slices are to training slices and to unseen patients.

    `to_train`, `to_unseen`: the best correlated slices. `rows` (N,): position of each detector's
    nearest training slice, -1 where there is no tumour. `distances`: of each detector to training
    and to unseen patients, each (N,), at least 0 (1 - similarity, or the distance of features),
    NaN where there is no tumour.
    """

    to_train: Nearest
    to_unseen: Nearest
    rows: dict[str, Ints]
    distances: dict[str, tuple[Floats, Floats]]

    def proportion(self, name: str) -> Floats:
        """Return the distance to training over the distance to unseen patients (N,)."""
        to_train, to_unseen = self.distances[name]
        return to_train / np.maximum(to_unseen, 1e-6)


@dataclass(frozen=True)
class Limits:
    """The limits of one detector, from held-out patients."""

    near: float
    proportion: float
    beyond_doubt: float


@dataclass(frozen=True)
class Thresholds:
    """The limits of each detector that has any, and of the sum of log proportions.

    `scales` holds the median and spread of each log proportion in the sum, `together` the limit of
    the sum.
    """

    detectors: dict[str, Limits]
    scales: dict[str, tuple[float, float]]
    together: float

    def as_bounds(self) -> dict[str, float]:
        """Return the limits by the names they have in `metrics.json`."""
        bounds = {"memorised_together": self.together}
        for name, limits in self.detectors.items():
            bounds |= {
                f"memorised_{name}_distance": limits.near,
                f"memorised_{name}_ratio": limits.proportion,
                f"memorised_{name}_beyond_doubt": limits.beyond_doubt,
            }
        return bounds


def measure_similarity(
    slices: SliceSet,
    features: SliceFeatures,
    train: tuple[SliceSet, SliceFeatures],
    unseen: tuple[SliceSet, SliceFeatures],
    *,
    max_shift: int,
    workers: int = 1,
    held_out: bool = False,
    device: str = "cpu",
) -> Similarity:
    """Compare slices with training slices and with unseen patients.

    `held_out`: the slices are the unseen ones themselves, so no patient is compared with their own
    slices.
    """
    patients_of_pair = None
    if held_out:
        patients = np.unique(slices.table["subject"].to_numpy(dtype=str), return_inverse=True)[1]
        patients_of_pair = patients, patients
    by_ncc, by_ssim, by_tumor, by_features = [], [], [], []
    mean, std = train[1].features.mean(axis=0), np.maximum(train[1].features.std(axis=0), 1e-3)
    for (others, other_features), owners in ((train, None), (unseen, patients_of_pair)):
        nearest = ncc_search.nearest_by_ncc(
            slices.images, others.images,
            max_shift=max_shift, owners=owners, workers=workers, device=device,
        )  # fmt: skip
        by_ncc.append(nearest)
        by_ssim.append(
            nearest_ssim(
                slices.images, others.images, features.bodies, other_features.bodies,
                correlated=nearest,
                max_shift=max_shift, owners=owners, workers=workers, device=device,
            )
        )  # fmt: skip
        by_tumor.append(
            nearest_patch(
                slices.images, slices.masks, others.images, others.masks,
                max_shift=max_shift, owners=owners, workers=workers,
            )
        )  # fmt: skip
        by_features.append(
            nearest_rows(
                (features.features - mean) / std, (other_features.features - mean) / std,
                keep=1, owners=owners,
            )
        )  # fmt: skip
    rows = {
        "correlation": by_ncc[0].rows[:, 0],
        "ssim": by_ssim[0].rows,
        "features": by_features[0][0][:, 0],
        "tumor": by_tumor[0].rows,
    }
    distances: dict[str, list[NDArray[Any]]] = {
        "correlation": [1 - match.scores[:, 0] for match in by_ncc],
        "ssim": [1 - match.scores for match in by_ssim],
        "features": [match[:, 0] for _, match in by_features],
        "tumor": [1 - match.scores for match in by_tumor],
    }
    pairs = {
        name: (to_train.astype(np.float64), to_unseen.astype(np.float64))
        for name, (to_train, to_unseen) in distances.items()
    }
    return Similarity(by_ncc[0], by_ncc[1], rows, pairs)


def calibrate_thresholds(held_out: Similarity) -> Thresholds:
    """Compute thresholds from the similarity of held-out slices to training and to each other."""
    detectors = {}
    for name in DETECTORS:
        to_train, ratio = held_out.distances[name][0], held_out.proportion(name)
        comparable = np.isfinite(to_train) & np.isfinite(ratio)
        if count_comparable(held_out)[name] >= LEAST_HELD_OUT:
            detectors[name] = Limits(
                float(np.quantile(to_train[comparable], NEAR_QUANTILE)),
                float(np.quantile(ratio[comparable], PROPORTION_QUANTILE)),
                float(np.quantile(ratio[comparable], NEAR_QUANTILE) * PROPORTION_FACTOR),
            )
    scales = {}
    for name in SUMMED_DETECTORS:
        low, middle, high = np.quantile(log_proportions(held_out, name), [0.16, 0.5, 0.84])
        scales[name] = (float(middle), float(max(high - low, 1e-6) / 2))
    return Thresholds(
        detectors,
        scales,
        float(np.quantile(sum_of_log_proportions(held_out, scales), NEAR_QUANTILE)) * SUM_FACTOR,
    )


def count_comparable(held_out: Similarity) -> dict[str, int]:
    """Count the held-out slices that each detector can compare with training and unseen slices."""
    return {
        name: int((np.isfinite(a) & np.isfinite(b)).sum())
        for name, (a, b) in held_out.distances.items()
    }


def log_proportions(similarity: Similarity, name: str) -> Floats:
    """Compute log proportions (N,), with the proportion clipped at 1e-6 for perfect copies."""
    return np.log(np.maximum(similarity.proportion(name), 1e-6))


def sum_of_log_proportions(
    similarity: Similarity, scales: dict[str, tuple[float, float]]
) -> Floats:
    """Compute the sum (N,) of log proportions, each standardised by the held-out slices."""
    parts = [
        (log_proportions(similarity, name) - middle) / spread
        for name, (middle, spread) in scales.items()
    ]
    total: Floats = np.sum(parts, axis=0)
    return total


def detected_copies(similarity: Similarity, thresholds: Thresholds) -> dict[str, Bools]:
    """Return which of N slices each detector reports, and the sum of correlation and features."""
    detected = {}
    for name, limits in thresholds.detectors.items():
        with np.errstate(invalid="ignore"):  # NaN, where there is no tumour, is no copy
            ratio = similarity.proportion(name)
            near = similarity.distances[name][0] <= limits.near
            detected[name] = (near & (ratio <= limits.proportion)) | (ratio <= limits.beyond_doubt)
    detected["together"] = (
        sum_of_log_proportions(similarity, thresholds.scales) < thresholds.together
    )
    return detected


def copy_columns(similarity: Similarity, thresholds: Thresholds, rows: Ints) -> dict[str, Any]:
    """Return the columns of `samples.parquet` on copies; `rows` (M,) number the training slices.

    They hold each detector's ratio of distances and which detectors report the slice. `suspect_by`
    is the detector whose ratio is lowest relative to its limit, `suspicion` that quotient (below 1
    for a copy), `suspect_row` the training slice that this detector finds nearest.
    """
    ratios = {name: similarity.proportion(name) for name in DETECTORS}
    names = list(thresholds.detectors)
    quotients = np.stack([ratios[name] / thresholds.detectors[name].proportion for name in names])
    lowest = np.nan_to_num(quotients, nan=np.inf).argmin(axis=0)  # (N,)
    each = np.arange(len(lowest))
    suspects = np.stack([similarity.rows[name] for name in names])[lowest, each]
    hits = detected_copies(similarity, thresholds)
    table = np.stack(list(hits.values()), axis=1)
    reported_by = [
        ",".join(name for name, hit in zip(hits, row, strict=True) if hit) for row in table
    ]
    return {
        "nearest_train_row": rows[similarity.rows["correlation"]],
        "nearest_train_ncc": similarity.to_train.scores[:, 0],
        "nearest_unseen_ncc": similarity.to_unseen.scores[:, 0],
        "nearest_train_ssim": 1 - similarity.distances["ssim"][0],
        "nearest_tumor_ncc": 1 - similarity.distances["tumor"][0],
        **{f"{name}_ratio": ratio for name, ratio in ratios.items()},
        "suspect_by": [names[index] for index in lowest],
        "suspect_row": np.where(suspects < 0, -1, rows[suspects]),
        "suspect_ratio": np.stack([ratios[name] for name in names])[lowest, each],
        "suspicion": quotients[lowest, each],
        "memorised_by": reported_by,
    }


@dataclass(frozen=True)
class NearDuplicates:
    """How many near-copies each of N slices has in its own set, counted up to `most`."""

    counts: Ints
    most: int

    def share_of(self, n: int) -> float:
        """Return the mean share of slices with a near-copy in random subsets of `n` slices.

        Larger sets have more near-copies, so shares are compared at equal n. A slice with k
        near-copies among the N - 1 others has none among n - 1 of them with the probability of
        the hypergeometric distribution. A slice with `most` or more counts as having one.
        """
        total = len(self.counts)
        n = min(n, total)
        if n < 2:
            return 0.0
        steps = np.arange(self.most - 1)
        factors = np.maximum(total - n - steps, 0) / np.maximum(total - 1 - steps, 1)
        none = np.concatenate([[1.0], np.cumprod(factors), [0.0]])  # by the number of near-copies
        return float(1 - none[np.minimum(self.counts, self.most)].mean())


def near_duplicates(
    images: NDArray[np.float32],
    held_out: Similarity,
    *,
    most: int = MOST_COUNTED,
    workers: int = 1,
    device: str = "cpu",
) -> NearDuplicates:
    """Count each image's (N,) near-copies in its own set.

    Two images are near-copies when their distance is at most a quarter of the median distance
    from a held-out slice to its nearest training slice.
    """
    bound = float(np.median(1 - held_out.to_train.scores[:, 0])) / 4
    if len(images) < 2:
        return NearDuplicates(np.zeros(len(images), dtype=np.intp), most)
    each = np.arange(len(images))
    nearest = ncc_search.nearest_by_ncc(
        images, images, keep=most, max_shift=0, owners=(each, each), workers=workers, device=device
    )
    close = (1 - nearest.scores <= bound) & (nearest.rows != each[:, None])
    return NearDuplicates(close.sum(axis=1), most)
