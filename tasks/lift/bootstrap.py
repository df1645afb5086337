"""Compute paired intervals, clustered by test patient and by run, simultaneous over contrasts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, permutation_test

from tasks.lift.patient_metrics import Array, MeanMetric, PatientMetric, RunPatientAxes

ALPHA = 0.05
POWER = 0.8
MAX_FLIPS = 2**14
ArmPair = tuple[str, str]


@dataclass(frozen=True)
class Resampling:
    """The same replicates for all arms, so that differences between arms are paired.

    Attributes:
        patients: (B,P) the weight of each patient, above 0; 1 on average.
        runs: (B,R) the multiplier of each run's own deviation.
        fold_mean: (R,R) averages a value over the runs of each run's own fold.
        seed: seeds the noise between arms.
    """

    patients: Array
    runs: Array
    fold_mean: Array
    seed: int

    @property
    def degrees_of_freedom(self) -> int:
        """Degrees of freedom of the variance between runs: runs less folds."""
        return len(self.fold_mean) - round(float(np.trace(self.fold_mean)))

    @classmethod
    def sample_weights(cls, axes: RunPatientAxes, *, replicates: int, seed: int) -> "Resampling":
        """Sample weights of patients, and normal multipliers for the runs of each fold.

        Patients' weights are flat Dirichlet (the Bayesian bootstrap, Rubin 1981). Sampled with
        replacement, a few patients of one label would be missing from many replicates, and AUROC
        undefined in them; a weight is never 0, so that every replicate counts.

        With S seeds a fold's multipliers are centred and scaled by sqrt(S / (S - 1)), so that the
        variance between runs enters as their variance over S, without bias. One seed alone gives no
        estimate of it, and an interval then holds for that very network only.
        """
        rng = np.random.default_rng(seed)
        n = len(axes.patients)
        patients = n * rng.dirichlet(np.ones(n), size=replicates)
        run_folds = np.array([fold for fold, _ in axes.runs])
        same_fold = (run_folds[:, None] == run_folds).astype(float)
        size = same_fold.sum(axis=1)
        fold_mean = same_fold / size
        normal = rng.standard_normal((replicates, len(run_folds)))
        runs = (normal - normal @ fold_mean) * np.sqrt(size / np.maximum(size - 1, 1))
        return cls(patients, runs, fold_mean, seed)


@dataclass(frozen=True)
class Estimate:
    """A metric of one arm.

    Attributes:
        value: over all patients and runs.
        replicates: (B,) the value for other patients.
        run_noise: (B,) the deviation that other runs would have caused.
        run_residual: (R,) what each run adds to the value, less its fold's average.
        run_residual_replicates: (B,R) the same for other patients.
        n_patients: number of patients for whom it is defined.
        degrees_of_freedom: of the variance between its runs.
    """

    value: float
    replicates: Array
    run_noise: Array
    run_residual: Array
    run_residual_replicates: Array
    n_patients: int
    degrees_of_freedom: int

    def interval(self, *, limit: float, seed: int) -> tuple[float, float] | None:
        """Compute the 95 % interval of this arm alone, inside the metric's range [0, limit].

        None with one run a fold, which gives no estimate of other runs.
        """
        if self.degrees_of_freedom < 1:
            return None
        distribution = np.clip(mean_distribution(self, np.random.default_rng(seed)), 0, limit)
        low, high = np.quantile(distribution, [ALPHA / 2, 1 - ALPHA / 2])
        return float(low), float(high)


def mean_distribution(estimate: Estimate, rng: np.random.Generator) -> Array:
    """Compute (B,) values that a metric might take with other patients and other runs.

    The two deviations are those of `simultaneous_differences`, of one arm instead of a difference.
    """
    patients = (estimate.replicates - estimate.value) * dirichlet_correction(estimate.n_patients)
    patients *= np.sqrt(variance_uncertainty(rng, estimate.n_patients - 1, len(patients)))
    run_scale = variance_uncertainty(rng, estimate.degrees_of_freedom, len(patients))
    excess = np.clip(
        run_scale
        - patient_share_of_run_variance(estimate.run_residual, estimate.run_residual_replicates),
        0,
        None,
    )
    total: Array = estimate.value + patients + estimate.run_noise * np.sqrt(excess)
    return total


def estimate_metric(metric: PatientMetric, resampling: Resampling) -> Estimate | None:
    """Compute the metric over all patients and runs; None where it is not defined."""
    unit = np.ones((1, resampling.patients.shape[1]))
    top, bottom = metric.weighted_sums(unit)  # (1,R)
    if bottom.sum() == 0:
        return None
    value = float(top.sum() / bottom.sum())
    tops, bottoms = metric.weighted_sums(resampling.patients)  # (B,R)
    replicates = tops.sum(axis=1) / bottoms.sum(axis=1)
    slopes = (tops - replicates[:, None] * bottoms) / bottoms.sum(axis=1)[:, None]  # (B,R)
    # The mean over replicates differs from the value: pairs of slices of one patient count with the
    # square of the patient's weight, and calibration errors of small bins do not average out.
    replicates += value - replicates.mean()
    # The value's derivative by each run's weight.
    slope = (top - value * bottom)[0] / bottom.sum()  # (R,)
    return Estimate(
        value,
        replicates,
        run_noise=resampling.runs @ slope,
        run_residual=slope - resampling.fold_mean @ slope,
        run_residual_replicates=slopes - slopes @ resampling.fold_mean,
        n_patients=metric.count_patients(),
        degrees_of_freedom=resampling.degrees_of_freedom,
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


def simultaneous_differences(
    estimates: Mapping[str, Estimate], pairs: Sequence[ArmPair], resampling: Resampling
) -> dict[ArmPair, Difference]:
    """Compute single-step max-t intervals over a family of pairs (Westfall and Young 1993, 2.5).

    A replicate of a difference adds two deviations: that of other patients under the same runs, and
    that of other runs under the same patients (two-way clustering, Cameron, Gelbach and Miller
    2011). Without the second a lucky seed would pass for a lift. Each difference is divided by
    its own 95 % quantile; the family's critical value is the 95 % quantile of the largest such
    ratio in a replicate. An interval excludes 0 exactly where its adjusted p-value is at most .05.
    Differences that never vary (identical arms) are 0, [0, 0], 1.

    Variances from few patients or runs are uncertain, so every replicate rescales both deviations
    by sqrt(f / chi-squared with f degrees of freedom). Alone, either deviation is then Student's t,
    and together they are the Behrens-Fisher distribution (Fisher 1935), whose intervals err on the
    wide side. To weigh the degrees of freedom of both by their estimated sizes (Satterthwaite 1946)
    covers too little where two runs happen to agree. Runs also differ on the same patients because
    each network responds to each patient in its own way. The first deviation contains that part
    already, so it is subtracted from the second (the generalised interval of a variance component,
    Weerahandi 1993).

    The variance between runs is each difference's own, of seeds - 1 degrees of freedom a fold:
    networks that saw synthetic slices vary more than others, and an arm that never learnt does not
    vary at all, so that one variance for all arms is too small for the arm under test. The runs'
    deviations and both scalings are sampled for each pair independently, which is safe whatever
    their correlation (Sidak 1967): a few runs do not allow an estimate of it.

    Args:
        estimates: one an arm. With one run a fold the difference holds for these very networks
            only; a caller who claims more must reject it.
        pairs: (arm, reference).
        resampling: the replicates that `estimates` were computed with.
    """
    if not pairs:
        return {}
    arms = [(estimates[a], estimates[r]) for a, r in pairs]
    values = np.array([one.value - other.value for one, other in arms])
    rng = np.random.default_rng([resampling.seed, 1])
    patients, runs, variance = [], [], []
    for (one, other), value in zip(arms, values, strict=True):
        n_patients = min(one.n_patients, other.n_patients)
        degrees_of_freedom = min(one.degrees_of_freedom, other.degrees_of_freedom)
        deviation = (one.replicates - other.replicates - value) * dirichlet_correction(n_patients)
        run_deviation = rng.permuted(one.run_noise - other.run_noise)
        shared = patient_share_of_run_variance(
            one.run_residual - other.run_residual,
            one.run_residual_replicates - other.run_residual_replicates,
        )
        variance.append(np.var(deviation, ddof=1) + np.var(run_deviation) * max(1 - shared, 0))
        patients.append(
            deviation * np.sqrt(variance_uncertainty(rng, n_patients - 1, len(deviation)))
        )
        run_scale = variance_uncertainty(rng, degrees_of_freedom, len(run_deviation))
        runs.append(run_deviation * np.sqrt(np.clip(run_scale - shared, 0, None)))
    replicates = np.stack(patients) + np.stack(runs)  # (K,B)
    error = np.sqrt(variance)  # (K,)

    scale = np.quantile(np.abs(replicates), 1 - ALPHA, axis=1)
    varies = error > 1e-12
    scale = np.where(varies, scale, 1.0)
    largest = np.sort(np.max(np.abs(replicates) / scale[:, None], axis=0))  # (B,)
    count = len(largest)
    critical = largest[min(int(np.ceil((1 - ALPHA) * (count + 1))), count) - 1]
    half_widths = np.where(varies, critical * scale, 0.0)
    detectable = half_widths + norm.ppf(POWER) * error
    exceeding = count - np.searchsorted(largest, np.abs(values) / scale, side="left")
    smallest_p = 1 / (count + 1)
    p_values = np.where(
        varies, smallest_p * (1 + exceeding), np.where(values == 0, 1.0, smallest_p)
    )
    return {
        pair: Difference(
            float(value),
            float(value - half_width),
            float(value + half_width),
            float(p_value),
            float(detectable_lift),
        )
        for pair, value, half_width, p_value, detectable_lift in zip(
            pairs, values, half_widths, p_values, detectable, strict=True
        )
    }


def dirichlet_correction(patients: int) -> float:
    """Return the factor that makes deviations of Dirichlet weights unbiased.

    Their variance is (n - 1) / (n + 1) of s²/n.
    """
    return float(np.sqrt((patients + 1) / (patients - 1)))


def variance_uncertainty(rng: np.random.Generator, degrees_of_freedom: int, count: int) -> Array:
    """Sample (B,) factors by which a variance may exceed the estimated one.

    Ones without degrees of freedom, where nothing was estimated.
    """
    if degrees_of_freedom < 1:
        return np.ones(count)
    factors: Array = degrees_of_freedom / rng.chisquare(degrees_of_freedom, count)
    return factors


def patient_share_of_run_variance(residual: Array, residuals: Array) -> float:
    """Compute the share of the variance between runs that comes of their responses to patients.

    Args:
        residual: (R,) of an arm or of a difference, as in `Estimate.run_residual`.
        residuals: (B,R) the same for other patients.
    """
    total = float((residual**2).sum())
    patient_response = float(((residuals - residual) ** 2).sum(axis=1).mean())
    return patient_response / total if total else 0.0


def sign_flip_test(arm: PatientMetric, reference: PatientMetric, *, seed: int) -> float | None:
    """Compute the two-sided p-value of the sign-flip test on patients' differences.

    The test (Fisher 1935, section 21) is exact up to 14 patients and uses 16,384 random flips
    beyond. It assumes nothing of the shape of the differences, but holds for these trained networks
    only. None for a metric of which patients have no value of their own.
    """
    if not isinstance(arm, MeanMetric) or not isinstance(reference, MeanMetric):
        return None
    defined = (arm.count.sum(axis=0) > 0) & (reference.count.sum(axis=0) > 0)
    mean, reference_mean = (
        metric.total.sum(axis=0)[defined] / metric.count.sum(axis=0)[defined]
        for metric in (arm, reference)
    )
    if not defined.any() or np.allclose(mean, reference_mean):
        return 1.0
    test = permutation_test(
        (mean - reference_mean,),
        np.mean,
        permutation_type="samples",
        n_resamples=MAX_FLIPS,
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)
