"""Measure the real slices once, with which any number of synthetic sets can be compared."""

from dataclasses import dataclass, replace

import numpy as np

from tasks.common.gate_requirements import CannotJudgeError, why_no_verdict
from tasks.common.slice_set import MIN_SLICES, SliceSet
from tasks.gate import memorisation, reference_models, slice_checks
from tasks.gate.slice_features import SliceFeatures, compute_slice_features
from tasks.params.gate import Gate
from tasks.stage.errors import InputError


@dataclass(frozen=True)
class Reference:
    """Real slices and what was measured of them.

    `train` are the labelled slices that the generator saw, `val` those of patients it never saw,
    each with features; copies are sought among `searched`, all slices that it saw. `held_out` is
    the similarity of the validation slices to them.
    `bounds` are the highest scores allowed for a single slice, `thresholds` the limits of the copy
    detectors. `near_copies` counts the near-copies of each training slice among the other training
    slices, such as the next slice of the same patient. `models` were trained on `train`.
    """

    train: SliceSet
    val: SliceSet
    searched: tuple[SliceSet, SliceFeatures]
    train_features: SliceFeatures
    val_features: SliceFeatures
    held_out: memorisation.Similarity
    thresholds: memorisation.Thresholds
    statistics: slice_checks.TrainingStatistics
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
    if shortfalls := why_no_verdict(train.table, val.table):
        raise CannotJudgeError("; ".join(map(str, shortfalls)))
    check_size("training", train, val)
    train_features, val_features = (
        compute_slice_features(slices, device=device) for slices in (train, val)
    )
    models, train_features, val_features = reference_models.fit_reference_models(
        train, val, train_features, val_features, config, device=device
    )
    searched = train, train_features
    if seen_unlabelled is not None and len(seen_unlabelled):
        more = compute_slice_features(seen_unlabelled, device=device)
        searched = train.joined_with(seen_unlabelled), train_features.joined_for_search(more)
    held_out = memorisation.measure_similarity(
        val, val_features, searched, (val, val_features),
        max_shift=config.max_shift, workers=config.threads, held_out=True, device=device,
    )  # fmt: skip
    statistics = slice_checks.training_statistics(train_features)
    bounds = slice_checks.check_bounds(
        slice_checks.check_scores(val_features, held_out, statistics), tolerance=config.tolerance
    )
    val_features = add_similarity(val_features, held_out)
    near_copies = memorisation.near_duplicates(
        train.images, held_out, workers=config.threads, device=device
    )
    return Reference(
        train,
        val,
        searched,
        train_features,
        val_features,
        held_out,
        memorisation.calibrate_thresholds(held_out),
        statistics,
        bounds,
        near_copies,
        models,
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
