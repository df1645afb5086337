"""The verdict on a set, its reasons in words, and what was not measured."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from tasks.common.gate_requirements import LEAST_OF_LABEL
from tasks.common.slice_set import MIN_SLICES, SliceSet
from tasks.gate import slice_checks
from tasks.gate.measure import Measure
from tasks.gate.membership import MembershipAttack
from tasks.gate.memorisation import NearDuplicates
from tasks.gate.subgroups import Subgroup
from tasks.gate.unmeasured import acceptance_hint
from tasks.gate.unmeasured_causes import Cause, NotMeasured
from tasks.params.gate import Gate

MOST_PLACES = 8  # decimal places of a ratio
UNJUDGED = "unjudged"
FAULT_WORDS = {
    "broken": "broken pictures",
    "memorised": "copies of training slices",
    "upside_down": "upside-down",
    "outline": "implausible outline",
    "spectrum": "blur, noise or checkerboard",
    "realism": "unlike any real slice",
    "mask": "mask against label or outside the head",
    "mask_contrast": "mask not where the image shows a tumour",
}


@dataclass(frozen=True)
class GateResult:
    """The verdict on a set: `metrics.json` and `samples.parquet`.

    `unmeasured` are the parts of the verdict that could not be measured; `blocking` names those of
    them that reject the set. `membership` are attacks that try to tell who trained; they are
    reported and reject nothing.
    """

    reasons: list[str]
    images: dict[str, int]
    measures: dict[str, Measure]
    samples: pd.DataFrame
    bounds: dict[str, float]
    subgroups: dict[str, Subgroup]
    weights: dict[str, str]
    unmeasured: dict[str, NotMeasured]
    blocking: list[str]
    membership: dict[str, MembershipAttack] = field(default_factory=dict)

    @property
    def verdict(self) -> Literal["accepted", "rejected"]:
        """Accepted where nothing speaks against the set."""
        return "rejected" if self.reasons else "accepted"

    @property
    def not_measured(self) -> dict[str, str]:
        """The reason for each part that could not be measured, in words."""
        return {part: missing.why for part, missing in self.unmeasured.items()}

    def not_measured_without_rejection(self) -> dict[str, str]:
        """Return the parts that were not measured for a cause that does not reject the set."""
        rejecting = self.parts_with_a_rejecting_cause()
        return {part: why for part, why in self.not_measured.items() if part not in rejecting}

    def parts_with_a_rejecting_cause(self) -> list[str]:
        """Return `blocking`, and the parts that were not measured for one of its causes."""
        rejecting = [self.unmeasured[part] for part in self.blocking]
        return [
            part
            for part, missing in self.unmeasured.items()
            if any(missing.has_cause_of(other) for other in rejecting)
        ]

    def uncertain_measures(self) -> dict[str, str]:
        """Return the measures that other validation patients could put beyond their limit."""
        return {
            name: ratio_and_limit(measure)
            for name, measure in self.measures.items()
            if measure.status == "uncertain"
        }

    def as_json(self) -> dict[str, Any]:
        """Return the content of `metrics.json`."""
        return {
            "verdict": self.verdict,
            "reasons": self.reasons,
            "not_measured": self.not_measured,
            "blocking": self.parts_with_a_rejecting_cause(),
            "uncertain": self.uncertain_measures(),
            "images": self.images,
            "measures": {name: measure.as_json() for name, measure in self.measures.items()},
            "subgroups": {name: part.as_json() for name, part in self.subgroups.items()},
            "bounds": {name: float(f"{value:.6g}") for name, value in self.bounds.items()
                       if np.isfinite(value)},
            "weights": self.weights,
            "membership": {name: attack.as_json() for name, attack in self.membership.items()},
        }  # fmt: skip


def not_judged_result(synthetic: SliceSet, why: str) -> GateResult:
    """Return the rejection of a set that cannot be judged, with the reason."""
    n = len(synthetic)
    return GateResult(
        [f"not judged: {why}"],
        {"n": n, "accepted": 0, "memorised": 0},
        {},
        synthetic.table[["row", "seed", "label"]]
        .reset_index(drop=True)
        .assign(**dict.fromkeys(slice_checks.SCORES, np.nan), accepted=False, reason=UNJUDGED),
        {},
        {},
        {},
        {"everything": NotMeasured(Cause.NOT_JUDGED, why)},
        ["everything"],
    )


def with_frequent_labels(samples: pd.DataFrame) -> pd.DataFrame:
    """Return the images of those labels that have enough images for a meaningful share."""
    return samples[samples.groupby("label")["row"].transform("size") >= LEAST_OF_LABEL]


def verdict_reasons(
    samples: pd.DataFrame,
    measures: dict[str, Measure],
    blocking: dict[str, NotMeasured],
    config: Gate,
    *,
    near_copies: tuple[NearDuplicates, NearDuplicates],
) -> list[str]:
    """Return why the set is rejected, in words with figure and limit; empty when it is accepted.

    Args:
        samples: the table of the synthetic slices.
        measures: of the set.
        blocking: the parts that had to be measured and were not.
        config: the limits.
        near_copies: of the synthetic and of the training slices, each within its own set.
    """
    return [
        *memorised_reasons(samples, config),
        *collapse_reasons(*near_copies, config),
        *too_few_accepted_reasons(samples, config),
        *measure_reasons(measures),
        *(
            f"{part}: not measured: {missing.why}; {acceptance_hint(part, missing, config)}"
            for part, missing in blocking.items()
        ),
    ]


def memorised_reasons(samples: pd.DataFrame, config: Gate) -> list[str]:
    """Return a reason when too many images are copies of training slices."""
    n, copies = len(samples), int((samples["reason"] == "memorised").sum())
    if copies <= config.max_memorised * n:
        return []
    return [
        f"memorised: {copies} of {n} images are copies of training slices"
        f" (at most {config.max_memorised:.0%})"
    ]


def collapse_reasons(synthetic: NearDuplicates, real: NearDuplicates, config: Gate) -> list[str]:
    """Return a reason when the set repeats itself much more than real slices do at equal n."""
    n = min(len(synthetic.counts), len(real.counts))
    share, share_of_real = synthetic.share_of(n), real.share_of(n)
    most = min(config.max_twins + share_of_real, 0.95)
    if share <= most:
        return []
    return [
        f"collapsed: {share:.0%} of {n} images have a near-copy in the same set"
        f" (at most {most:.0%}: real slices at equal n {share_of_real:.0%})"
    ]


def too_few_accepted_reasons(samples: pd.DataFrame, config: Gate) -> list[str]:
    """Return reasons when too few images are accepted, in all or of one label."""
    n, accepted = len(samples), int(samples["accepted"].sum())
    least = config.min_accepted
    if accepted < max(MIN_SLICES, least * n):
        return [
            f"too few: {accepted} of {n} images are accepted (at least {least:.0%});"
            f" {most_frequent_faults(samples)}"
        ]
    return [
        f"one-sided: {of_label['accepted'].sum()} of {len(of_label)} images with label {label} are"
        f" accepted (at least {least:.0%}); {most_frequent_faults(of_label)}"
        for label, of_label in with_frequent_labels(samples).groupby("label")
        if of_label["accepted"].sum() < least * len(of_label)
    ]


def measure_reasons(measures: dict[str, Measure]) -> list[str]:
    """Return a reason for each measure whose ratio is outside its limit."""
    return [
        f"{name}: {ratio_and_limit(measure)}"
        for name, measure in measures.items()
        if measure.status == "outside"
    ]


def ratio_and_limit(measure: Measure) -> str:
    """Return the ratio and the limit that it misses, or is nearest to, in words."""
    assert measure.limit is not None and measure.ratio is not None
    low, high = measure.limit
    over = low is None or (high is not None and measure.ratio * measure.ratio > low * high)
    end = high if over else low
    return (
        f"{format_ratio(measure.ratio, end)} times that of real slices"
        f" ({'at most' if over else 'at least'} {end})"
    )


def format_ratio(ratio: float, limit: float | None) -> str:
    """Format a ratio with two decimal places, or with as many as distinguish it from its limit."""
    places = 2
    while round(ratio, places) == limit and places < MOST_PLACES:
        places += 1
    return f"{ratio:.{places}f}"


def most_frequent_faults(samples: pd.DataFrame) -> str:
    """Return the three most frequent faults in words."""
    counts = Counter(samples["reason"].dropna())
    return "refused: " + ", ".join(
        f"{n} {FAULT_WORDS[fault]}" for fault, n in counts.most_common(3)
    )
