"""Paired intervals, clustered by test patient and by training run, simultaneous over contrasts."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.lift.measures import Array, Axes, Measure

ALPHA = 0.05


@dataclass(frozen=True)
class Resampling:
    """The same draws for all arms, which is what pairs them.

    Attributes:
        patients: (B,P) how often each patient is drawn.
        runs: (B,R) what each run's own deviation is multiplied with.
    """

    patients: Array
    runs: Array

    @classmethod
    def draw(cls, axes: Axes, *, draws: int, seed: int) -> "Resampling":
        """Draw patients with replacement, and normal multipliers for the runs of each fold.

        With S seeds a fold's multipliers are centred and scaled by sqrt(S / (S - 1)), so that
        the spread of runs enters as their variance over S, without bias; one seed alone says
        nothing of it, and the interval then holds for that very network only.
        """
        rng = np.random.default_rng(seed)
        n = len(axes.patients)
        patients = rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(float)
        runs = rng.standard_normal((draws, len(axes.runs)))
        for fold in {fold for fold, _ in axes.runs}:
            own = np.array([name == fold for name, _ in axes.runs])
            centred = runs[:, own] - runs[:, own].mean(axis=1, keepdims=True)
            size = own.sum()
            runs[:, own] = centred * np.sqrt(size / max(size - 1, 1))
        return cls(patients, runs)


@dataclass(frozen=True)
class Estimate:
    """A metric of one arm and its (B,) bootstrap replicates."""

    value: float
    replicates: Array

    def interval(self, *, limit: float) -> tuple[float, float]:
        """95 % percentile interval inside the metric's range [0, limit]."""
        possible = np.clip(self.replicates, 0, limit)
        low, high = np.nanquantile(possible, [ALPHA / 2, 1 - ALPHA / 2])
        return float(low), float(high)


def estimate(measure: Measure, resampling: Resampling) -> Estimate | None:
    """The metric over all patients and runs; None where it is not defined.

    A replicate adds two deviations: that of other patients under the same runs, and that of
    other runs under the same patients. Their variances add up, as in two-way clustering
    (Cameron, Gelbach and Miller 2011) without its subtracted term, so that the interval errs on
    the wide side. Without the second part a lucky seed would pass for a lift.
    """
    unit = np.ones((1, resampling.patients.shape[1]))
    top, bottom = measure.sums(unit)  # (1,R)
    if bottom.sum() == 0:
        return None
    value = float(top.sum() / bottom.sum())
    tops, bottoms = measure.sums(resampling.patients)  # (B,R)
    with np.errstate(invalid="ignore", divide="ignore"):
        patients = tops.sum(axis=1) / bottoms.sum(axis=1) - value
    # A run's deviation (top_r - value_fold * bottom_r) / total is linear in the run's weight.
    residual = (top - value * bottom)[0] / bottom.sum()  # (R,)
    return Estimate(value, value + patients + resampling.runs @ residual)


@dataclass(frozen=True)
class Difference:
    """An arm less a reference, with an interval and a p-value that agree."""

    lift: float
    low: float
    high: float
    p_adjusted: float


def simultaneous(
    pairs: Mapping[tuple[str, str], tuple[Estimate, Estimate]],
) -> dict[tuple[str, str], Difference]:
    """Single-step max-t over the family (Westfall and Young 1993, section 2.5).

    Each difference is divided by its bootstrap standard error; the family's critical value is
    the 95 % quantile of the largest such ratio in a draw. An interval excludes 0 just where its
    adjusted p-value is at most .05. Differences that never vary (identical arms) are 0, [0, 0], 1.
    """
    if not pairs:
        return {}
    values = np.array([arm.value - reference.value for arm, reference in pairs.values()])
    draws = np.stack([a.replicates - r.replicates for a, r in pairs.values()])  # (K,B)
    error = np.nanstd(draws, axis=1, ddof=1)
    moving = error > 1e-12
    scale = np.where(moving, error, 1.0)
    largest = np.nanmax(np.abs(draws - values[:, None]) / scale[:, None], axis=0)  # (B,)
    largest = np.sort(largest[~np.isnan(largest)])
    count = len(largest)
    critical = largest[min(int(np.ceil((1 - ALPHA) * (count + 1))), count) - 1]
    half = critical * error
    observed: NDArray[np.float64] = np.abs(values) / scale
    reached = count - np.searchsorted(largest, observed, side="left")
    p = np.where(moving, (1 + reached) / (count + 1), np.where(values == 0, 1.0, 1 / (count + 1)))
    return {
        name: Difference(float(v), float(v - h), float(v + h), float(q))
        for name, v, h, q in zip(pairs, values, half, p, strict=True)
    }
