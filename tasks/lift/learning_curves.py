"""Compare experiments on the same test patients: sizes of the training set, and patient draws.

A draw is another choice of training patients with its own generator and network seed. It takes
the place of a run in the variance between runs: one draw would hide the largest part of it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from tasks.lift.bootstrap import (
    ALPHA,
    ArmPair,
    Difference,
    Estimate,
    Resampling,
    estimate_metric,
    mean_distribution,
    simultaneous_differences,
)  # fmt: skip
from tasks.lift.claim import claim_contrasts, decide_claim
from tasks.lift.patient_metrics import Array, PatientMetric, RunPatientAxes
from tasks.schemas.lift import Claim

Size = int
Estimates = dict[Size, dict[str, Estimate]]


def size_and_arm(size: Size, arm: str) -> str:
    """Join a size and an arm to one name, for a family over all sizes."""
    return f"{size}|{arm}"


def use_draw_as_seed(table: pd.DataFrame, draw: int) -> pd.DataFrame:
    """Put the draw of an experiment into the seed column of its table.

    Raises:
        ValueError: the experiment has several seeds; each draw has one of its own.
    """
    if table["seed"].nunique() > 1:
        raise ValueError(f"draw {draw} has several seeds; give each draw one network seed")
    return table.assign(seed=draw)


def common_axes(tables: Mapping[str, pd.DataFrame]) -> RunPatientAxes:
    """Return the draws and test patients that all arms of a size share.

    Raises:
        ValueError: naming the arm that has others.
    """
    axes_by_arm = {arm: RunPatientAxes.from_table(table) for arm, table in tables.items()}
    first, expected = next(iter(axes_by_arm.items()))
    for arm, axes in axes_by_arm.items():
        if axes != expected:
            raise ValueError(f"{arm} has other draws or test patients than {first}")
    return expected


def estimate_curves(
    metrics: Mapping[Size, Mapping[str, PatientMetric]],
    axes: Mapping[Size, RunPatientAxes],
    *,
    draws: int,
    seed: int,
) -> tuple[Estimates, Resampling]:
    """Estimate every arm at every size, all with the same resampled test patients.

    Args:
        metrics: of each size and arm.
        axes: of each size; the patients must be the same.
        draws: bootstrap replicates.
        seed: of these.

    Returns:
        The estimates, and the resampling of the smallest size, whose test patients all share.

    Raises:
        ValueError: sizes were tested on different patients.
    """
    if len({tuple(size_axes.patients) for size_axes in axes.values()}) > 1:
        raise ValueError("sizes were tested on different patients")
    resamplings = {
        size: Resampling.sample_weights(size_axes, replicates=draws, seed=seed + position)
        for position, (size, size_axes) in enumerate(sorted(axes.items()))
    }
    first = next(iter(resamplings.values()))
    shared = {
        size: replace(resampling, patients=first.patients)
        for size, resampling in resamplings.items()
    }
    estimates: Estimates = {}
    for size, arms in metrics.items():
        of_size = {arm: estimate_metric(metric, shared[size]) for arm, metric in arms.items()}
        estimates[size] = {
            arm: estimate for arm, estimate in of_size.items() if estimate is not None
        }
    return estimates, first


def contrasts_by_size(
    estimates: Estimates,
    resampling: Resampling,
    sizes: Sequence[Size],
    pairs_of: Callable[[Sequence[str]], list[ArmPair]] = claim_contrasts,
) -> dict[Size, dict[ArmPair, Difference]]:
    """Compute contrasts that are simultaneous over all the sizes: by default those of the claims.

    The variance between draws is each contrast's own: an arm with synthetic slices has a new
    generator in each draw, and varies more than an arm without. Sizes may have other numbers of
    draws, two at least.

    Raises:
        ValueError: naming a contrast of one draw, which gives no variance between draws.
    """
    flat = {
        size_and_arm(size, arm): estimate
        for size in sizes
        for arm, estimate in estimates[size].items()
    }
    pairs = {size: pairs_of(list(estimates[size])) for size in sizes}
    pair_names = [
        (size_and_arm(size, arm), size_and_arm(size, reference))
        for size in sizes
        for arm, reference in pairs[size]
    ]
    if single := [
        pair for pair in pair_names if min(flat[arm].degrees_of_freedom for arm in pair) < 1
    ]:
        raise ValueError(f"{single[0]} have one run only")
    differences = simultaneous_differences(flat, pair_names, resampling)
    return {
        size: {
            (arm, reference): differences[size_and_arm(size, arm), size_and_arm(size, reference)]
            for arm, reference in pairs[size]
        }
        for size in sizes
    }


def claims_by_size(
    estimates: Estimates, contrasts: Mapping[Size, Mapping[ArmPair, Difference]]
) -> dict[Size, Claim]:
    """Decide the claim at each size."""
    return {size: decide_claim(list(estimates[size]), pairs) for size, pairs in contrasts.items()}


def arm_mean_distribution(estimate: Estimate, resampling: Resampling, *, seed: int) -> Array:
    """Compute (B,) means that an arm might have with other test patients and other draws.

    Raises:
        ValueError: there is one draw only, which gives no variance between draws.
    """
    if estimate.degrees_of_freedom < 1:
        raise ValueError("one draw tells nothing of others")
    return mean_distribution(estimate, np.random.default_rng([resampling.seed, seed]))


def equivalent_patients(
    curve: Mapping[Size, Estimate], at: Estimate, resampling: Resampling
) -> tuple[float, tuple[float, float]]:
    """Compute how many real patients with classical augmentation an arm's mean is worth.

    The number is the inverse of the learning curve of `real+classical`, made monotone (isotonic
    regression) and linear in log n between its sizes. Beyond its ends it is the end: a worth equal
    to the largest size means that many or more.

    Args:
        curve: the estimates of `real+classical` at each size.
        at: the arm's.
        resampling: as returned by `estimate_curves`.

    Returns:
        Patients, with a 95 % interval over test patients and draws.
    """
    sizes = np.array(sorted(curve), dtype=float)
    heights = np.array([curve[int(size)].value for size in sizes])
    curve_replicates = np.stack(
        [
            arm_mean_distribution(curve[int(size)], resampling, seed=k)
            for k, size in enumerate(sizes)
        ],
        axis=1,
    )  # (B, sizes)
    arm_replicates = arm_mean_distribution(at, resampling, seed=len(sizes))
    patients = [
        patients_at_value(float(v), sizes, row)
        for v, row in zip(arm_replicates, curve_replicates, strict=True)
    ]
    low, high = np.nanquantile(patients, [ALPHA / 2, 1 - ALPHA / 2])
    return patients_at_value(at.value, sizes, heights), (float(low), float(high))


def patients_at_value(
    value: float, sizes: NDArray[np.float64], heights: NDArray[np.float64]
) -> float:
    """Find the size at which a monotone curve reaches a value, between its ends.

    A plateau is reached where it begins and left where it ends: a value above it lies between
    its last size and the next one.
    """
    if not np.isfinite(value) or not np.isfinite(heights).all():
        return float("nan")
    rising = isotonic_regression(heights).x
    after = int(np.searchsorted(rising, value, side="left"))  # the first size that reaches it
    if after == len(sizes):
        return float(sizes[-1])
    if after == 0 or rising[after] == value:
        return float(sizes[after])
    below, above = rising[after - 1], rising[after]
    share = (value - below) / (above - below)
    return float(sizes[after - 1] * (sizes[after] / sizes[after - 1]) ** share)
