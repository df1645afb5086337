"""Judge synthetic slices: each slice, then the set, then one verdict with reasons in words."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from tasks.common.gate_requirements import CannotJudgeError, why_no_verdict
from tasks.common.slice_set import MIN_SLICES, SliceSet
from tasks.gate import memorisation, reference_models, slice_checks
from tasks.gate.measure_catalogue import catalogue
from tasks.gate.membership import attack_images
from tasks.gate.set_measures import Sets, compared_labels, measure_sets
from tasks.gate.slice_features import SliceFeatures, compute_slice_features
from tasks.gate.subgroups import subgroups
from tasks.gate.unmeasured import acceptance_hint, blocking_parts, not_measured
from tasks.gate.verdict import GateResult, verdict_reasons, with_frequent_labels
from tasks.params.gate import Gate
from tasks.stage.errors import InputError


@dataclass(frozen=True)
class Reference:
    """Real slices, measured once, with which any number of synthetic sets can be compared.

    `train` are the labelled slices that the generator saw, `val` those of patients it never saw;
    copies are sought among `searched`, which are all slices that it saw, with their features.
    `bounds` are the highest scores allowed for a single slice, `thresholds` the limits of the copy
    detectors. `near_copies` counts the near-copies of each training slice among the other training
    slices, such as the next slice of the same patient. `models` were trained on `train`.
    """

    train: SliceSet
    val: SliceSet
    searched: tuple[SliceSet, SliceFeatures]
    seen: SliceFeatures
    unseen: SliceFeatures
    held_out: memorisation.Similarity
    thresholds: memorisation.Thresholds
    norm: slice_checks.TrainingStatistics
    bounds: dict[str, float]
    near_copies: memorisation.NearDuplicates
    models: reference_models.ReferenceModels


def prepare_reference(
    train: SliceSet,
    val: SliceSet,
    config: Gate,
    *,
    device: str = "cpu",
    seen_unlabelled: SliceSet | None = None,
) -> Reference:
    """Measure real slices; every limit of a single slice comes from the validation patients.

    Args:
        train: slices that the generator saw; table with `row`, `subject`, `label`.
        val: slices of patients it never saw; same columns.
        config: the limits.
        device: where the feature network runs.
        seen_unlabelled: slices without labels that the generator saw too; copies are sought among
            them as well.

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
    searched = train, seen
    if seen_unlabelled is not None and len(seen_unlabelled):
        more = compute_slice_features(seen_unlabelled, device=device)
        searched = train.joined_with(seen_unlabelled), seen.joined_for_search(more)
    held_out = memorisation.measure_similarity(
        val, unseen, searched, (val, unseen),
        max_shift=config.max_shift, workers=config.threads, held_out=True, device=device,
    )  # fmt: skip
    norm = slice_checks.training_statistics(seen)
    bounds = slice_checks.check_bounds(
        slice_checks.check_scores(unseen, held_out, norm), tolerance=config.tolerance
    )
    unseen = add_similarity(unseen, held_out)
    near_copies = memorisation.near_duplicates(
        train.images, held_out, workers=config.threads, device=device
    )
    return Reference(
        train,
        val,
        searched,
        seen,
        unseen,
        held_out,
        memorisation.calibrate_thresholds(held_out),
        norm,
        bounds,
        near_copies,
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
    images = features.images
    similarity = memorisation.measure_similarity(
        SliceSet(images, synthetic.masks, synthetic.table), features,
        real.searched, (real.val, real.unseen),
        max_shift=config.max_shift, workers=config.threads, device=device,
    )  # fmt: skip
    scores = slice_checks.check_scores(features, similarity, real.norm)
    copies = memorisation.detected_copies(similarity, real.thresholds)
    faults = slice_checks.rejection_reasons(
        copies=np.any(list(copies.values()), axis=0),
        broken=slice_checks.invalid_images(synthetic),
        wrong_mask=slice_checks.wrong_masks(synthetic, features),
        scores=scores,
        bounds=real.bounds,
    )
    near_copies = memorisation.near_duplicates(
        images, real.held_out, most=near_copies_to_count(len(images), len(real.train)),
        workers=config.threads, device=device,
    )  # fmt: skip
    samples = samples_table(
        synthetic, real.searched[0], similarity, real.thresholds, scores=scores, faults=faults
    ).assign(twin=near_copies.counts > 0)
    compared = slices_for_set_measures(add_similarity(features, similarity), samples, config)
    sets = Sets(compared, real.seen, real.unseen)
    hashes = real.models.hashes()
    # These are hundreds of small eigenproblems: a second BLAS thread waits longer than it works.
    with threadpool_limits(1, user_api="blas"):
        measure_groups = catalogue(config, hashes, side=min(images.shape[2:]))
        measures = measure_sets(sets, measure_groups, config)
        parts = subgroups(sets, measure_groups, measures, config)
    missing = not_measured(
        sets,
        measures,
        compared_labels(sets),
        real.thresholds,
        memorisation.count_comparable(real.held_out),
    )
    blocking = blocking_parts(missing, sets, config)
    reasons = verdict_reasons(
        samples, measures, config, near_copies=(near_copies, real.near_copies)
    )
    reasons += [
        f"{part}: not measured: {missing[part].why}; {acceptance_hint(part, missing[part], config)}"
        for part in blocking
    ]
    return GateResult(
        "rejected" if reasons else "accepted",
        reasons,
        {
            "n": len(samples),
            "accepted": int(samples["accepted"].sum()),
            "memorised": faults.count("memorised"),
            "twins": int(samples["twin"].sum()),
        },
        measures,
        samples,
        real.bounds | real.thresholds.as_bounds(),
        parts,
        hashes,
        {part: missing[part].why for part in missing},
        blocking,
        attack_images(compared, real.searched[1], real.unseen),
    )


def near_copies_to_count(n: int, real: int) -> int:
    """Return up to how many near-copies of a slice are counted, among n slices.

    `NearDuplicates.share_of` assumes that a slice with that many has one in every subset of the
    training set's size (`real`). That is nearly true from 4 n / real on; 64 bound the memory.
    """
    return (
        memorisation.MOST_COUNTED
        if n <= real
        else max(memorisation.MOST_COUNTED, min(-(-4 * n // real), 64))
    )


def check_size(name: str, slices: SliceSet, val: SliceSet) -> None:
    """Check that a set has enough slices, of the size of the validation slices.

    Raises:
        CannotJudgeError: when it has too few slices.
        InputError: when channels, rows or columns differ.
    """
    if len(slices) < MIN_SLICES:
        raise CannotJudgeError(
            f"{len(slices)} {name} slices, at least {MIN_SLICES} are needed to judge; add slices"
        )
    if slices.images.shape[1:] != val.images.shape[1:]:
        raise InputError(
            f"{name} slices are {slices.images.shape[1:]}, validation slices"
            f" {val.images.shape[1:]} (channels, rows, columns); resample one of them"
        )


def add_similarity(features: SliceFeatures, similarity: memorisation.Similarity) -> SliceFeatures:
    """Add each slice's SSIM with its nearest training slice, and whether the slice is upright."""
    nearest = similarity.to_train
    return replace(
        features,
        table=features.table.assign(
            nearest_train_ssim=1 - similarity.distances["ssim"][0],
            upright=(nearest.upright >= nearest.inverted).astype(np.float64),
        ),
    )


def samples_table(
    synthetic: SliceSet,
    searched: SliceSet,
    similarity: memorisation.Similarity,
    thresholds: memorisation.Thresholds,
    *,
    scores: pd.DataFrame,
    faults: list[str | None],
) -> pd.DataFrame:
    """Return the table of `samples.parquet`: one row per image, in the order of the images."""
    rows = searched.table["row"].to_numpy()
    table = synthetic.table[["row", "seed", "label"]].reset_index(drop=True)
    return table.assign(
        **memorisation.copy_columns(similarity, thresholds, rows),
        **{name: scores[name].to_numpy() for name in slice_checks.SCORES},
        accepted=[fault is None for fault in faults],
        reason=pd.array(faults, dtype="str"),
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
