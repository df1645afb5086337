"""Set-level measures: synthetic slices against unseen patients, and real slices against them."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.common.gate_requirements import CHANCE_PATIENTS, LEAST_OF_LABEL, CannotJudgeError
from tasks.gate.slice_features import SliceFeatures
from tasks.measures.patient_subsampling import (
    Groups,
    Subsample,
    interval,
    label_groups,
    null_range,
    null_splits,
    ratio_interval,
    subsamples,
)
from tasks.params.gate import Gate

Floats = NDArray[np.float64]
Bound = tuple[float | None, float | None]
Side = Literal["low", "high", "both"]

POINT_DRAWS = 20  # averaged into the figure, so that it does not depend on which images are chosen
NULL_DRAWS = 40  # splits of real patients
NO_CHANCE = (
    f"no range of chance to bound it by, which takes {CHANCE_PATIENTS} training and"
    f" {CHANCE_PATIENTS} validation patients; give it a number in gate.limits"
)
USABLE = (
    0.5  # share of subsamples that must give a figure; the mean of fewer does not describe the set
)


@dataclass(frozen=True)
class Sets:
    """Features of synthetic slices, of training patients and of validation patients."""

    synthetic: SliceFeatures
    train: SliceFeatures
    val: SliceFeatures


@dataclass(frozen=True)
class LimitRule:
    """Which end of a ratio is limited, and at what value; without a `bound`, by the null range."""

    side: Side
    bound: float | tuple[float, float] | None

    def limit(self, null: Bound | None) -> Bound | None:
        """Return (lowest, highest); an end without a limit is None."""
        if self.bound is None:
            return null
        if isinstance(self.bound, tuple):
            return self.bound
        return (self.bound, None) if self.side == "low" else (None, self.bound)


@dataclass(frozen=True)
class Measure:
    """A figure of the synthetic set (`value`) and the same figure of real patients (`baseline`).

    `ratio` = value / baseline with its interval `ci95`; `limit` = (lowest, highest) bounds the
    ratio, None for a measure that is only reported. 95 % of the ratios of real to real patients
    lie in `null95`. Of `draws` subsamples, `nan_draws` gave no figure and do not count.
    `not_measured` is the reason why the figure, or the limit it needs, could not be computed.
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
    draws: int = 0
    nan_draws: int = 0
    not_measured: str | None = None

    @property
    def holds(self) -> bool | None:
        """Whether the ratio is within the limit; None without a ratio or without a limit."""
        if self.limit is None or self.ratio is None:
            return None
        low, high = self.limit
        return (low is None or self.ratio >= low) and (high is None or self.ratio <= high)

    def as_json(self) -> dict[str, Any]:
        """Return the entry of `metrics.json`."""
        return {
            "value": rounded(self.value),
            "value_ci95": rounded_ends(self.value_ci95),
            "baseline": rounded(self.baseline),
            "ratio": rounded(self.ratio),
            "ci95": rounded_ends(self.ci95),
            "null95": rounded_ends(self.null95),
            "limit": rounded_ends(self.limit),
            "n": self.n,
            "patients": self.patients,
            "method": self.method,
            "draws": self.draws,
            "nan_draws": self.nan_draws,
            "not_measured": self.not_measured,
        }


# K figures of the synthetic slices of a subsample, and the same K of real ones.
Figure = Callable[[Sets, Subsample], tuple[Floats, Floats]]
# Why these sets give no figures; None where they do.
Missing = Callable[[Sets], str | None]


@dataclass(frozen=True)
class MeasureGroup:
    """Measures computed by one function: `names` with their rules (None: reported) and methods.

    `real` names the real slices of the baseline: `train` patients against the validation patients,
    or the `val` patients themselves. Without `ratio` the baseline may be 0. An expensive figure is
    computed from every `every`-th subsample. `missing` returns why there is no figure.
    """

    figure: Figure
    names: Mapping[str, tuple[LimitRule | None, str]]
    real: Literal["train", "val"]
    ratio: bool = True
    every: int = 1
    missing: Missing = lambda _: None


@dataclass(frozen=True)
class SubsampleSet:
    """All subsamples that figures are computed from; `null` by the real slices of the baseline."""

    whole: list[Subsample]
    halves: list[Subsample] = field(default_factory=list)
    null: dict[str, list[Subsample]] = field(default_factory=dict)


def rounded(value: float | None) -> float | None:
    """Round to six significant digits: the rest depends on the machine; None for no number."""
    return None if value is None or not np.isfinite(value) else float(f"{value:.6g}")


def rounded_ends(bounds: Bound | tuple[float, float] | None) -> list[float | None] | None:
    """Return both ends of an interval, rounded."""
    return None if bounds is None else [rounded(end) for end in bounds]


def compared_labels(sets: Sets) -> Groups:
    """Return the labels that sets are compared by: those with enough slices on every side.

    Raises:
        CannotJudgeError: when no label has enough.
    """
    sides = {"synthetic": sets.synthetic, "training": sets.train, "validation": sets.val}
    tables = [one.table for one in sides.values()]
    groups = label_groups(tables, least=LEAST_OF_LABEL)
    if not groups:
        counts = (
            f"{(one.table['label'] == label).sum()} {name} of label {label}"
            for label in sorted(set(sets.val.table["label"]))
            for name, one in sides.items()
        )
        raise CannotJudgeError(
            f"no label has {LEAST_OF_LABEL} slices on every side ({', '.join(counts)}); add"
            " slices, or raise slices.val_fraction"
        )
    return groups


def measure_sets(
    sets: Sets, measure_groups: list[MeasureGroup], config: Gate
) -> dict[str, Measure]:
    """Compute all measures, by the names they have in `metrics.json`.

    Raises:
        CannotJudgeError: when no label has enough slices on every side.
    """
    synthetic, train, val = (one.table for one in (sets.synthetic, sets.train, sets.val))
    seed, groups = config.seed, compared_labels(sets)
    patients = min(side["subject"].nunique() for side in (train, val))
    chances = NULL_DRAWS if patients >= CHANCE_PATIENTS else 0
    drawn = SubsampleSet(
        usable_subsamples(
            subsamples(
                synthetic, train, val, count=POINT_DRAWS, share=1.0, seed=seed, groups=groups
            )
        ),
        usable_subsamples(
            subsamples(
                synthetic, train, val, count=config.draws, share=0.5, seed=seed + 1, groups=groups
            )
        ),
        {
            "train": usable_subsamples(
                null_splits(train, val, count=chances, seed=seed + 2, groups=groups)
            ),
            "val": usable_subsamples(
                null_splits(val, None, count=chances, seed=seed + 3, groups=groups)
            ),
        },
    )
    if not drawn.whole:
        raise CannotJudgeError(
            "no two slices of one label on every side to compare: synthetic, training and"
            " validation; add patients or raise slices.val_fraction"
        )
    with ThreadPoolExecutor(config.threads) as pool:
        parts = pool.map(
            lambda measure_group: evaluate_measure_group(sets, measure_group, drawn), measure_groups
        )
        return {name: one for part in parts for name, one in part.items()}


def usable_subsamples(drawn: Iterable[Subsample]) -> list[Subsample]:
    """Return the subsamples with at least two slices: half of few patients may lack a label."""
    return [draw for draw in drawn if len(draw.reference) >= 2]


def evaluate_measure_group(
    sets: Sets, measure_group: MeasureGroup, drawn: SubsampleSet
) -> dict[str, Measure]:
    """Compute figures at equal n, intervals from half-sized subsamples, and the null range."""
    whole = compute_figures(sets, measure_group, drawn.whole)  # (draws, 2, K)
    halves = compute_figures(sets, measure_group, drawn.halves)
    null = compute_figures(
        Sets(sets.train if measure_group.real == "train" else sets.val, sets.train, sets.val),
        measure_group,
        drawn.null.get(measure_group.real, []) if measure_group.ratio else [],
    )
    draw = drawn.whole[0]
    found = {}
    for index, (name, (rule, method)) in enumerate(measure_group.names.items()):
        pairs = whole[:, :, index]
        finite = np.isfinite(pairs).all(axis=1)
        measured = len(pairs) > 0 and finite.mean() >= USABLE
        value, baseline = pairs[finite].mean(axis=0) if measured else (np.nan, np.nan)
        known = measure_group.ratio and measured and baseline > 0
        ratio = value / baseline if known else np.nan
        chance = null_range(
            ratios_of_pairs(null[:, :, index]),
            side=None if rule is None else rule.side,
            shrink=1.0
            if measure_group.real == "train"
            else np.sqrt(0.5),  # of half of the patients
        )
        limit = None if rule is None else rule.limit(chance)
        found[name] = Measure(
            value=float(value) if measured else None,
            value_ci95=interval(float(value), halves[:, 0, index]),
            baseline=float(baseline) if measured else None,
            ratio=float(ratio) if known else None,
            ci95=ratio_interval(float(ratio), ratios_of_pairs(halves[:, :, index]))
            if known
            else None,
            null95=chance,
            limit=limit,
            n=len(draw.reference),
            patients=int(sets.val.table["subject"].iloc[draw.reference].nunique()),
            method=method,
            draws=len(pairs),
            nan_draws=int((~finite).sum()),
        )
        if not measured:
            why = (
                measure_group.missing(sets)
                or f"{(~finite).sum()} of {len(pairs)} draws gave no figure"
            )
        elif rule is not None and not known:
            why = "the figure of real slices is 0, so that there is no ratio"
        elif rule is not None and limit is None:
            why = NO_CHANCE
        else:
            continue
        found[name] = replace(found[name], not_measured=why)
    return found


def compute_figures(sets: Sets, measure_group: MeasureGroup, drawn: list[Subsample]) -> Floats:
    """Compute figures (draws, 2, K) of every `every`-th subsample: synthetic, then real."""
    chosen = islice(drawn, 0, None, measure_group.every)
    rows = [np.stack(measure_group.figure(sets, draw)) for draw in chosen]
    return np.array(rows).reshape(-1, 2, len(measure_group.names))


def ratios_of_pairs(pairs: Floats) -> Floats:
    """Compute the ratios (draws,) of pairs (draws, 2)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = pairs[:, 0] / pairs[:, 1]
    return found
