"""Precision, recall, density and coverage (Kynkäänniemi 2019; Naeem 2020, equations 3 to 6)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.measures.features.feature_distances import squared_distances

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Prdc:
    """Precision, recall and coverage in [0, 1]; density may exceed 1."""

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: Floats, other: Floats, *, k: int = 5) -> Prdc:
    """Compare features `other` (N,D) with `real` (M,D) by the balls of their k nearest neighbours.

    Raises:
        ValueError: unless both tables have more than `k` rows.
    """
    if min(len(real), len(other)) <= k:
        raise ValueError(f"need more than {k} rows on each side, got {len(real)}, {len(other)}")
    real_radius = np.partition(squared_distances(real, real), k, axis=1)[:, k]  # the 0th is itself
    other_radius = np.partition(squared_distances(other, other), k, axis=1)[:, k]
    between = squared_distances(real, other)  # (M, N)
    inside = between <= real_radius[:, None]
    return Prdc(
        precision=float(inside.any(axis=0).mean()),
        recall=float((between <= other_radius[None]).any(axis=1).mean()),
        density=float(inside.sum() / (k * len(other))),
        coverage=float(inside.any(axis=1).mean()),
    )
