"""Judge synthetic slices: every slice, then the set, then one verdict with reasons in words."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from tasks.arrays import SliceSet
from tasks.gate import checks, copies
from tasks.gate.described import Described, describe
from tasks.gate.sets import Measure, Sets, measure
from tasks.params.gate import Gate
from tasks.stage import StageError

LEAST = 20  # slices on each side, below which no set can be judged

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

    def as_json(self) -> dict[str, Any]:
        """As `metrics.json` holds it."""
        return {
            "verdict": self.verdict,
            "reasons": self.reasons,
            "images": self.images,
            "measures": {name: one.as_json() for name, one in self.measures.items()},
            "bounds": {name: float(f"{value:.6g}") for name, value in self.bounds.items()
                       if np.isfinite(value)},
        }  # fmt: skip


def judge(
    synthetic: SliceSet, train: SliceSet, val: SliceSet, config: Gate, *, device: str = "cpu"
) -> Judgement:
    """Compare synthetic slices with training slices (copies) and validation patients (all else).

    Args:
        synthetic: table with `row`, `seed`, `label`.
        train: what the generator saw; table with `row`, `subject`, `label`.
        val: patients it never saw; same columns.
        config: the limits.
        device: where the feature network runs.

    Raises:
        StageError: when there is too little to judge, or sizes differ.
    """
    check_input(synthetic, train, val)
    sides = [describe(side, device=device) for side in (synthetic, train, val)]
    ours, seen, unseen = sides
    safe = np.nan_to_num(synthetic.images, nan=-1, posinf=1, neginf=-1).clip(-1, 1)
    found = copies.liken(safe, ours.bodies, train, seen.bodies, val, max_shift=config.max_shift)
    held_out = copies.liken(
        val.images, unseen.bodies, train, seen.bodies, val, max_shift=config.max_shift,
        subjects=val.table["subject"].to_numpy(dtype=object),
    )  # fmt: skip
    thresholds = copies.calibrate(held_out)
    norm = checks.norm_of(seen)
    scores = checks.scores(ours, found, norm)
    limits = checks.bounds(checks.scores(unseen, held_out, norm), tolerance=config.tolerance)
    reasons = checks.reasons(
        copies=copies.memorised(found, thresholds),
        broken=checks.broken(synthetic),
        wrong_mask=checks.wrong_mask(synthetic, ours),
        scores=scores,
        bounds=limits,
    )
    twins = copies.twins(safe, held_out)
    samples = tabulate(synthetic, train, found, scores, reasons).assign(twin=twins)
    ours = with_ssim(ours, found)
    unseen = with_ssim(unseen, held_out)
    measures = measure(Sets(judged(ours, samples, config), seen, unseen), config)
    limits |= {
        "nearest_train_ncc": thresholds.correlation,
        "memorised_ratio": thresholds.ratio,
        "memorised_beyond_doubt": thresholds.beyond_doubt,
    }
    words = verdict_reasons(samples, measures, config)
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
        limits,
    )


def check_input(synthetic: SliceSet, train: SliceSet, val: SliceSet) -> None:
    """Refuse what cannot be judged, in one line."""
    named = {"synthetic": synthetic, "training": train, "validation": val}
    for name, side in named.items():
        if len(side) < LEAST:
            raise StageError(
                f"{len(side)} {name} slices, at least {LEAST} are needed to judge; add slices"
            )
        if side.images.shape[1:] != val.images.shape[1:]:
            raise StageError(
                f"{name} slices are {side.images.shape[1:]}, validation slices"
                f" {val.images.shape[1:]} (channels, rows, columns); resample one of them"
            )
    people = val.table["subject"].nunique()
    if people < 2:
        raise StageError(f"{people} validation patient, at least 2 are needed; raise val_fraction")


def with_ssim(one: Described, likeness: copies.Likeness) -> Described:
    """The description with each slice's SSIM to its nearest training slice."""
    column = likeness.ssim.astype(np.float64)
    return replace(one, table=one.table.assign(nearest_train_ssim=column))


def tabulate(
    synthetic: SliceSet,
    train: SliceSet,
    found: copies.Likeness,
    scores: pd.DataFrame,
    reasons: list[str | None],
) -> pd.DataFrame:
    """`samples.parquet`: a row an image, in the order of the images."""
    rows = train.table["row"].to_numpy()[found.to_train.rows[:, 0]]
    table = synthetic.table[["row", "seed", "label"]].reset_index(drop=True)
    return table.assign(
        nearest_train_row=rows,
        nearest_train_ncc=found.to_train.scores[:, 0],
        nearest_unseen_ncc=found.to_unseen.scores[:, 0],
        memorised_ratio=found.ratio,
        nearest_train_ssim=found.ssim,
        **{name: scores[name].to_numpy() for name in checks.SCORES},
        accepted=[reason is None for reason in reasons],
        reason=pd.array(reasons, dtype="str"),
    )


def judged(ours: Described, samples: pd.DataFrame, config: Gate) -> Described:
    """What the set-level measures look at: what would be handed over, the accepted images.

    When too few are accepted the set is rejected anyway; its figures then show all of it.
    """
    keep = samples["accepted"].to_numpy()
    if keep.sum() < max(LEAST, config.min_accepted * len(samples)):
        return ours
    columns = {
        name: getattr(ours, name)[keep]
        for name in ("features", "spectra", "outlines", "tumors", "histograms", "coarse", "bodies")
    }
    return Described(table=ours.table[keep].reset_index(drop=True), **columns)


def verdict_reasons(samples: pd.DataFrame, measures: dict[str, Measure], config: Gate) -> list[str]:
    """Why the set is rejected, in words with figure and limit; nothing when it is accepted."""
    n = len(samples)
    counts = Counter(samples["reason"].dropna())
    words = []
    if counts["memorised"] > config.max_memorised * n:
        words.append(
            f"memorised: {counts['memorised']} of {n} images are copies of training slices"
            f" (at most {config.max_memorised:.0%})"
        )
    if samples["twin"].mean() > config.max_twins:
        words.append(
            f"collapsed: {int(samples['twin'].sum())} of {n} images have a near-copy in the same"
            f" set (at most {config.max_twins:.0%})"
        )
    accepted = int(samples["accepted"].sum())
    if accepted < max(LEAST, config.min_accepted * n):
        why = ", ".join(f"{count} {WORDS[word]}" for word, count in counts.most_common(3))
        words.append(
            f"too few: {accepted} of {n} images are accepted (at least"
            f" {config.min_accepted:.0%}); refused: {why}"
        )
    for label, side in samples.groupby("label"):
        passed = int(side["accepted"].sum())
        if passed < config.min_accepted * len(side) and accepted >= config.min_accepted * n:
            words.append(
                f"one-sided: {passed} of {len(side)} images with label {label} are accepted"
                f" (at least {config.min_accepted:.0%})"
            )
    for name, one in measures.items():
        if not one.holds and one.limit is not None and one.ratio is not None:
            low, high = one.limit
            over = high is not None and one.ratio > high
            words.append(
                f"{name}: {one.ratio:.2f} times that of real slices"
                f" ({'at most' if over else 'at least'} {high if over else low})"
            )
    return words
