"""Paired intervals, clustered by test patient and by training run, simultaneous over contrasts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, permutation_test

from tasks.lift.measures import Array, Axes, Calibration, Mean, Measure

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

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the spread between runs: runs less folds."""
        return len(self.folds) - round(float(np.trace(self.folds)))

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
        slopes = (tops - replicates[:, None] * bottoms) / bottoms.sum(axis=1)[:, None]  # (B,R)
    if isinstance(measure, Calibration):  # grows with every slice drawn twice
        replicates += value - np.nanmean(replicates)
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
    estimates: Mapping[str, Estimate],
    pairs: Sequence[Pair],
    resampling: Resampling,
    *,
    pooled: bool = True,
) -> dict[Pair, Difference]:
    """Single-step max-t over the family of pairs (Westfall and Young 1993, section 2.5).

    A draw of a difference adds two deviations: that of other patients under the same runs, and
    that of other runs under the same patients (two-way clustering, Cameron, Gelbach and Miller
    2011). Without the second a lucky seed would pass for a lift. Each difference is divided by
    its own 95 % quantile; the family's critical value is the 95 % quantile of the largest such
    ratio in a draw. An interval excludes 0 just where its adjusted p-value is at most .05.
    Differences that never vary (identical arms) are 0, [0, 0], 1.

    Few patients and few runs tell their spread badly, so that in every draw each of the two is
    scaled anew by what it could have been, sqrt(f / chi-squared with f degrees of freedom): alone
    either deviation is then Student's t, and together they are the Behrens-Fisher distribution
    (Fisher 1935), whose intervals err on the wide side. To weigh the degrees of freedom of both
    by their estimated sizes (Satterthwaite 1946) covers too little where two runs happen to
    agree. Runs differ on the same patients also because each of them answers to each patient in
    its own way; that part is in the first deviation already and comes off the second (the
    generalised interval of a variance component, Weerahandi 1993).

    Args:
        estimates: the arms' own.
        pairs: (arm, reference).
        resampling: the draws that `estimates` were made with.
        pooled: one spread between runs for all arms; else each pair's own, for families whose
            arms differ in it and that have runs enough.

    Raises:
        ValueError: when a pair of its own spread has one run only, which tells nothing of it.
    """
    if not pairs:
        return {}
    values = np.array([estimates[a].value - estimates[r].value for a, r in pairs])
    n = np.array([min(estimates[a].patients, estimates[r].patients) for a, r in pairs])
    patients = np.stack([estimates[a].replicates - estimates[r].replicates for a, r in pairs])
    patients = (patients - values[:, None]) * np.sqrt(n / (n - 1))[:, None]  # (K,B)
    rng = np.random.default_rng([resampling.seed, 1])
    count = patients.shape[1]
    if pooled:
        spread, own_way, freedom = between_runs(estimates, resampling)
        noise = {name: spread * rng.standard_normal(count) for name in estimates}
        shared = np.full(len(pairs), own_way)
    else:
        noise = {name: one.own for name, one in estimates.items()}
        freedoms = [min(estimates[a].freedom, estimates[r].freedom) for a, r in pairs]
        if min(freedoms) < 1:
            raise ValueError(f"{pairs[int(np.argmin(freedoms))]} have one run only")
        shared = np.array([share_of_patients(estimates[a], estimates[r]) for a, r in pairs])
    runs = np.stack([noise[a] - noise[r] for a, r in pairs])  # (K,B)
    error = np.sqrt(
        np.nanvar(patients, axis=1, ddof=1) + np.var(runs, axis=1) * np.clip(1 - shared, 0, 1)
    )
    draws = patients * np.sqrt(stretch(rng, int(n.min()) - 1, count))
    # One spread errs for all pairs at once, each pair's own errs for itself.
    wide = (
        stretch(rng, freedom, count)
        if pooled
        else np.stack([stretch(rng, f, count) for f in freedoms])
    )
    beyond = wide - shared[:, None]  # (K,B)
    draws += runs * np.sqrt(np.clip(beyond, 0, None))

    scale = np.nanquantile(np.abs(draws), 1 - ALPHA, axis=1)
    moving = error > 1e-12
    scale = np.where(moving, scale, 1.0)
    largest = np.fmax.reduce(np.abs(draws) / scale[:, None], axis=0)  # (B,), undefined draws nan
    largest = np.sort(largest[~np.isnan(largest)])
    defined = len(largest)
    critical = largest[min(int(np.ceil((1 - ALPHA) * (defined + 1))), defined) - 1]
    half = np.where(moving, critical * scale, 0.0)
    detectable = half + norm.ppf(POWER) * error
    reached = defined - np.searchsorted(largest, np.abs(values) / scale, side="left")
    least = 1 / (defined + 1)
    p = np.where(moving, least * (1 + reached), np.where(values == 0, 1.0, least))
    return {
        pair: Difference(float(v), float(v - h), float(v + h), float(q), float(d))
        for pair, v, h, q, d in zip(pairs, values, half, p, detectable, strict=True)
    }


def stretch(rng: np.random.Generator, freedom: int, count: int) -> Array:
    """(B,) how many times larger a variance may be than the one estimated.

    Ones without degrees of freedom: then nothing was estimated.
    """
    if freedom < 1:
        return np.ones(count)
    drawn: Array = freedom / rng.chisquare(freedom, count)
    return drawn


def between_runs(
    estimates: Mapping[str, Estimate], resampling: Resampling
) -> tuple[float, float, int]:
    """Standard deviation that retraining gives an arm's value, and its degrees of freedom.

    Pooled over the arms, since two or three seeds of one arm hardly show it: the interaction of
    arm and seed inside each fold, which is what the pairing of seeds leaves over. The second
    figure is the share of its square that comes of runs' own ways with single patients.
    """
    residual = np.stack([one.residual for one in estimates.values()])  # (A,R)
    residuals = np.stack([one.residuals for one in estimates.values()])  # (A,B,R)
    arms, runs = residual.shape
    freedom = (arms - 1) * resampling.freedom
    if freedom == 0:
        return 0.0, 0.0, 0
    interaction = residual - residual.mean(axis=0)
    others = residuals - residuals.mean(axis=0)
    total = float((interaction**2).sum())
    own_way = float(np.nanmean(((others - interaction[:, None]) ** 2).sum(axis=(0, 2))))
    return float(np.sqrt(runs * total / freedom)), own_way / total if total else 0.0, freedom


def share_of_patients(arm: Estimate, reference: Estimate) -> float:
    """As `between_runs`' second figure, of one pair."""
    difference = arm.residual - reference.residual
    others = arm.residuals - reference.residuals
    total = float((difference**2).sum())
    own_way = float(np.nanmean(((others - difference) ** 2).sum(axis=1)))
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
