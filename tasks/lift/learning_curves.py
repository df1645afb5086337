"""Several experiments on the same test patients: sizes of the training set, and draws of it.

A draw is another choice of training patients with its own generator and network seed, so it is
what the spread between runs is counted by: one draw would hide the largest part of it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.isotonic import isotonic_regression

from tasks.lift.bootstrap import (
    ALPHA,
    Difference,
    Estimate,
    Pair,
    Resampling,
    estimate,
    mean_distribution,
    simultaneous,
)  # fmt: skip
from tasks.lift.claim import claim, claim_contrasts
from tasks.lift.patient_metrics import Array, Axes, Measure
from tasks.schemas.lift import Claim

Size = int
Estimates = dict[Size, dict[str, Estimate]]


def name(size: Size, arm: str) -> str:
    """An arm at a size, as one name in a family of all sizes."""
    return f"{size}|{arm}"


def by_draw(table: pd.DataFrame, draw: int) -> pd.DataFrame:
    """An experiment's table with its draw in the seed's place.

    Raises:
        ValueError: when the experiment has several seeds; each draw has one of its own.
    """
    if table["seed"].nunique() > 1:
        raise ValueError(f"draw {draw} has several seeds; give each draw one network seed")
    return table.assign(seed=draw)


def axes_of(tables: Mapping[str, pd.DataFrame]) -> Axes:
    """The draws and test patients that all arms of a size share.

    Raises:
        ValueError: naming the arm that has others.
    """
    known = {arm: Axes.of(table) for arm, table in tables.items()}
    first, expected = next(iter(known.items()))
    for arm, axes in known.items():
        if axes != expected:
            raise ValueError(f"{arm} has other draws or test patients than {first}")
    return expected


def estimates_of(
    measures: Mapping[Size, Mapping[str, Measure]],
    axes: Mapping[Size, Axes],
    *,
    draws: int,
    seed: int,
) -> tuple[Estimates, Resampling]:
    """Every arm's estimate at every size, all under the same resampled test patients.

    Args:
        measures: of each size and arm.
        axes: of each size; the patients must be the same.
        draws: bootstrap draws.
        seed: of these.

    Returns:
        The estimates, and the resampling of the smallest size, whose test patients all share.

    Raises:
        ValueError: when sizes were tested on different patients.
    """
    if len({tuple(one.patients) for one in axes.values()}) > 1:
        raise ValueError("sizes were tested on different patients")
    own = {
        size: Resampling.draw(one, draws=draws, seed=seed + position)
        for position, (size, one) in enumerate(sorted(axes.items()))
    }
    first = next(iter(own.values()))
    shared = {size: replace(one, patients=first.patients) for size, one in own.items()}
    found: Estimates = {}
    for size, arms in measures.items():
        known = {arm: estimate(measure, shared[size]) for arm, measure in arms.items()}
        found[size] = {arm: one for arm, one in known.items() if one is not None}
    return found, first


def contrasts(
    estimates: Estimates,
    resampling: Resampling,
    sizes: Sequence[Size],
    of: Callable[[Sequence[str]], list[Pair]] = claim_contrasts,
) -> dict[Size, dict[Pair, Difference]]:
    """A family of contrasts, simultaneous over all of the sizes: by default that of the claims.

    The spread between draws is each contrast's own: an arm with synthetic slices has a new
    generator in each draw, and spreads more than an arm without. Sizes may have other numbers of
    draws, two at least.

    Raises:
        ValueError: naming a contrast of one draw, which tells nothing of others.
    """
    flat = {name(s, arm): one for s in sizes for arm, one in estimates[s].items()}
    pairs = {s: of(list(estimates[s])) for s in sizes}
    named = [(name(s, a), name(s, r)) for s in sizes for a, r in pairs[s]]
    if single := [pair for pair in named if min(flat[arm].freedom for arm in pair) < 1]:
        raise ValueError(f"{single[0]} have one run only")
    found = simultaneous(flat, named, resampling)
    return {s: {(a, r): found[name(s, a), name(s, r)] for a, r in pairs[s]} for s in sizes}


def claims(
    estimates: Estimates, found: Mapping[Size, Mapping[Pair, Difference]]
) -> dict[Size, Claim]:
    """What may be claimed at each size."""
    return {size: claim(list(estimates[size]), pairs) for size, pairs in found.items()}


def clip_to_metric_range(one: Estimate, resampling: Resampling, *, seed: int) -> Array:
    """(B,) what an arm's mean might have been with other test patients and other draws.

    Raises:
        ValueError: when there is one draw only, which tells nothing of others.
    """
    if one.freedom < 1:
        raise ValueError("one draw tells nothing of others")
    return mean_distribution(one, np.random.default_rng([resampling.seed, seed]))


def equivalent_patients(
    curve: Mapping[Size, Estimate], at: Estimate, resampling: Resampling
) -> tuple[float, tuple[float, float]]:
    """How many real patients with classical augmentation an arm's mean is worth.

    Read off the learning curve of `real+classical`, made monotone (isotonic regression) and
    linear in log n between its sizes. Beyond its ends it says no more than the end: a worth equal
    to the largest size means that many or more.

    Args:
        curve: the estimates of `real+classical` at each size.
        at: the arm's.
        resampling: as `estimates_of` returned it.

    Returns:
        Patients, with a 95 % interval over test patients and draws.
    """
    sizes = np.array(sorted(curve), dtype=float)
    heights = np.array([curve[int(size)].value for size in sizes])
    others = np.stack(
        [
            clip_to_metric_range(curve[int(size)], resampling, seed=k)
            for k, size in enumerate(sizes)
        ],
        axis=1,
    )  # (B, sizes)
    reached = clip_to_metric_range(at, resampling, seed=len(sizes))
    drawn = [patients_for(float(v), sizes, row) for v, row in zip(reached, others, strict=True)]
    low, high = np.nanquantile(drawn, [ALPHA / 2, 1 - ALPHA / 2])
    return patients_for(at.value, sizes, heights), (float(low), float(high))


def patients_for(value: float, sizes: NDArray[np.float64], heights: NDArray[np.float64]) -> float:
    """The size at which a monotone curve reaches a value, between its ends.

    A plateau is reached where it begins and left where it ends: a value above it lies between
    its last size and the next one.
    """
    if not np.isfinite(value) or not np.isfinite(heights).all():
        return float("nan")
    rising = isotonic_regression(heights)
    after = int(np.searchsorted(rising, value, side="left"))  # the first size that reaches it
    if after == len(sizes):
        return float(sizes[-1])
    if after == 0 or rising[after] == value:
        return float(sizes[after])
    below, above = rising[after - 1], rising[after]
    share = (value - below) / (above - below)
    return float(sizes[after - 1] * (sizes[after] / sizes[after - 1]) ** share)
