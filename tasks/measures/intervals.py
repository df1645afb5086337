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
    """Row positions of equal number: synthetic images, other real patients, the reference."""

    synthetic: Ints
    other: Ints
    reference: Ints


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
    for _ in range(count):
        chosen = reference["subject"].isin(rng.permutation(people)[:size]).to_numpy()
        against = other["subject"].isin(rng.permutation(strangers)[:size]).to_numpy()
        tables = (synthetic, other, reference)
        rows = balanced(tables, (np.ones(len(synthetic), dtype=bool), against, chosen), rng)
        yield Draw(*rows)


def balanced(
    tables: tuple[pd.DataFrame, ...],
    allowed: tuple[NDArray[np.bool_], ...],
    rng: np.random.Generator,
) -> list[Ints]:
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
    return [
        np.sort(
            np.concatenate(
                [rng.permutation(p)[:n] for p, n in zip(pool, counts, strict=True)]
            ).astype(np.intp)
        )
        for pool in pools
    ]


# Few patients make the half-sample spread too small: without this factor the interval of a Fréchet
# ratio of 16 patients covered the truth in 84 of 100 simulated cohorts.
WIDEN = 1.4


def ratio_interval(point: float, halves: NDArray[np.float64]) -> tuple[float, float] | None:
    """95 % interval of a positive ratio from the ratios of half-sized draws.

    On the log scale, centred on `point`: half-sized draws are biased, their spread is not.
    """
    usable = halves[np.isfinite(halves) & (halves > 0)]
    if len(usable) < 10 or not point > 0:
        return None
    logs = np.log(usable)
    low, high = WIDEN * np.quantile(logs - logs.mean(), [0.025, 0.975])
    return float(point * np.exp(low)), float(point * np.exp(high))
