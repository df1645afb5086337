"""Equal-sized draws by patient, and intervals from them.

Resampling patients with replacement repeats rows, which inflates a Fréchet distance; so every draw
takes patients *without* replacement. Half of them: by the theory of subsampling (Politis 1999,
chapter 2) the spread of the half-sample figures around each other is then that of the whole.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Ints = NDArray[np.intp]


@dataclass(frozen=True)
class Draw:
    """Row positions of equal number: synthetic images, other real patients, the reference.

    `seed` is for what a figure draws within the draw.
    """

    synthetic: Ints
    other: Ints
    reference: Ints
    seed: int = 0


def draws(
    synthetic: pd.DataFrame,
    other: pd.DataFrame,
    reference: pd.DataFrame,
    *,
    count: int,
    share: float,
    seed: int,
) -> Iterator[Draw]:
    """`count` draws with `share` of the reference's patients, as many others, as many images.

    The tables have a column `label`, the real ones `subject` too. Each label is drawn equally
    often on all sides, in the proportion of the reference, so that only the slices are compared
    and not how many of each were asked for.
    """
    rng = np.random.default_rng(seed)
    people, strangers = reference["subject"].unique(), other["subject"].unique()
    size = max(2, round(share * min(len(people), len(strangers))))
    for index in range(count):
        chosen = reference["subject"].isin(rng.permutation(people)[:size]).to_numpy()
        against = other["subject"].isin(rng.permutation(strangers)[:size]).to_numpy()
        tables = (synthetic, other, reference)
        every = np.ones(len(synthetic), dtype=bool)
        yield Draw(*balanced(tables, (every, against, chosen), rng), index)


def splits(
    pool: pd.DataFrame, reference: pd.DataFrame | None, *, count: int, seed: int
) -> Iterator[Draw]:
    """`count` draws with real patients in the place of synthetic images: what chance does.

    One half of the patients of `pool` stands for the images, the other half for the other real
    patients, both of them as many as the reference has, if so many are there. Without a
    `reference`, the other half is that too.
    """
    rng = np.random.default_rng(seed)
    people = pool["subject"].unique()
    size = len(people) // 2
    if reference is not None:
        size = min(size, reference["subject"].nunique())
    if size < 2:
        return
    for index in range(count):
        order = rng.permutation(people)
        first, second = (
            pool["subject"].isin(part).to_numpy() for part in (order[:size], order[size : 2 * size])
        )
        if reference is None:
            tables, allowed = (pool, pool, pool), (first, second, second)
        else:
            known = rng.permutation(reference["subject"].unique())[:size]
            chosen = reference["subject"].isin(known).to_numpy()
            tables, allowed = (pool, pool, reference), (first, second, chosen)
        yield Draw(*balanced(tables, allowed, rng), index)


def thinned(
    draw: Draw, tables: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame], *, share: float, seed: int
) -> Draw:
    """A share of the patients of a draw, and as many of its images; each label as in `draws`.

    `tables` are those of the synthetic, the other and the reference slices.
    """
    rng = np.random.default_rng([seed, draw.seed])
    allowed = []
    for table, rows in zip(tables, (draw.synthetic, draw.other, draw.reference), strict=True):
        inside = np.zeros(len(table), dtype=bool)
        inside[rows] = True
        if "subject" in table:
            people = table["subject"][inside].unique()
            kept = rng.permutation(people)[: max(2, round(share * len(people)))]
            inside &= table["subject"].isin(kept).to_numpy()
        allowed.append(inside)
    first, second, third = allowed
    return Draw(*balanced(tables, (first, second, third), rng), draw.seed)


def balanced(
    tables: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame],
    allowed: tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]],
    rng: np.random.Generator,
) -> tuple[Ints, Ints, Ints]:
    """Rows of each table, equally many of each label, in the proportion of the last one."""
    labels = [table["label"].to_numpy() for table in tables]
    shared = sorted(set.intersection(*(set(column) for column in labels)))
    groups = [[value] for value in shared] or [sorted({*np.concatenate(labels)})]
    pools = [
        [np.flatnonzero(ok & np.isin(column, group)) for group in groups]
        for column, ok in zip(labels, allowed, strict=True)
    ]
    wanted = np.array([len(pool) for pool in pools[-1]])
    scale = min(
        [1.0]
        + [
            len(pool[index]) / wanted[index]
            for pool in pools
            for index in range(len(groups))
            if wanted[index]
        ]
    )
    counts = np.floor(wanted * scale + 1e-9).astype(int)
    first, second, third = (
        np.sort(
            np.concatenate(
                [rng.permutation(p)[:n] for p, n in zip(pool, counts, strict=True)]
            ).astype(np.intp)
        )
        for pool in pools
    )
    return first, second, third


# Few patients make the half-sample spread too small: without this factor the interval of a Fréchet
# ratio of 16 patients covered the truth in 84 of 100 simulated cohorts.
WIDEN = 1.4
FEWEST = 10  # draws, below which nothing is said


def interval(point: float, halves: NDArray[np.float64]) -> tuple[float, float] | None:
    """95 % interval of any figure from those of half-sized draws, centred on `point`.

    A figure that is never negative in them has no negative end either.
    """
    usable = halves[np.isfinite(halves)]
    if len(usable) < FEWEST or not np.isfinite(point):
        return None
    low, high = point + WIDEN * np.quantile(usable - usable.mean(), [0.025, 0.975])
    return float(low if usable.min() < 0 else max(low, 0.0)), float(high)


def ratio_interval(point: float, halves: NDArray[np.float64]) -> tuple[float, float] | None:
    """95 % interval of a positive ratio from the ratios of half-sized draws.

    On the log scale, centred on `point`: half-sized draws are biased, their spread is not.
    """
    usable = halves[np.isfinite(halves) & (halves > 0)]
    if len(usable) < FEWEST or not point > 0:
        return None
    logs = np.log(usable)
    low, high = WIDEN * np.quantile(logs - logs.mean(), [0.025, 0.975])
    return float(point * np.exp(low)), float(point * np.exp(high))


def null_range(
    ratios: NDArray[np.float64], *, side: str | None, shrink: float
) -> tuple[float | None, float | None] | None:
    """Where 95 % of the ratios of real patients to real patients lie.

    Args:
        ratios: from `splits`.
        side: `low` or `high` for the bound on that side alone, else the middle 95 %.
        shrink: factor on the logarithms, for splits with fewer patients than what is judged.
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
