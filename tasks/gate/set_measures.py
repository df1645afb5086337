"""Set-level measures: synthetic slices against unseen patients, and real slices against them."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tasks.common.gate_requirements import LEAST_OF_LABEL, NULL_PATIENTS, CannotJudgeError
from tasks.gate.measure import LimitRule, Measure
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

POINT_SUBSAMPLES = (
    20  # averaged into the figure, so that it does not depend on which images are chosen
)
NULL_SPLITS = 40  # splits of real patients
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
