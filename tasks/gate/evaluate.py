"""Judge synthetic slices: each slice, then the set, then one verdict with reasons in words."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from tasks.common.gate_requirements import LEAST_OF_LABEL, CannotJudgeError, why_no_verdict
from tasks.common.slice_set import MIN_SLICES, SliceSet
from tasks.gate import memorisation, reference_models, slice_checks
from tasks.gate.measure_catalogue import catalogue
from tasks.gate.set_measures import Measure, Sets, compared_labels, measure_sets
from tasks.gate.slice_features import SliceFeatures, compute_slice_features
from tasks.gate.subgroups import Subgroup, subgroups
from tasks.gate.unmeasured import acceptance_hint, blocking_parts, not_measured
from tasks.params.gate import Gate
from tasks.stage.errors import InputError

MOST_PLACES = 8
UNJUDGED = "unjudged"
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
class GateResult:
    """The verdict on a set: `metrics.json` and `samples.parquet`.

    `not_measured` gives the reason for each part of the verdict that could not be measured.
    """

    verdict: Literal["accepted", "rejected"]
    reasons: list[str]
    images: dict[str, int]
    measures: dict[str, Measure]
    samples: pd.DataFrame
    bounds: dict[str, float]
    subgroups: dict[str, Subgroup]
    weights: dict[str, str]
    not_measured: dict[str, str]

    def not_measured_without_rejection(self) -> dict[str, str]:
        """Return the parts that were not measured and are no reason for a rejection."""
        reported = " ".join(self.reasons)
        return {name: why for name, why in self.not_measured.items() if why not in reported}

    def as_json(self) -> dict[str, Any]:
        """Return the content of `metrics.json`."""
        return {
            "verdict": self.verdict,
            "reasons": self.reasons,
            "not_measured": self.not_measured,
            "images": self.images,
            "measures": {name: one.as_json() for name, one in self.measures.items()},
            "subgroups": {name: one.as_json() for name, one in self.subgroups.items()},
            "bounds": {name: float(f"{value:.6g}") for name, value in self.bounds.items()
                       if np.isfinite(value)},
            "weights": self.weights,
        }  # fmt: skip


@dataclass(frozen=True)
class Reference:
    """Real slices, measured once, with which any number of synthetic sets can be compared.

    `train` are the slices that the generator saw, `val` those of patients it never saw. `bounds`
    are the highest scores allowed for a single slice, `thresholds` those of the copy detectors.
    `twins` counts the near-copies of each training slice among the other training slices, such as
    the next slice of the same patient. `models` were trained on `train`.
    """

    train: SliceSet
    val: SliceSet
    seen: SliceFeatures
    unseen: SliceFeatures
    held_out: memorisation.Similarity
    thresholds: memorisation.Thresholds
    norm: slice_checks.TrainingStatistics
    bounds: dict[str, float]
    twins: memorisation.NearDuplicates
    models: reference_models.ReferenceModels


def prepare_reference(
    train: SliceSet, val: SliceSet, config: Gate, *, device: str = "cpu"
) -> Reference:
    """Measure real slices; every limit of a single slice comes from the validation patients.

    Args:
        train: slices that the generator saw; table with `row`, `subject`, `label`.
        val: slices of patients it never saw; same columns.
        config: the limits.
        device: where the feature network runs.

    Raises:
        CannotJudgeError: when there are too few real slices or patients.
        InputError: when sizes differ.
    """
    if lacking := why_no_verdict(train.table, val.table):
        raise CannotJudgeError("; ".join(lacking))
    check_size("training", train, val)
    seen, unseen = (compute_slice_features(side, device=device) for side in (train, val))
    models, seen, unseen = reference_models.fit_reference_models(
        train, val, seen, unseen, config, device=device
    )
    held_out = memorisation.measure_similarity(
        val, unseen, (train, seen), (val, unseen),
        max_shift=config.max_shift, workers=config.threads, held_out=True, device=device,
    )  # fmt: skip
    norm = slice_checks.training_statistics(seen)
    bounds = slice_checks.check_bounds(
        slice_checks.check_scores(unseen, held_out, norm), tolerance=config.tolerance
    )
    unseen = add_similarity(unseen, held_out)
    twins = memorisation.near_duplicates(
        train.images, held_out, workers=config.threads, device=device
    )
    return Reference(
        train,
        val,
        seen,
        unseen,
        held_out,
        memorisation.calibrate_thresholds(held_out),
        norm,
        bounds,
        twins,
        models,
    )


def evaluate(
    synthetic: SliceSet, real: Reference, config: Gate, *, device: str = "cpu"
) -> GateResult:
    """Compare synthetic slices with training slices (copies) and validation patients (all else).

    Args:
        synthetic: table with `row`, `seed`, `label`.
        real: training slices and validation patients.
        config: the limits.
        device: where the feature network runs.

    Raises:
        CannotJudgeError: when there are too few synthetic slices.
        InputError: when sizes differ.
    """
    check_size("synthetic", synthetic, real.val)
    features = compute_slice_features(synthetic, device=device)
    features = real.models.add_outputs(features, synthetic, device=device)
    safe = features.images
    found = memorisation.measure_similarity(
        SliceSet(safe, synthetic.masks, synthetic.table), features,
        (real.train, real.seen), (real.val, real.unseen),
        max_shift=config.max_shift, workers=config.threads, device=device,
    )  # fmt: skip
    scores = slice_checks.check_scores(features, found, real.norm)
    reasons = slice_checks.rejection_reasons(
        copies=np.any(list(memorisation.detected_copies(found, real.thresholds).values()), axis=0),
        broken=slice_checks.invalid_images(synthetic),
        wrong_mask=slice_checks.wrong_masks(synthetic, features),
        scores=scores,
        bounds=real.bounds,
    )
    twins = memorisation.near_duplicates(
        safe, real.held_out, most=near_copies_to_count(len(safe), len(real.train)),
        workers=config.threads, device=device,
    )  # fmt: skip
    samples = samples_table(
        synthetic, real.train, found, real.thresholds, scores=scores, reasons=reasons
    ).assign(twin=twins.counts > 0)
    accepted_features = slices_for_set_measures(add_similarity(features, found), samples, config)
    sets = Sets(accepted_features, real.seen, real.unseen)
    hashes = real.models.hashes()
    # These are hundreds of small eigenproblems: a second BLAS thread waits longer than it works.
    with threadpool_limits(1, user_api="blas"):
        measure_groups = catalogue(config, hashes, side=min(safe.shape[2:]))
        measures = measure_sets(sets, measure_groups, config)
        parts = subgroups(sets, measure_groups, measures, config)
    missing = not_measured(
        sets,
        measures,
        compared_labels(sets),
        real.thresholds,
        memorisation.count_comparable(real.held_out),
    )
    words = verdict_reasons(samples, measures, config, twins=(twins, real.twins))
    words += [
        f"{name}: not measured: {why}; {acceptance_hint(name, why, config)}"
        for name, why in blocking_parts(missing, sets, config).items()
    ]
    return GateResult(
        "rejected" if words else "accepted",
        words,
        {
            "n": len(samples),
            "accepted": int(samples["accepted"].sum()),
            "memorised": reasons.count("memorised"),
            "twins": int(samples["twin"].sum()),
        },
        measures,
        samples,
        real.bounds | real.thresholds.as_bounds(),
        parts,
        hashes,
        missing,
    )


def not_judged_result(synthetic: SliceSet, why: str) -> GateResult:
    """Return the rejection, for reason `why`, of a set that cannot be judged; no slice passes."""
    n = len(synthetic)
    return GateResult(
        "rejected",
        [f"not judged: {why}"],
        {"n": n, "accepted": 0, "memorised": 0},
        {},
        synthetic.table[["row", "seed", "label"]]
        .reset_index(drop=True)
        .assign(**dict.fromkeys(slice_checks.SCORES, np.nan), accepted=False, reason=UNJUDGED),
        {},
        {},
        {},
        {"everything": why},
    )


def near_copies_to_count(n: int, real: int) -> int:
    """Return up to how many near-copies are counted: more when the set exceeds the training set.

    With fewer than four times the quotient of the sizes, a slice may well have no near-copy in a
    subset.
    """
    return (
        memorisation.MOST_COUNTED
        if n <= real
        else max(memorisation.MOST_COUNTED, min(-(-4 * n // real), 64))
    )


def check_size(name: str, side: SliceSet, val: SliceSet) -> None:
    """Check that a set has enough slices, of the size of the validation slices.

    Raises:
        CannotJudgeError: when it has too few slices.
        InputError: when channels, rows or columns differ.
    """
    if len(side) < MIN_SLICES:
        raise CannotJudgeError(
            f"{len(side)} {name} slices, at least {MIN_SLICES} are needed to judge; add slices"
        )
    if side.images.shape[1:] != val.images.shape[1:]:
        raise InputError(
            f"{name} slices are {side.images.shape[1:]}, validation slices"
            f" {val.images.shape[1:]} (channels, rows, columns); resample one of them"
        )


def add_similarity(one: SliceFeatures, similarity: memorisation.Similarity) -> SliceFeatures:
    """Add each slice's SSIM with its nearest training slice, and whether the slice is upright."""
    found = similarity.to_train
    return replace(
        one,
        table=one.table.assign(
            nearest_train_ssim=1 - similarity.distances["ssim"][0],
            upright=(found.upright >= found.inverted).astype(np.float64),
        ),
    )


def samples_table(
    synthetic: SliceSet,
    train: SliceSet,
    found: memorisation.Similarity,
    thresholds: memorisation.Thresholds,
    *,
    scores: pd.DataFrame,
    reasons: list[str | None],
) -> pd.DataFrame:
    """Return the table of `samples.parquet`: one row per image, in the order of the images."""
    rows = train.table["row"].to_numpy()
    table = synthetic.table[["row", "seed", "label"]].reset_index(drop=True)
    return table.assign(
        **memorisation.copy_columns(found, thresholds, rows),
        **{name: scores[name].to_numpy() for name in slice_checks.SCORES},
        accepted=[reason is None for reason in reasons],
        reason=pd.array(reasons, dtype="str"),
    )


def slices_for_set_measures(
    features: SliceFeatures, samples: pd.DataFrame, config: Gate
) -> SliceFeatures:
    """Return the images that set-level measures use: the accepted ones, which would be released.

    When too few are accepted, of all or of one label, the set is rejected anyway. All images are
    then measured, so that the figures show what is wrong with the rejected ones.
    """
    keep = samples["accepted"].to_numpy()
    shares = with_frequent_labels(samples).groupby("label")["accepted"].mean()
    if keep.sum() < MIN_SLICES or min(keep.mean(), *shares) < config.min_accepted:
        return features
    return features.select(keep)


def with_frequent_labels(samples: pd.DataFrame) -> pd.DataFrame:
    """Return the images of those labels that have enough images for a meaningful share."""
    return samples[samples.groupby("label")["row"].transform("size") >= LEAST_OF_LABEL]


def verdict_reasons(
    samples: pd.DataFrame,
    measures: dict[str, Measure],
    config: Gate,
    *,
    twins: tuple[memorisation.NearDuplicates, memorisation.NearDuplicates],
) -> list[str]:
    """Return why the set is rejected, in words with figure and limit; empty when it is accepted."""
    n = len(samples)
    counts = Counter(samples["reason"].dropna())
    words = []
    if counts["memorised"] > config.max_memorised * n:
        words.append(
            f"memorised: {counts['memorised']} of {n} images are copies of training slices"
            f" (at most {config.max_memorised:.0%})"
        )
    equal = min(len(one.counts) for one in twins)
    share, of_real = (one.share_of(equal) for one in twins)
    most_twins = min(config.max_twins + of_real, 0.95)
    if share > most_twins:
        words.append(
            f"collapsed: {share:.0%} of {equal} images have a near-copy in the same set"
            f" (at most {most_twins:.0%}: real slices at equal n {of_real:.0%})"
        )
    accepted = int(samples["accepted"].sum())
    if accepted < max(MIN_SLICES, config.min_accepted * n):
        words.append(
            f"too few: {accepted} of {n} images are accepted (at least"
            f" {config.min_accepted:.0%}); {reject_reasons(samples)}"
        )
    else:
        for label, side in with_frequent_labels(samples).groupby("label"):
            passed = int(side["accepted"].sum())
            if passed < config.min_accepted * len(side):
                words.append(
                    f"one-sided: {passed} of {len(side)} images with label {label} are accepted"
                    f" (at least {config.min_accepted:.0%}); {reject_reasons(side)}"
                )
    for name, one in measures.items():
        if one.holds is False and one.limit is not None and one.ratio is not None:
            low, high = one.limit
            over = high is not None and one.ratio > high
            words.append(
                f"{name}: {format_ratio(one.ratio, high if over else low)} times that of real"
                " slices"
                f" ({'at most' if over else 'at least'} {high if over else low})"
            )
    return words


def format_ratio(ratio: float, limit: float | None) -> str:
    """Format a ratio with two decimal places, or with as many as distinguish it from its limit."""
    places = 2
    while round(ratio, places) == limit and places < MOST_PLACES:
        places += 1
    return f"{ratio:.{places}f}"


def reject_reasons(samples: pd.DataFrame) -> str:
    """Return the three most frequent faults in words."""
    counts = Counter(samples["reason"].dropna())
    return "refused: " + ", ".join(f"{n} {WORDS[word]}" for word, n in counts.most_common(3))
