"""Set-level measures: synthetic slices beside unseen patients, real ones beside the same."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.gate.described import Described
from tasks.measures.intervals import (
    Draw,
    draws,
    interval,
    null_range,
    ratio_interval,
    splits,
)
from tasks.params.gate import Gate
from tasks.stage import StageError

Floats = NDArray[np.float64]
Bound = tuple[float | None, float | None]
Side = Literal["low", "high", "both"]

POINT_DRAWS = 20  # averaged into the figure: which images are drawn should not matter
NULL_DRAWS = 40  # splits of real patients


@dataclass(frozen=True)
class Sets:
    """Synthetic slices, training patients and validation patients, described."""

    synthetic: Described
    train: Described
    val: Described


@dataclass(frozen=True)
class Rule:
    """On which side a ratio is bounded, and where; without a bound, by the null range."""

    side: Side
    bound: float | tuple[float, float] | None

    def limit(self, null: Bound | None) -> Bound | None:
        """(lowest, highest), None where it is open."""
        if self.bound is None:
            return null
        if isinstance(self.bound, tuple):
            return self.bound
        return (self.bound, None) if self.side == "low" else (None, self.bound)


@dataclass(frozen=True)
class Measure:
    """A figure of the synthetic set (`value`) beside the same of real patients (`baseline`).

    `ratio` = value / baseline with its interval `ci95`; `limit` bounds it: (lowest, highest), None
    where it is only reported. `null95` is where 95 % of ratios of real to real patients lie.
    """

    value: float | None
    value_ci95: tuple[float, float] | None
    baseline: float | None
    ratio: float | None
    ci95: tuple[float, float] | None
    null95: Bound | None
    limit: Bound | None
    n: int
    patients: int
    method: str

    @property
    def holds(self) -> bool:
        """Whether the ratio is within the limit; a figure that could not be had breaks none."""
        if self.limit is None or self.ratio is None:
            return True
        low, high = self.limit
        return (low is None or self.ratio >= low) and (high is None or self.ratio <= high)

    def as_json(self) -> dict[str, Any]:
        """As `metrics.json` holds it."""
        return {
            "value": rounded(self.value),
            "value_ci95": ends(self.value_ci95),
            "baseline": rounded(self.baseline),
            "ratio": rounded(self.ratio),
            "ci95": ends(self.ci95),
            "null95": ends(self.null95),
            "limit": ends(self.limit),
            "n": self.n,
            "patients": self.patients,
            "method": self.method,
        }


# K figures of the synthetic slices of a draw, and the same K of real ones.
Figure = Callable[[Sets, Draw], tuple[Floats, Floats]]


@dataclass(frozen=True)
class Family:
    """Measures that are had together: `names` with their rules (None: reported) and methods.

    `real` says what stands beside the synthetic slices: `train` patients against the validation
    ones, or the `val` patients themselves. Without `ratio` the baseline may be 0.
    Every `every`-th draw is used, where one is expensive.
    """

    figure: Figure
    names: Mapping[str, tuple[Rule | None, str]]
    real: Literal["train", "val"]
    ratio: bool = True
    every: int = 1


@dataclass(frozen=True)
class Drawn:
    """All draws that figures are taken from; `null` by what stands beside synthetic slices."""

    whole: list[Draw]
    halves: list[Draw] = field(default_factory=list)
    null: dict[str, list[Draw]] = field(default_factory=dict)


def rounded(value: float | None) -> float | None:
    """Six significant digits: the rest is rounding of this machine."""
    return None if value is None or not np.isfinite(value) else float(f"{value:.6g}")


def ends(bounds: Bound | tuple[float, float] | None) -> list[float | None] | None:
    """Both ends of an interval, rounded."""
    return None if bounds is None else [rounded(end) for end in bounds]


def measure(sets: Sets, families: list[Family], config: Gate) -> dict[str, Measure]:
    """All measures, named as in `metrics.json`."""
    synthetic, train, val = (one.table for one in (sets.synthetic, sets.train, sets.val))
    seed = config.seed
    drawn = Drawn(
        usable(draws(synthetic, train, val, count=POINT_DRAWS, share=1.0, seed=seed)),
        usable(draws(synthetic, train, val, count=config.draws, share=0.5, seed=seed + 1)),
        {
            "train": usable(splits(train, val, count=NULL_DRAWS, seed=seed + 2)),
            "val": usable(splits(val, None, count=NULL_DRAWS, seed=seed + 3)),
        },
    )
    if not drawn.whole:
        raise StageError(
            "no two slices of one label on every side to compare: synthetic, training and"
            " validation; add patients or raise val_fraction"
        )
    found: dict[str, Measure] = {}
    for family in families:
        found |= evaluate(sets, family, drawn)
    return found


def usable(drawn: Iterable[Draw]) -> list[Draw]:
    """Draws that can be compared: of few patients, half may lack a label on one side."""
    return [draw for draw in drawn if len(draw.reference) >= 2]


def evaluate(sets: Sets, family: Family, drawn: Drawn) -> dict[str, Measure]:
    """The figures at equal n, their intervals from half-sized draws, and what chance does."""
    whole = figures(sets, family, drawn.whole)  # (draws, 2, K)
    halves = figures(sets, family, drawn.halves)
    null = figures(
        Sets(sets.train if family.real == "train" else sets.val, sets.train, sets.val),
        family,
        drawn.null.get(family.real, []) if family.ratio else [],
    )
    draw = drawn.whole[0]
    found = {}
    for index, (name, (rule, method)) in enumerate(family.names.items()):
        value, baseline = whole[:, :, index].mean(axis=0)
        ratio = value / baseline if family.ratio and baseline > 0 else np.nan
        chance = null_range(
            quotients(null[:, :, index]),
            side=None if rule is None else rule.side,
            shrink=1.0 if family.real == "train" else np.sqrt(0.5),  # of half of the patients
        )
        known = bool(np.isfinite(ratio))
        found[name] = Measure(
            value=float(value) if np.isfinite(value) else None,
            value_ci95=interval(float(value), halves[:, 0, index]),
            baseline=float(baseline) if np.isfinite(baseline) else None,
            ratio=float(ratio) if known else None,
            ci95=ratio_interval(float(ratio), quotients(halves[:, :, index])) if known else None,
            null95=chance,
            limit=None if rule is None else rule.limit(chance),
            n=len(draw.reference),
            patients=int(sets.val.table["subject"].iloc[draw.reference].nunique()),
            method=method,
        )
    return found


def figures(sets: Sets, family: Family, drawn: list[Draw]) -> Floats:
    """Figures (draws, 2, K) of some of the draws: synthetic, then real."""
    chosen = islice(drawn, 0, None, family.every)
    rows = [np.stack(family.figure(sets, draw)) for draw in chosen]
    return np.array(rows).reshape(-1, 2, len(family.names))


def quotients(pairs: Floats) -> Floats:
    """Ratios (draws,) of pairs (draws, 2)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = pairs[:, 0] / pairs[:, 1]
    return found
