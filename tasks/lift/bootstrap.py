"""Paired intervals, clustered by test patient and by training run, simultaneous over contrasts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, permutation_test, t

from tasks.lift.measures import Array, Axes, Mean, Measure

ALPHA = 0.05
POWER = 0.8
FLIPS = 2**14
Pair = tuple[str, str]


@dataclass(frozen=True)
class Resampling:
    """The same draws for all arms, which is what pairs them.

    Attributes:
        patients: (B,P) how often each patient is drawn.
        runs: (B,R) what each run's own deviation is multiplied with.
        folds: (R,R) averages a value over the runs of each run's own fold.
        seed: draws the noise between arms.
    """

    patients: Array
    runs: Array
    folds: Array
    seed: int

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
        names = np.array([fold for fold, _ in axes.runs])
        same = (names[:, None] == names).astype(float)
        size = same.sum(axis=1)
        folds = same / size
        normal = rng.standard_normal((draws, len(names)))
        runs = (normal - normal @ folds) * np.sqrt(size / np.maximum(size - 1, 1))
        return cls(patients, runs, folds, seed)


@dataclass(frozen=True)
class Estimate:
    """A metric of one arm.

    Attributes:
        value: over all patients and runs.
        replicates: (B,) the value for other patients.
        own: (B,) how far other runs would have moved it.
        residual: (R,) what each run adds to the value, less its fold's average.
        patients: how many it is defined for.
    """

    value: float
    replicates: Array
    own: Array
    residual: Array
    patients: int

    def interval(self, *, limit: float) -> tuple[float, float]:
        """95 % percentile interval inside the metric's range [0, limit]."""
        possible = np.clip(self.replicates + self.own, 0, limit)
        low, high = np.nanquantile(possible, [ALPHA / 2, 1 - ALPHA / 2])
        return float(low), float(high)


def estimate(measure: Measure, resampling: Resampling) -> Estimate | None:
    """The metric over all patients and runs; None where it is not defined."""
    unit = np.ones((1, resampling.patients.shape[1]))
    top, bottom = measure.sums(unit)  # (1,R)
    if bottom.sum() == 0:
        return None
    value = float(top.sum() / bottom.sum())
    tops, bottoms = measure.sums(resampling.patients)  # (B,R)
    with np.errstate(invalid="ignore", divide="ignore"):
        replicates = tops.sum(axis=1) / bottoms.sum(axis=1)
    # The value's derivative by each run's weight.
    slope = (top - value * bottom)[0] / bottom.sum()  # (R,)
    return Estimate(
        value,
        replicates,
        own=resampling.runs @ slope,
        residual=slope - resampling.folds @ slope,
        patients=measure.patients(),
    )


@dataclass(frozen=True)
class Difference:
    """An arm less a reference, with an interval and a p-value that agree.

    `detectable` is the lift whose interval would exclude 0 with a probability of .8.
    """

    lift: float
    low: float
    high: float
    p_adjusted: float
    detectable: float


def simultaneous(
    estimates: Mapping[str, Estimate], pairs: Sequence[Pair], resampling: Resampling
) -> dict[Pair, Difference]:
    """Single-step max-t over the family of pairs (Westfall and Young 1993, section 2.5).

    A draw of a difference adds two deviations: that of other patients under the same runs, and
    that of other runs under the same patients (two-way clustering, Cameron, Gelbach and Miller
    2011, without its subtracted term: it errs on the wide side). Without the second a lucky seed
    would pass for a lift. Each difference is divided by its standard error; the family's
    critical value is the 95 % quantile of the largest such ratio in a draw. An interval excludes
    0 just where its adjusted p-value is at most .05. Differences that never vary (identical
    arms) are 0, [0, 0], 1.

    The bootstrap is too sure of few patients, and few runs tell their spread badly: errors are
    those of n - 1 patients, and normal tails are stretched to Student's with the degrees of
    freedom that Satterthwaite (1946) gives the sum of both variances.
    """
    if not pairs:
        return {}
    values = np.array([estimates[a].value - estimates[r].value for a, r in pairs])
    n = np.array([min(estimates[a].patients, estimates[r].patients) for a, r in pairs])
    patients = np.stack([estimates[a].replicates - estimates[r].replicates for a, r in pairs])
    patients = (patients - values[:, None]) * np.sqrt(n / (n - 1))[:, None]  # (K,B)
    spread, freedom = between_runs(estimates, resampling)
    rng = np.random.default_rng([resampling.seed, 1])
    noise = {name: spread * rng.standard_normal(patients.shape[1]) for name in estimates}
    draws = patients + np.stack([noise[a] - noise[r] for a, r in pairs])

    by_patient, by_run = np.nanvar(patients, axis=1, ddof=1), 2 * spread**2
    error = np.sqrt(by_patient + by_run)
    moving = error > 1e-12
    scale = np.where(moving, error, 1.0)
    parts = by_patient**2 / (n - 1) + by_run**2 / max(freedom, 1)
    freedoms = np.where(moving, scale**4 / np.where(moving, parts, 1.0), n - 1)
    tails = t.ppf(1 - ALPHA / 2, freedoms) / norm.ppf(1 - ALPHA / 2)

    largest = np.fmax.reduce(np.abs(draws) / scale[:, None], axis=0)  # (B,), undefined draws nan
    largest = np.sort(largest[~np.isnan(largest)])
    count = len(largest)
    critical = largest[min(int(np.ceil((1 - ALPHA) * (count + 1))), count) - 1]
    half = critical * error * tails
    detectable = half + norm.ppf(POWER) * error
    reached = count - np.searchsorted(largest, np.abs(values) / (scale * tails), side="left")
    p = np.where(moving, (1 + reached) / (count + 1), np.where(values == 0, 1.0, 1 / (count + 1)))
    return {
        pair: Difference(float(v), float(v - h), float(v + h), float(q), float(d))
        for pair, v, h, q, d in zip(pairs, values, half, p, detectable, strict=True)
    }


def between_runs(estimates: Mapping[str, Estimate], resampling: Resampling) -> tuple[float, int]:
    """Standard deviation that retraining gives an arm's value, and its degrees of freedom.

    Pooled over the arms, since two or three seeds of one arm hardly show it: the interaction of
    arm and seed inside each fold, which is what the pairing of seeds leaves over.
    """
    residuals = np.stack([one.residual for one in estimates.values()])  # (A,R)
    arms, runs = residuals.shape
    folds = round(float(np.trace(resampling.folds)))
    freedom = (arms - 1) * (runs - folds)
    if freedom == 0:
        return 0.0, 0
    interaction = residuals - residuals.mean(axis=0)
    return float(np.sqrt(runs * (interaction**2).sum() / freedom)), freedom


def sign_flip(arm: Measure, reference: Measure, *, seed: int) -> float | None:
    """Two-sided p-value of the sign-flip test on patients' differences (Fisher 1935, section 21).

    Exact up to 14 patients, from 16,384 random flips beyond. It asks nothing of the shape of the
    differences, but speaks of these trained networks only. None for a metric that patients have
    no value of their own of.
    """
    if not isinstance(arm, Mean) or not isinstance(reference, Mean):
        return None
    defined = (arm.count.sum(axis=0) > 0) & (reference.count.sum(axis=0) > 0)
    mean, other = (
        one.total.sum(axis=0)[defined] / one.count.sum(axis=0)[defined] for one in (arm, reference)
    )
    if not defined.any() or np.allclose(mean, other):
        return 1.0
    found = permutation_test(
        (mean - other,),
        np.mean,
        permutation_type="samples",
        n_resamples=FLIPS,
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)
