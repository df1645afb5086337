"""Faults of a single slice, each with a score whose limit comes from held-out slices."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.common.slice_set import SliceSet, mask_known
from tasks.gate.memorisation import Similarity
from tasks.gate.slice_features import SliceFeatures
from tasks.measures.anatomy.tumor_shape import COLUMNS
from tasks.measures.features.feature_distances import nearest_rows

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SCORES = ("outline", "upside_down", "spectrum", "realism", "mask_contrast")
INSIDE, CONTRAST = COLUMNS.index("inside"), COLUMNS.index("contrast")
REALISM_NEIGHBOURS = 3  # feature neighbours


@dataclass(frozen=True)
class TrainingStatistics:
    """Means and standard deviations of training slices, by which scores are standardised."""

    outline: tuple[Floats, Floats]
    spectrum: tuple[Floats, Floats]
    features: tuple[Floats, Floats]
    real_features: Floats
    contrast: float


def training_statistics(train: SliceFeatures) -> TrainingStatistics:
    """Compute means and standard deviations of training slices."""
    mean, std = mean_and_deviation(train.features)
    contrasts = train.tumors[:, CONTRAST]
    known = contrasts[np.isfinite(contrasts)]
    return TrainingStatistics(
        mean_and_deviation(train.outlines),
        mean_and_deviation(train.spectra),
        (mean, std),
        (train.features - mean) / std,
        float(np.median(known)) if len(known) else 0.5,
    )


def mean_and_deviation(rows: Floats) -> tuple[Floats, Floats]:
    """Compute mean and standard deviation of each column; the latter is at least 0.001."""
    return rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-3)


def check_scores(
    slices: SliceFeatures, similarity: Similarity, statistics: TrainingStatistics
) -> pd.DataFrame:
    """Compute the five scores of each slice; larger is worse, 0 where a check does not apply."""
    mean, std = statistics.features
    _, near = nearest_rows(
        (slices.features - mean) / std, statistics.real_features, keep=REALISM_NEIGHBOURS
    )
    contrast = np.abs(slices.tumors[:, CONTRAST] - statistics.contrast)
    return pd.DataFrame(
        {
            "outline": deviation(slices.outlines, statistics.outline).max(axis=1),
            "upside_down": similarity.to_train.inverted - similarity.to_train.upright,
            "spectrum": deviation(slices.spectra, statistics.spectrum).max(axis=1),
            "realism": near.mean(axis=1),
            "mask_contrast": np.nan_to_num(contrast, nan=0.0),
        }
    )


def deviation(rows: Floats, mean_and_std: tuple[Floats, Floats]) -> Floats:
    """Return the distance from the mean in standard deviations, per column."""
    return np.abs(rows - mean_and_std[0]) / mean_and_std[1]


def check_bounds(held_out: pd.DataFrame, *, tolerance: float) -> dict[str, float]:
    """Return the highest score allowed by each check.

    It is `tolerance` times as far from the median as the 99th percentile of held-out slices.
    Slices without a tumour do not count for the contrast.
    """
    bounds = {}
    for name in SCORES:
        values = held_out[name].to_numpy()
        if name == "mask_contrast":
            values = values[values > 0]
        if not len(values):
            bounds[name] = np.inf
            continue
        median, high = np.quantile(values, [0.5, 0.99])
        bounds[name] = float(median + tolerance * (high - median))
    return bounds


def invalid_images(slices: SliceSet) -> Bools:
    """Return which slices (N,) are no valid image: NaN, outside [-1, 1], or of one value only."""
    images = slices.images
    finite = np.isfinite(images).all(axis=(1, 2, 3))
    safe = np.nan_to_num(images, nan=0, posinf=9, neginf=-9)
    outside = (np.abs(safe) > 1.01).any(axis=(1, 2, 3))
    flat = safe.std(axis=(1, 2, 3)) < 0.02
    return np.asarray(~finite | outside | flat)


def wrong_masks(slices: SliceSet, features: SliceFeatures) -> Bools:
    """Return which masks (N,) contradict the label or lie outside the body by more than a fifth."""
    marked = slices.masks.any(axis=(1, 2))
    label = features.table["label"].to_numpy()
    inside = features.tumors[:, INSIDE]
    known = (label >= 0) & mask_known(features.table)
    return np.asarray((known & (marked != (label == 1))) | (inside < 0.8))


def rejection_reasons(
    *,
    copies: Bools,
    broken: Bools,
    wrong_mask: Bools,
    scores: pd.DataFrame,
    bounds: dict[str, float],
) -> list[str | None]:
    """Return the fault of each slice, None for a sound one.

    Of several faults the first counts: an invalid image, then a copy, then the order below.
    """
    faults: dict[str, Bools] = {"broken": broken, "memorised": copies}
    for name in ("upside_down", "outline", "spectrum", "realism"):
        faults[name] = (scores[name] > bounds[name]).to_numpy()
    faults["mask"] = wrong_mask
    faults["mask_contrast"] = (scores["mask_contrast"] > bounds["mask_contrast"]).to_numpy()
    reasons: list[str | None] = []
    for index in range(len(scores)):
        reasons.append(next((fault for fault, rows in faults.items() if rows[index]), None))
    return reasons
