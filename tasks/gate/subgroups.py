"""Compute every measure for subgroups, to find those that a generator imitates badly.

Subgroups are labels, thirds of tumour size, and sites. Synthetic images have a label and a tumour
size, but no site: for a site, all of them are compared with the patients of that site, so a
generator that imitates only the largest site is far from the others.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.common.gate_requirements import LEAST_OF_LABEL
from tasks.gate.measure import Measure, rounded
from tasks.gate.measure_catalogue import FRECHET
from tasks.gate.set_measures import (
    MeasureGroup,
    Sets,
    SubsampleSet,
    evaluate_measure_group,
    usable_subsamples,
)
from tasks.measures.patient_subsampling import label_groups, subsamples
from tasks.params.gate import Gate

Bools = NDArray[np.bool_]

DRAWS = 4
FEW_PATIENTS, FEW_SLICES = 5, 30  # below either number, a figure is uncertain
WORSE_RATIO = 2.0  # times the ratio of the whole set: a warning
RARE_SHARE = 0.25  # times the share among real slices: a warning


@dataclass(frozen=True)
class Part:
    """Rows of synthetic, training and validation slices that belong to one subgroup."""

    name: str
    rows: tuple[Bools, Bools, Bools]
    share: tuple[float, float] | None = None  # among synthetic and among validation slices
    of_one_site: bool = False


@dataclass(frozen=True)
class Subgroup:
    """The measures of one part; `ratio` is that of the Fréchet distance, None if not measured."""

    ratio: float | None
    n: int
    patients: int
    warning: str | None
    measures: dict[str, Measure]

    def as_json(self) -> dict[str, Any]:
        """Return the entry of `metrics.json`."""
        return {
            "ratio": rounded(self.ratio),
            "n": self.n,
            "patients": self.patients,
            "warning": self.warning,
            "measures": {
                name: {
                    "value": rounded(measure.value),
                    "baseline": rounded(measure.baseline),
                    "ratio": rounded(measure.ratio),
                    "holds": measure.meets_limit,
                }
                for name, measure in self.measures.items()
            },
        }


def subgroups(
    sets: Sets, measure_groups: list[MeasureGroup], whole: dict[str, Measure], config: Gate
) -> dict[str, Subgroup]:
    """Compute each part's measures and compare them with those of the whole set."""
    parts = list(split_into_parts(sets))
    with ThreadPoolExecutor(config.threads) as pool:
        evaluated = pool.map(
            lambda part: evaluate_part(part, sets, measure_groups, whole, config.seed), parts
        )
        return {part.name: subgroup for part, subgroup in zip(parts, evaluated, strict=True)}


def split_into_parts(sets: Sets) -> Iterator[Part]:
    """Yield the parts that occur among the validation slices."""
    all_sets = (sets.synthetic, sets.train, sets.val)
    for label in sorted(set(sets.val.table["label"])):
        synthetic, train, val = (
            features.table["label"].to_numpy() == label for features in all_sets
        )
        yield Part(f"label {label}", (synthetic, train, val))
    sizes = [features.tumors[:, 0] for features in all_sets]
    known = [size[np.isfinite(size)] for size in sizes]
    if len(known[2]):
        edges = [-np.inf, *np.quantile(known[2], [1 / 3, 2 / 3]), np.inf]
        for index, word in enumerate(("small", "middle", "large")):
            inside = [(size > edges[index]) & (size <= edges[index + 1]) for size in sizes]
            share = (
                float(inside[0].sum() / len(known[0])) if len(known[0]) else 1.0,
                float(inside[2].sum() / len(known[2])),
            )
            yield Part(f"tumour size {word}", (inside[0], inside[1], inside[2]), share)
    if "site" in sets.val.table and "site" in sets.train.table:
        for site in sorted(set(sets.val.table["site"].dropna())):
            train, val = ((features.table["site"] == site).to_numpy() for features in all_sets[1:])
            rows = (np.ones(len(sets.synthetic.table), dtype=bool), train, val)
            yield Part(f"site {site}", rows, of_one_site=True)


def evaluate_part(
    part: Part, sets: Sets, measure_groups: list[MeasureGroup], whole: dict[str, Measure], seed: int
) -> Subgroup:
    """Compute the measures of one part and its warning."""
    chosen = [
        features.select(keep)
        for features, keep in zip((sets.synthetic, sets.train, sets.val), part.rows, strict=True)
    ]
    patients = min(features.table["subject"].nunique() for features in chosen[1:])
    least = min(len(features.table) for features in chosen)
    rare = underrepresented(part)
    if patients < 2 or least < 10:
        reason = f"too few to say: {least} slices, {patients} patients"
        return Subgroup(None, least, patients, rare or reason, {})
    synthetic, train, val = (features.table for features in chosen)
    groups = label_groups((synthetic, train, val), least=LEAST_OF_LABEL)
    usable = usable_subsamples(
        subsamples(synthetic, train, val, count=DRAWS, share=1.0, seed=seed, groups=groups)
    )
    n = len(usable[0].reference) if usable else 0
    if n < 10:
        reason = f"too few to say: {n} slices at equal labels"
        return Subgroup(None, n, patients, rare or reason, {})
    measures: dict[str, Measure] = {}
    for measure_group in measure_groups:
        measures |= evaluate_measure_group(Sets(*chosen), measure_group, SubsampleSet(usable))
    if part.of_one_site:
        del measures["site_coverage"]  # meaningless within one site
    ratio = measures[FRECHET].ratio
    warning = rare
    if warning is None and (patients < FEW_PATIENTS or n < FEW_SLICES):
        warning = f"few: {patients} patients, {n} slices"
    return Subgroup(ratio, n, patients, warning or worse_than_overall(measures, whole), measures)


def underrepresented(part: Part) -> str | None:
    """Return a warning when the generator makes too few slices of a part; else None."""
    if part.share is None or part.share[0] >= RARE_SHARE * part.share[1]:
        return None
    return f"rare: {part.share[0]:.0%} of synthetic tumours, {part.share[1]:.0%} of real ones"


def worse_than_overall(measures: dict[str, Measure], whole: dict[str, Measure]) -> str | None:
    """Return a warning when a part is much worse than the whole set; else None."""
    ratio, overall = measures[FRECHET].ratio, whole[FRECHET].ratio
    if ratio is not None and overall is not None and ratio > WORSE_RATIO * max(overall, 1):
        return f"served worse: {ratio:.1f} beside {overall:.1f} for all"
    broken = [
        name
        for name, measure in measures.items()
        if measure.meets_limit is False and whole[name].status == "within"
    ]
    return f"outside the limit here, within it for all: {', '.join(broken)}" if broken else None
