"""Paired intervals, clustered by test patient and by training run, simultaneous over contrasts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, permutation_test

from tasks.lift.patient_metrics import Array, Axes, Mean, Measure

ALPHA = 0.05
POWER = 0.8
FLIPS = 2**14
Pair = tuple[str, str]


@dataclass(frozen=True)
class Resampling:
    """The same draws for all arms, which is what pairs them.

    Attributes:
        patients: (B,P) the weight of each patient, above 0; 1 on average.
        runs: (B,R) what each run's own deviation is multiplied with.
        folds: (R,R) averages a value over the runs of each run's own fold.
        seed: draws the noise between arms.
    """

    patients: Array
    runs: Array
    folds: Array
    seed: int

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the spread between runs: runs less folds."""
        return len(self.folds) - round(float(np.trace(self.folds)))

    @classmethod
    def draw(cls, axes: Axes, *, draws: int, seed: int) -> "Resampling":
        """Draw weights of patients, and normal multipliers for the runs of each fold.

        Patients' weights are flat Dirichlet (the Bayesian bootstrap, Rubin 1981). Drawn with
        replacement, a few patients of one label would be missing from many draws, and AUROC
        undefined in them; a weight is never 0, so that every draw counts.

        With S seeds a fold's multipliers are centred and scaled by sqrt(S / (S - 1)), so that
        the spread of runs enters as their variance over S, without bias; one seed alone says
        nothing of it, and an interval then holds for that very network only.
        """
        rng = np.random.default_rng(seed)
        n = len(axes.patients)
        patients = n * rng.dirichlet(np.ones(n), size=draws)
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
        residuals: (B,R) the same for other patients.
        patients: how many it is defined for.
        freedom: degrees of freedom of the spread between its runs.
    """

    value: float
    replicates: Array
    own: Array
    residual: Array
    residuals: Array
    patients: int
    freedom: int

    def interval(self, *, limit: float, seed: int) -> tuple[float, float] | None:
        """95 % interval of this arm alone, inside the metric's range [0, limit].

        None with one run a fold: nothing is known of other runs.
        """
        if self.freedom < 1:
            return None
        possible = np.clip(mean_distribution(self, np.random.default_rng(seed)), 0, limit)
        low, high = np.quantile(possible, [ALPHA / 2, 1 - ALPHA / 2])
        return float(low), float(high)


def mean_distribution(one: Estimate, rng: np.random.Generator) -> Array:
    """(B,) what a metric might have been with other patients and other runs.

    The two deviations are those of `simultaneous`, of one arm instead of a difference.
    """
    patients = (one.replicates - one.value) * unbiased(one.patients)
    patients *= np.sqrt(variance_uncertainty(rng, one.patients - 1, len(patients)))
    wide = variance_uncertainty(rng, one.freedom, len(patients))
    beyond = np.clip(wide - share_of_patients(one.residual, one.residuals), 0, None)
    total: Array = one.value + patients + one.own * np.sqrt(beyond)
    return total


def estimate(measure: Measure, resampling: Resampling) -> Estimate | None:
    """The metric over all patients and runs; None where it is not defined."""
    unit = np.ones((1, resampling.patients.shape[1]))
    top, bottom = measure.sums(unit)  # (1,R)
    if bottom.sum() == 0:
        return None
    value = float(top.sum() / bottom.sum())
    tops, bottoms = measure.sums(resampling.patients)  # (B,R)
    replicates = tops.sum(axis=1) / bottoms.sum(axis=1)
    slopes = (tops - replicates[:, None] * bottoms) / bottoms.sum(axis=1)[:, None]  # (B,R)
    # Pairs of one patient's slices, and bins of few slices, weigh more in a draw than they do.
    replicates += value - replicates.mean()
    # The value's derivative by each run's weight.
    slope = (top - value * bottom)[0] / bottom.sum()  # (R,)
    return Estimate(
        value,
        replicates,
        own=resampling.runs @ slope,
        residual=slope - resampling.folds @ slope,
        residuals=slopes - slopes @ resampling.folds,
        patients=measure.patients(),
        freedom=resampling.freedom,
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
    2011). Without the second a lucky seed would pass for a lift. Each difference is divided by
    its own 95 % quantile; the family's critical value is the 95 % quantile of the largest such
    ratio in a draw. An interval excludes 0 just where its adjusted p-value is at most .05.
    Differences that never vary (identical arms) are 0, [0, 0], 1.

    Few patients and few runs tell their variance badly, so every draw scales each of the two
    anew by what it could have been, sqrt(f / chi-squared with f degrees of freedom): alone
    either deviation is then Student's t, and together they are the Behrens-Fisher distribution
    (Fisher 1935), whose intervals err on the wide side. To weigh the degrees of freedom of both
    by their estimated sizes (Satterthwaite 1946) covers too little where two runs happen to
    agree. Runs differ on the same patients also because each of them answers to each patient in
    its own way; that part is in the first deviation already and comes off the second (the
    generalised interval of a variance component, Weerahandi 1993).

    The variance between runs is each difference's own, of seeds - 1 degrees of freedom a fold:
    networks that saw synthetic slices spread more than others, and an arm that never learnt does
    not spread at all, so that one variance for all arms is too small for the arm on trial. The
    runs' deviations and both scalings are drawn for each pair independently, which is safe
    whatever their correlation (Sidak 1967): a few runs do not tell it.

    Args:
        estimates: the arms' own. With one run a fold the difference speaks of these very
            networks only; whoever claims more must refuse it.
        pairs: (arm, reference).
        resampling: the draws that `estimates` were made with.
    """
    if not pairs:
        return {}
    arms = [(estimates[a], estimates[r]) for a, r in pairs]
    values = np.array([one.value - other.value for one, other in arms])
    rng = np.random.default_rng([resampling.seed, 1])
    patients, runs, variance = [], [], []
    for (one, other), value in zip(arms, values, strict=True):
        n = min(one.patients, other.patients)
        freedom = min(one.freedom, other.freedom)
        deviation = (one.replicates - other.replicates - value) * unbiased(n)
        noise = rng.permuted(one.own - other.own)
        shared = share_of_patients(one.residual - other.residual, one.residuals - other.residuals)
        variance.append(np.var(deviation, ddof=1) + np.var(noise) * max(1 - shared, 0))
        patients.append(deviation * np.sqrt(variance_uncertainty(rng, n - 1, len(deviation))))
        wide = variance_uncertainty(rng, freedom, len(noise))
        runs.append(noise * np.sqrt(np.clip(wide - shared, 0, None)))
    draws = np.stack(patients) + np.stack(runs)  # (K,B)
    error = np.sqrt(variance)  # (K,)

    scale = np.quantile(np.abs(draws), 1 - ALPHA, axis=1)
    moving = error > 1e-12
    scale = np.where(moving, scale, 1.0)
    largest = np.sort(np.max(np.abs(draws) / scale[:, None], axis=0))  # (B,)
    count = len(largest)
    critical = largest[min(int(np.ceil((1 - ALPHA) * (count + 1))), count) - 1]
    half = np.where(moving, critical * scale, 0.0)
    detectable = half + norm.ppf(POWER) * error
    reached = count - np.searchsorted(largest, np.abs(values) / scale, side="left")
    least = 1 / (count + 1)
    p = np.where(moving, least * (1 + reached), np.where(values == 0, 1.0, least))
    return {
        pair: Difference(float(v), float(v - h), float(v + h), float(q), float(d))
        for pair, v, h, q, d in zip(pairs, values, half, p, detectable, strict=True)
    }


def unbiased(patients: int) -> float:
    """Scale a deviation of Dirichlet weights: its variance is (n - 1) / (n + 1) of s²/n."""
    return float(np.sqrt((patients + 1) / (patients - 1)))


def variance_uncertainty(rng: np.random.Generator, freedom: int, count: int) -> Array:
    """(B,) how many times larger a variance may be than the one estimated.

    Ones without degrees of freedom: then nothing was estimated.
    """
    if freedom < 1:
        return np.ones(count)
    drawn: Array = freedom / rng.chisquare(freedom, count)
    return drawn


def share_of_patients(residual: Array, residuals: Array) -> float:
    """The share of the variance between runs that comes of their own ways with single patients.

    Args:
        residual: (R,) of an arm or of a difference, as `Estimate` has it.
        residuals: (B,R) the same for other patients.
    """
    total = float((residual**2).sum())
    own_way = float(((residuals - residual) ** 2).sum(axis=1).mean())
    return own_way / total if total else 0.0


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
