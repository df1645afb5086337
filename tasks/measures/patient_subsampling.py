"""Draw equal-sized subsamples by patient, and compute intervals from their figures.

Resampling patients with replacement repeats rows, which inflates a Fréchet distance, so every
subsample takes patients *without* replacement. Intervals use half of the patients: by the theory
of subsampling (Politis 1999, chapter 2) the spread of the half-sample figures around each other
equals that of the figure of the whole.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Ints = NDArray[np.intp]
Tables = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]
Groups = tuple[tuple[int, ...], ...]  # labels drawn as one; each group has equally many rows


@dataclass(frozen=True)
class Subsample:
    """Row positions of equal number: synthetic images, other real patients, the reference.

    `seed` is for random choices of a figure within the subsample. `groups` are the groups of labels
    that are balanced.
    """

    synthetic: Ints
    other: Ints
    reference: Ints
    seed: int = 0
    groups: Groups = ()


def label_groups(tables: Sequence[pd.DataFrame], *, least: int = 1) -> Groups:
    """Return the labels of which every table has at least `least` slices, each as its own group.

    When the tables share no label, because one of them has no known labels, all labels form one
    group. A label with fewer slices is left out: sets of a few slices differ by chance alone.
    """
    columns = [table["label"].to_numpy() for table in tables]
    shared = sorted(set.intersection(*(set(column.tolist()) for column in columns)))
    if not shared:
        groups: Groups = (tuple(sorted(set(np.concatenate(columns).tolist()))),)
    else:
        groups = tuple((label,) for label in shared)
    return tuple(
        group
        for group in groups
        if min(int(np.isin(column, group).sum()) for column in columns) >= least
    )


def subsamples(
    synthetic: pd.DataFrame,
    other: pd.DataFrame,
    reference: pd.DataFrame,
    *,
    count: int,
    share: float,
    seed: int,
    groups: Groups | None = None,
) -> Iterator[Subsample]:
    """Draw `count` subsamples: a `share` of the reference patients, as many others and images.

    The tables have a column `label`, those of real slices also `subject`. Each label has equally
    many rows in all three parts, as many as the scarcest part has, so that slices are compared and
    not the frequencies of labels. `groups` are the groups of labels; default: all that the tables
    share.
    """
    tables = (synthetic, other, reference)
    groups = label_groups(tables) if groups is None else groups
    rng = np.random.default_rng(seed)
    patients, other_patients = reference["subject"].unique(), other["subject"].unique()
    size = max(2, round(share * min(len(patients), len(other_patients))))
    for index in range(count):
        chosen = reference["subject"].isin(rng.permutation(patients)[:size]).to_numpy()
        against = other["subject"].isin(rng.permutation(other_patients)[:size]).to_numpy()
        every = np.ones(len(synthetic), dtype=bool)
        yield Subsample(
            *draw_balanced(tables, (every, against, chosen), rng, groups=groups), index, groups
        )


def null_splits(
    pool: pd.DataFrame,
    reference: pd.DataFrame | None,
    *,
    count: int,
    seed: int,
    groups: Groups | None = None,
) -> Iterator[Subsample]:
    """Draw `count` subsamples with real patients as the synthetic images, for the null range.

    One half of the patients of `pool` takes the place of the synthetic images, the other half that
    of the other real patients; neither half is larger than the reference. Without a `reference`,
    the other half is also the reference.
    """
    rng = np.random.default_rng(seed)
    patients = pool["subject"].unique()
    size = len(patients) // 2
    if reference is not None:
        size = min(size, reference["subject"].nunique())
    if size < 2:
        return
    for index in range(count):
        order = rng.permutation(patients)
        first, second = (
            pool["subject"].isin(part).to_numpy() for part in (order[:size], order[size : 2 * size])
        )
        if reference is None:
            tables, allowed = (pool, pool, pool), (first, second, second)
        else:
            known = rng.permutation(reference["subject"].unique())[:size]
            chosen = reference["subject"].isin(known).to_numpy()
            tables, allowed = (pool, pool, reference), (first, second, chosen)
        labels = label_groups(tables) if groups is None else groups
        yield Subsample(*draw_balanced(tables, allowed, rng, groups=labels), index, labels)


def thin_subsample(draw: Subsample, tables: Tables, *, share: float, seed: int) -> Subsample:
    """Draw a share of a subsample's patients, and as many of its images, balanced by label.

    `tables` are those of the synthetic, the other and the reference slices.
    """
    rng = np.random.default_rng([seed, draw.seed])
    allowed = []
    for table, rows in zip(tables, (draw.synthetic, draw.other, draw.reference), strict=True):
        inside = np.zeros(len(table), dtype=bool)
        inside[rows] = True
        if "subject" in table:
            patients = table["subject"][inside].unique()
            chosen_patients = rng.permutation(patients)[: max(2, round(share * len(patients)))]
            inside &= table["subject"].isin(chosen_patients).to_numpy()
        allowed.append(inside)
    first, second, third = allowed
    chosen = draw_balanced(tables, (first, second, third), rng, groups=draw.groups)
    return Subsample(*chosen, draw.seed, draw.groups)


def draw_balanced(
    tables: Tables,
    allowed: tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]],
    rng: np.random.Generator,
    *,
    groups: Groups,
) -> tuple[Ints, Ints, Ints]:
    """Draw rows of each table, equally many of each group of labels from all tables."""
    pools = [
        [np.flatnonzero(ok & np.isin(table["label"].to_numpy(), group)) for group in groups]
        for table, ok in zip(tables, allowed, strict=True)
    ]
    counts = [min(map(len, same)) for same in zip(*pools, strict=True)]
    first, second, third = (
        np.sort(
            np.concatenate(
                [rng.permutation(p)[:n] for p, n in zip(pool, counts, strict=True)] or [np.empty(0)]
            ).astype(np.intp)
        )
        for pool in pools
    )
    return first, second, third


# Few patients make the half-sample spread too small: without this factor the interval of a Fréchet
# ratio of 16 patients covered the truth in 84 of 100 simulated cohorts.
INTERVAL_WIDENING = 1.4
FEWEST = 10  # subsamples, at least, for an interval


def interval(point: float, halves: NDArray[np.float64]) -> tuple[float, float] | None:
    """Compute the 95 % interval of a figure from half-sized subsamples, centred on `point`.

    The lower end is at least 0 for a figure that is negative in no subsample.
    """
    usable = halves[np.isfinite(halves)]
    if len(usable) < FEWEST or not np.isfinite(point):
        return None
    low, high = point + INTERVAL_WIDENING * np.quantile(usable - usable.mean(), [0.025, 0.975])
    return float(low if usable.min() < 0 else max(low, 0.0)), float(high)


def ratio_interval(point: float, halves: NDArray[np.float64]) -> tuple[float, float] | None:
    """Compute the 95 % interval of a positive ratio from the ratios of half-sized subsamples.

    It is computed on the log scale and centred on `point`, because the figures of half-sized
    subsamples are biased while their spread is not.
    """
    usable = halves[np.isfinite(halves) & (halves > 0)]
    if len(usable) < FEWEST or not point > 0:
        return None
    logs = np.log(usable)
    low, high = INTERVAL_WIDENING * np.quantile(logs - logs.mean(), [0.025, 0.975])
    return float(point * np.exp(low)), float(point * np.exp(high))


def null_range(
    ratios: NDArray[np.float64], *, side: str | None, shrink: float
) -> tuple[float | None, float | None] | None:
    """Compute the range that holds 95 % of the ratios of real patients to real patients.

    Args:
        ratios: of the subsamples of `null_splits`.
        side: `low` or `high` for that end of the range alone, else the middle 95 %.
        shrink: factor on the logarithms, for splits with fewer patients than the sets compared.
    """
    usable = ratios[np.isfinite(ratios) & (ratios > 0)]
    if len(usable) < FEWEST:
        return None
    tail = 0.05 if side in ("low", "high") else 0.025
    low, high = np.exp(shrink * np.quantile(np.log(usable), [tail, 1 - tail]))
    return (
        None if side == "high" else float(low),
        None if side == "low" else float(high),
    )
