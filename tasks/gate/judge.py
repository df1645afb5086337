"""Judge synthetic slices: every slice, then the set, then one verdict with reasons in words."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from tasks.arrays import LEAST_JUDGED, SliceSet
from tasks.gate import checks, copies, experts
from tasks.gate.catalogue import catalogue
from tasks.gate.described import Described, describe
from tasks.gate.sets import Measure, Sets, measure
from tasks.gate.subgroups import Subgroup, subgroups
from tasks.params.gate import Gate
from tasks.stage import StageError

MOST_PLACES = 8
WORDS = {
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
class Judgement:
    """The verdict on a set: `metrics.json` and `samples.parquet`."""

    verdict: Literal["accepted", "rejected"]
    reasons: list[str]
    images: dict[str, int]
    measures: dict[str, Measure]
    samples: pd.DataFrame
    bounds: dict[str, float]
    subgroups: dict[str, Subgroup]
    weights: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """As `metrics.json` holds it."""
        return {
            "verdict": self.verdict,
            "reasons": self.reasons,
            "images": self.images,
            "measures": {name: one.as_json() for name, one in self.measures.items()},
            "subgroups": {name: one.as_json() for name, one in self.subgroups.items()},
            "bounds": {name: float(f"{value:.6g}") for name, value in self.bounds.items()
                       if np.isfinite(value)},
            "weights": self.weights,
        }  # fmt: skip


@dataclass(frozen=True)
class Reference:
    """Real slices, measured once: what any number of synthetic sets is judged by.

    `train` is what the generator saw, `val` patients it never saw; `bounds` are the largest
    scores of a single slice, `thresholds` those of the search for copies; `twins` is the share of
    training slices with a near-copy among the others, such as the next slice of a patient;
    `experts` have learnt from `train`.
    """

    train: SliceSet
    val: SliceSet
    seen: Described
    unseen: Described
    held_out: copies.Likeness
    thresholds: copies.Thresholds
    norm: checks.Norm
    bounds: dict[str, float]
    twins: float
    experts: experts.Experts


def reference(train: SliceSet, val: SliceSet, config: Gate, *, device: str = "cpu") -> Reference:
    """Measure real slices; every limit of a single slice comes from the validation patients.

    Args:
        train: what the generator saw; table with `row`, `subject`, `label`.
        val: patients it never saw; same columns.
        config: the limits.
        device: where the feature network runs.

    Raises:
        StageError: when there is too little to judge by, or sizes differ.
    """
    check_size("training", train, val)
    check_size("validation", val, val)
    people = val.table["subject"].nunique()
    if people < 2:
        raise StageError(f"{people} validation patient, at least 2 are needed; raise val_fraction")
    seen, unseen = (describe(side, device=device) for side in (train, val))
    wise, seen, unseen = experts.meet(train, val, seen, unseen, config, device=device)
    held_out = copies.liken(
        val, unseen, (train, seen), (val, unseen),
        max_shift=config.max_shift, workers=config.threads, held_out=True,
    )  # fmt: skip
    norm = checks.norm_of(seen)
    bounds = checks.bounds(checks.scores(unseen, held_out, norm), tolerance=config.tolerance)
    unseen = with_likeness(unseen, held_out)
    twins = float(copies.twins(train.images, held_out).mean())
    return Reference(
        train, val, seen, unseen, held_out, copies.calibrate(held_out), norm, bounds, twins, wise
    )


def judge(synthetic: SliceSet, real: Reference, config: Gate, *, device: str = "cpu") -> Judgement:
    """Compare synthetic slices with training slices (copies) and validation patients (all else).

    Args:
        synthetic: table with `row`, `seed`, `label`.
        real: training slices and validation patients.
        config: the limits.
        device: where the feature network runs.

    Raises:
        StageError: when there is too little to judge, or sizes differ.
    """
    check_size("synthetic", synthetic, real.val)
    ours = describe(synthetic, device=device)
    ours = real.experts.consult(ours, synthetic, device=device)
    safe = ours.images
    found = copies.liken(
        SliceSet(safe, synthetic.masks, synthetic.table), ours,
        (real.train, real.seen), (real.val, real.unseen),
        max_shift=config.max_shift, workers=config.threads,
    )  # fmt: skip
    scores = checks.scores(ours, found, real.norm)
    reasons = checks.reasons(
        copies=np.any(list(copies.detected(found, real.thresholds).values()), axis=0),
        broken=checks.broken(synthetic),
        wrong_mask=checks.wrong_mask(synthetic, ours),
        scores=scores,
        bounds=real.bounds,
    )
    twins = copies.twins(safe, real.held_out)
    samples = tabulate(
        synthetic, real.train, found, real.thresholds, scores=scores, reasons=reasons
    ).assign(twin=twins)
    handed_over = judged(with_likeness(ours, found), samples, config)
    sets = Sets(handed_over, real.seen, real.unseen)
    hashes = real.experts.hashes()
    # Hundreds of small eigenproblems: a second BLAS thread waits longer than it works.
    with threadpool_limits(1, user_api="blas"):
        families = catalogue(config, hashes, side=min(safe.shape[2:]))
        measures = measure(sets, families, config)
        parts = subgroups(sets, families, measures, config)
    words = verdict_reasons(samples, measures, config, real_twins=real.twins)
    return Judgement(
        "rejected" if words else "accepted",
        words,
        {
            "n": len(samples),
            "accepted": int(samples["accepted"].sum()),
            "memorised": reasons.count("memorised"),
            "twins": int(twins.sum()),
        },
        measures,
        samples,
        real.bounds | real.thresholds.as_bounds(),
        parts,
        hashes,
    )


def check_size(name: str, side: SliceSet, val: SliceSet) -> None:
    """Refuse what cannot be judged, in one line."""
    if len(side) < LEAST_JUDGED:
        raise StageError(
            f"{len(side)} {name} slices, at least {LEAST_JUDGED} are needed to judge; add slices"
        )
    if side.images.shape[1:] != val.images.shape[1:]:
        raise StageError(
            f"{name} slices are {side.images.shape[1:]}, validation slices"
            f" {val.images.shape[1:]} (channels, rows, columns); resample one of them"
        )


def with_likeness(one: Described, likeness: copies.Likeness) -> Described:
    """The description with each slice's SSIM to its nearest training slice, and whether upright."""
    found = likeness.to_train
    return replace(
        one,
        table=one.table.assign(
            nearest_train_ssim=1 - likeness.distances["ssim"][0],
            upright=(found.upright >= found.inverted).astype(np.float64),
        ),
    )


def tabulate(
    synthetic: SliceSet,
    train: SliceSet,
    found: copies.Likeness,
    thresholds: copies.Thresholds,
    *,
    scores: pd.DataFrame,
    reasons: list[str | None],
) -> pd.DataFrame:
    """`samples.parquet`: a row an image, in the order of the images."""
    rows = train.table["row"].to_numpy()
    table = synthetic.table[["row", "seed", "label"]].reset_index(drop=True)
    return table.assign(
        **copies.columns(found, thresholds, rows),
        **{name: scores[name].to_numpy() for name in checks.SCORES},
        accepted=[reason is None for reason in reasons],
        reason=pd.array(reasons, dtype="str"),
    )


def judged(ours: Described, samples: pd.DataFrame, config: Gate) -> Described:
    """What the set-level measures look at: what would be handed over, the accepted images.

    When too few are accepted, of all or of one label, the set is rejected anyway; its figures then
    show all of it, or what is wrong with the refused ones would be in none.
    """
    keep = samples["accepted"].to_numpy()
    shares = samples.groupby("label")["accepted"].mean()
    if keep.sum() < LEAST_JUDGED or min(keep.mean(), shares.min()) < config.min_accepted:
        return ours
    return ours.take(keep)


def verdict_reasons(
    samples: pd.DataFrame, measures: dict[str, Measure], config: Gate, *, real_twins: float
) -> list[str]:
    """Why the set is rejected, in words with figure and limit; nothing when it is accepted."""
    n = len(samples)
    counts = Counter(samples["reason"].dropna())
    words = []
    if counts["memorised"] > config.max_memorised * n:
        words.append(
            f"memorised: {counts['memorised']} of {n} images are copies of training slices"
            f" (at most {config.max_memorised:.0%})"
        )
    most_twins = min(config.max_twins + real_twins, 0.95)
    if samples["twin"].mean() > most_twins:
        words.append(
            f"collapsed: {int(samples['twin'].sum())} of {n} images have a near-copy in the same"
            f" set (at most {most_twins:.0%})"
        )
    accepted = int(samples["accepted"].sum())
    if accepted < max(LEAST_JUDGED, config.min_accepted * n):
        words.append(
            f"too few: {accepted} of {n} images are accepted (at least"
            f" {config.min_accepted:.0%}); {refused(samples)}"
        )
    else:
        for label, side in samples.groupby("label"):
            passed = int(side["accepted"].sum())
            if passed < config.min_accepted * len(side):
                words.append(
                    f"one-sided: {passed} of {len(side)} images with label {label} are accepted"
                    f" (at least {config.min_accepted:.0%}); {refused(side)}"
                )
    for name, one in measures.items():
        if not one.holds and one.limit is not None and one.ratio is not None:
            low, high = one.limit
            over = high is not None and one.ratio > high
            words.append(
                f"{name}: {beside(one.ratio, high if over else low)} times that of real slices"
                f" ({'at most' if over else 'at least'} {high if over else low})"
            )
    return words


def beside(ratio: float, limit: float | None) -> str:
    """A ratio with two places, or with as many as tell it from its limit."""
    places = 2
    while round(ratio, places) == limit and places < MOST_PLACES:
        places += 1
    return f"{ratio:.{places}f}"


def refused(samples: pd.DataFrame) -> str:
    """The commonest faults in words."""
    counts = Counter(samples["reason"].dropna())
    return "refused: " + ", ".join(f"{n} {WORDS[word]}" for word, n in counts.most_common(3))
