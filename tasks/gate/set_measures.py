"""Set-level measures: synthetic slices against unseen patients, and real slices against them."""

import math
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.common.gate_requirements import LEAST_OF_LABEL, NULL_PATIENTS, CannotJudgeError
from tasks.gate.slice_features import SliceFeatures
from tasks.gate.unmeasured_causes import NO_NULL_RANGE, Cause, NotMeasured
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
Limit = tuple[float | None, float | None]  # lowest, highest
LimitedEnd = Literal["low", "high", "both"]
LimitStatus = Literal["within", "uncertain", "outside"]

POINT_SUBSAMPLES = (
    20  # averaged into the figure, so that it does not depend on which images are chosen
)
NULL_SPLITS = 40  # splits of real patients
Z95 = 1.959964  # standard errors from the middle to the end of a 95 % interval
MOST_LOG_ERROR = math.log(1.5)  # a limit that is missed by more rejects, however wide the interval
USABLE = 0.5  # least share of subsamples with a figure; the mean of fewer does not describe a set


@dataclass(frozen=True)
class Sets:
    """Features of synthetic slices, of training patients and of validation patients."""

    synthetic: SliceFeatures
    train: SliceFeatures
    val: SliceFeatures

    def by_name(self) -> dict[str, SliceFeatures]:
        """Return the three sets by their names in messages."""
        return {"synthetic": self.synthetic, "training": self.train, "validation": self.val}


@dataclass(frozen=True)
class LimitRule:
    """Which end of a ratio is limited, and at what value; without a value, by the null range.

    With `beyond_chance` the measure counts only where real patients keep the limit themselves.
    """

    end: LimitedEnd
    value: float | tuple[float, float] | None
    beyond_chance: bool = False

    def limit(self, null95: Limit | None) -> Limit | None:
        """Return (lowest, highest); an end without a limit is None."""
        if self.value is None:
            return null95
        if isinstance(self.value, tuple):
            return self.value
        return (self.value, None) if self.end == "low" else (None, self.value)

    def missed_by_chance(self, null95: Limit | None) -> str:
        """Say where real patients lie who miss the limit; empty where they keep it."""
        limit = self.limit(null95)
        if not self.beyond_chance or null95 is None or limit is None:
            return ""
        (low, high), (null_low, null_high) = limit, null95
        if low is not None and null_low is not None and null_low < low:
            return f"as low as {null_low:.2g} times that of others (limit {low:g})"
        if high is not None and null_high is not None and null_high > high:
            return f"as high as {null_high:.2g} times that of others (limit {high:g})"
        return ""


@dataclass(frozen=True)
class Measure:
    """A figure of the synthetic set (`value`) and the same figure of real patients (`baseline`).

    `ratio` = value / baseline with its interval `ci95`; `limit` = (lowest, highest) of
    the ratio, None for a measure that is only reported. 95 % of the ratios of real to real patients
    lie in `null95`. Of `draws` subsamples, `nan_draws` gave no figure and do not count.
    `not_measured` is the reason why the figure, or the limit it needs, could not be computed.
    """

    value: float | None
    value_ci95: tuple[float, float] | None
    baseline: float | None
    ratio: float | None
    ci95: tuple[float, float] | None
    null95: Limit | None
    limit: Limit | None
    n: int
    patients: int
    method: str
    draws: int = 0
    nan_draws: int = 0
    not_measured: NotMeasured | None = None

    @property
    def log_error(self) -> float:
        """The standard error of the ratio's logarithm, by its interval; 0 where there is none."""
        if not self.ratio or self.ci95 is None:
            return 0.0
        low, high = self.ci95
        if low > 0:
            error = math.log(high / low) / (2 * Z95)
        else:
            error = math.log(max(high, self.ratio) / self.ratio) / Z95
        return min(error, MOST_LOG_ERROR)

    @property
    def status(self) -> LimitStatus | None:
        """Where the ratio lies beside its limit; None without a ratio or without a limit.

        `uncertain` within a standard error of the limit, on either side: other validation patients
        of the same kind could have put it on the other one.
        """
        if self.limit is None or self.ratio is None:
            return None
        low, high = self.limit
        tolerance = math.exp(self.log_error)
        margin = min(  # factor to the nearest end of the limit; below 1 outside
            math.inf if low is None else math.inf if low <= 0 else self.ratio / low,
            math.inf if high is None else high / self.ratio if self.ratio > 0 else math.inf,
        )
        if margin < 1 / tolerance:
            return "outside"
        return "within" if margin >= tolerance else "uncertain"

    @property
    def meets_limit(self) -> bool | None:
        """Whether the ratio is not outside its limit; None without a ratio or a limit."""
        return None if self.status is None else self.status != "outside"

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
            "status": self.status,
            "n": self.n,
            "patients": self.patients,
            "method": self.method,
            "draws": self.draws,
            "nan_draws": self.nan_draws,
            "not_measured": self.not_measured.why if self.not_measured else None,
        }


# K figures of the synthetic slices of a subsample, and the same K of real ones.
Figure = Callable[[Sets, Subsample], tuple[Floats, Floats]]
# Why these sets give no figures; None where they do.
Missing = Callable[[Sets], NotMeasured | None]


@dataclass(frozen=True)
class MeasureGroup:
    """Measures computed by one function: `names` with their rules (None: reported) and methods.

    `real` names the real slices of the baseline: `train` patients against the validation patients,
    or the `val` patients themselves. Without `has_ratio` the baseline may be 0. Only every
    `subsample_stride`-th subsample is used: more than 1 for an expensive figure. `missing` returns
    why there is no figure.
    """

    figure: Figure
    names: Mapping[str, tuple[LimitRule | None, str]]
    real: Literal["train", "val"]
    has_ratio: bool = True
    subsample_stride: int = 1
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


def rounded_ends(ends: Limit | tuple[float, float] | None) -> list[float | None] | None:
    """Return both ends of an interval, rounded."""
    return None if ends is None else [rounded(end) for end in ends]


def compared_labels(sets: Sets) -> Groups:
    """Return the labels that sets are compared by: those with enough slices on every side.

    Raises:
        CannotJudgeError: when no label has enough.
    """
    tables = [features.table for features in sets.by_name().values()]
    groups = label_groups(tables, least=LEAST_OF_LABEL)
    if not groups:
        counts = (
            f"{(features.table['label'] == label).sum()} {name} of label {label}"
            for label in sorted(set(sets.val.table["label"]))
            for name, features in sets.by_name().items()
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
    synthetic, train, val = (features.table for features in sets.by_name().values())
    seed, groups = config.seed, compared_labels(sets)
    patients = min(table["subject"].nunique() for table in (train, val))
    null_splits_count = NULL_SPLITS if patients >= NULL_PATIENTS else 0
    subsample_set = SubsampleSet(
        usable_subsamples(
            subsamples(
                synthetic, train, val, count=POINT_SUBSAMPLES, share=1.0, seed=seed, groups=groups
            )
        ),
        usable_subsamples(
            subsamples(
                synthetic, train, val, count=config.draws, share=0.5, seed=seed + 1, groups=groups
            )
        ),
        {
            "train": usable_subsamples(
                null_splits(train, val, count=null_splits_count, seed=seed + 2, groups=groups)
            ),
            "val": usable_subsamples(
                null_splits(val, None, count=null_splits_count, seed=seed + 3, groups=groups)
            ),
        },
    )
    if not subsample_set.whole:
        raise CannotJudgeError(
            "no two slices of one label on every side to compare: synthetic, training and"
            " validation; add patients or raise slices.val_fraction"
        )
    with ThreadPoolExecutor(config.threads) as pool:
        parts = pool.map(
            lambda measure_group: evaluate_measure_group(sets, measure_group, subsample_set),
            measure_groups,
        )
        return {name: measure for part in parts for name, measure in part.items()}


def usable_subsamples(candidates: Iterable[Subsample]) -> list[Subsample]:
    """Return the subsamples with at least two slices: half of few patients may lack a label."""
    return [subsample for subsample in candidates if len(subsample.reference) >= 2]


def evaluate_measure_group(
    sets: Sets, measure_group: MeasureGroup, subsample_set: SubsampleSet
) -> dict[str, Measure]:
    """Compute figures at equal n, intervals from half-sized subsamples, and the null range."""
    whole = compute_figures(sets, measure_group, subsample_set.whole)  # (draws, 2, K)
    halves = compute_figures(sets, measure_group, subsample_set.halves)
    null = compute_figures(
        Sets(sets.train if measure_group.real == "train" else sets.val, sets.train, sets.val),
        measure_group,
        subsample_set.null.get(measure_group.real, []) if measure_group.has_ratio else [],
    )
    first = subsample_set.whole[0]
    measures = {}
    for index, (name, (rule, method)) in enumerate(measure_group.names.items()):
        pairs = whole[:, :, index]
        finite = np.isfinite(pairs).all(axis=1)
        measured = len(pairs) > 0 and finite.mean() >= USABLE
        value, baseline = pairs[finite].mean(axis=0) if measured else (np.nan, np.nan)
        has_ratio = measure_group.has_ratio and measured and baseline > 0
        ratio = value / baseline if has_ratio else np.nan
        null95 = null_range(
            ratios_of_pairs(null[:, :, index]),
            side=None if rule is None else rule.end,
            # A split of the validation patients has half of them on each side.
            shrink=1.0 if measure_group.real == "train" else np.sqrt(0.5),
        )
        limit = None if rule is None else rule.limit(null95)
        measures[name] = Measure(
            value=float(value) if measured else None,
            value_ci95=interval(float(value), halves[:, 0, index]),
            baseline=float(baseline) if measured else None,
            ratio=float(ratio) if has_ratio else None,
            ci95=ratio_interval(float(ratio), ratios_of_pairs(halves[:, :, index]))
            if has_ratio
            else None,
            null95=null95,
            limit=limit,
            n=len(first.reference),
            patients=int(sets.val.table["subject"].iloc[first.reference].nunique()),
            method=method,
            draws=len(pairs),
            nan_draws=int((~finite).sum()),
        )
        if not measured:
            why = measure_group.missing(sets) or NotMeasured(
                Cause.NO_FIGURE, f"{(~finite).sum()} of {len(pairs)} draws gave no figure"
            )
        elif rule is not None and not has_ratio:
            why = NotMeasured(
                Cause.NO_BASELINE, "the figure of real slices is 0, so that there is no ratio"
            )
        elif rule is not None and limit is None:
            why = NO_NULL_RANGE
        elif rule is not None and (found := rule.missed_by_chance(null95)):
            why = NotMeasured(
                Cause.REAL_MISSES_LIMIT,
                f"real patients too few to say: theirs is {found}",
            )
            measures[name] = replace(measures[name], ratio=None, ci95=None)
        else:
            continue
        measures[name] = replace(measures[name], not_measured=why)
    return measures


def compute_figures(
    sets: Sets, measure_group: MeasureGroup, subsample_list: list[Subsample]
) -> Floats:
    """Compute the figures (draws, 2, K) of the subsamples: synthetic, then real."""
    chosen = islice(subsample_list, 0, None, measure_group.subsample_stride)
    rows = [np.stack(measure_group.figure(sets, subsample)) for subsample in chosen]
    return np.array(rows).reshape(-1, 2, len(measure_group.names))


def ratios_of_pairs(pairs: Floats) -> Floats:
    """Compute the ratios (draws,) of pairs (draws, 2)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios: Floats = pairs[:, 0] / pairs[:, 1]
    return ratios
