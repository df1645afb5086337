"""Judge synthetic slices: each slice, then the set, then one verdict with reasons in words."""

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from tasks.common.slice_set import MIN_SLICES, SliceSet
from tasks.gate import memorisation, slice_checks
from tasks.gate.measure_catalogue import catalogue
from tasks.gate.membership import attack_images
from tasks.gate.reference import Reference, add_similarity, check_size
from tasks.gate.set_measures import Sets, compared_labels, measure_sets
from tasks.gate.slice_features import SliceFeatures, compute_slice_features
from tasks.gate.subgroups import subgroups
from tasks.gate.unmeasured import blocking_parts, find_unmeasured
from tasks.gate.verdict import GateResult, verdict_reasons, with_frequent_labels
from tasks.params.gate import Gate


def evaluate(
    synthetic: SliceSet, reference: Reference, config: Gate, *, device: str = "cpu"
) -> GateResult:
    """Compare synthetic slices with training slices (copies) and validation patients (all else).

    Args:
        synthetic: table with `row`, `seed`, `label`.
        reference: training slices and validation patients.
        config: the limits.
        device: where the feature network runs.

    Raises:
        CannotJudgeError: when there are too few synthetic slices.
        InputError: when sizes differ.
    """
    check_size("synthetic", synthetic, reference.val)
    features = compute_slice_features(synthetic, device=device)
    features = reference.models.add_outputs(features, synthetic, device=device)
    images = features.images
    similarity = memorisation.measure_similarity(
        SliceSet(images, synthetic.masks, synthetic.table), features,
        reference.searched, (reference.val, reference.val_features),
        max_shift=config.max_shift, workers=config.threads, device=device,
    )  # fmt: skip
    scores = slice_checks.check_scores(features, similarity, reference.statistics)
    copies = memorisation.detected_copies(similarity, reference.thresholds)
    faults = slice_checks.rejection_reasons(
        copies=np.any(list(copies.values()), axis=0),
        broken=slice_checks.invalid_images(synthetic),
        wrong_mask=slice_checks.wrong_masks(synthetic, features),
        scores=scores,
        bounds=reference.bounds,
    )
    near_copies = memorisation.near_duplicates(
        images, reference.held_out, most=near_copies_to_count(len(images), len(reference.train)),
        workers=config.threads, device=device,
    )  # fmt: skip
    samples = samples_table(
        synthetic,
        reference.searched[0],
        similarity,
        reference.thresholds,
        scores=scores,
        faults=faults,
    ).assign(twin=near_copies.counts > 0)
    compared = slices_for_set_measures(add_similarity(features, similarity), samples, config)
    sets = Sets(compared, reference.train_features, reference.val_features)
    hashes = reference.models.hashes()
    # These are hundreds of small eigenproblems: a second BLAS thread waits longer than it works.
    with threadpool_limits(1, user_api="blas"):
        measure_groups = catalogue(config, hashes, side=min(images.shape[2:]))
        measures = measure_sets(sets, measure_groups, config)
        parts = subgroups(sets, measure_groups, measures, config)
    unmeasured = find_unmeasured(
        sets,
        measures,
        compared_labels(sets),
        reference.thresholds,
        memorisation.count_comparable(reference.held_out),
    )
    blocking = blocking_parts(unmeasured, sets, config)
    return GateResult(
        verdict_reasons(
            samples,
            measures,
            {part: unmeasured[part] for part in blocking},
            config,
            near_copies=(near_copies, reference.near_copies),
        ),
        {
            "n": len(samples),
            "accepted": int(samples["accepted"].sum()),
            "memorised": faults.count("memorised"),
            "twins": int(samples["twin"].sum()),
        },
        measures,
        samples,
        reference.bounds | reference.thresholds.as_bounds(),
        parts,
        hashes,
        unmeasured,
        blocking,
        attack_images(compared, reference.searched[1], reference.val_features),
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
