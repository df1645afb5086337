"""Compute `stats.json`: what was sliced, split and matched, for the report and for later stages."""

from typing import Any

import pandas as pd

from tasks.params.slices import Slices
from tasks.slices.patient_split import PatientUse
from tasks.slices.position_matching import covariate_auroc
from tasks.volumes.intensity_normalisation import Landmarks

NORMALISATION_METHODS = {
    "z-score": "percentile clip, z-score inside the brain, scaled to [-1, 1], per volume",
    "nyul": "landmarks (clip percentiles and deciles inside the brain) mapped onto those of the"
    " training patients, in [-1, 1]",
}


def cohort_statistics(
    table: pd.DataFrame,
    kept: pd.DataFrame,
    partitions_by_fold: dict[str, dict[str, PatientUse]],
    config: Slices,
    *,
    scales: list[Landmarks] | None,
    skipped: list[dict[str, str]],
    cut_off: int,
    batches: list[str],
    same_head: dict[str, Any],
    skull_stripped: bool | None,
    chosen_by: dict[str, str],
) -> dict[str, Any]:
    """Summarise the slices before and after matching.

    Args:
        table: every extracted slice.
        kept: the slices in the arrays.
        partitions_by_fold: the partition of every patient.
        config: the params.
        scales: the standard scales, where there are any.
        skipped: sessions and volumes left out, each with its code.
        cut_off: number of sessions whose body is wider than the window.
        batches: the batches that the sessions come from.
        same_head: the result of the check for two patients with the same head.
        skull_stripped: whether all volumes show no skull; None: unknown.
        chosen_by: how training and validation slices of each fold were chosen, in words.
    """
    label = kept["label"].to_numpy()
    return {
        "batches": batches,
        "size": config.size,
        "pixel_mm": config.spacing_mm,
        "scale": config.scale,
        "cut_off": cut_off,
        "same_head": same_head,
        "skull_stripped": skull_stripped,
        "modalities": config.modalities,
        "normalisation": describe_normalisation(config, scales),
        "matching": {
            "before": {c: label_auroc(table, c) for c in ("position_mm", "brain_area_mm2")},
            "after": {c: label_auroc(kept, c) for c in ("position_mm", "brain_area_mm2")},
        },
        "training_slices": chosen_by,
        "tumor_slices": {
            "all": int(table["tumor"].sum()),
            "too_small": int((table["label"] == -2).sum()),
            "without_matching_negative": int((table["label"] == 1).sum() - (label == 1).sum()),
        },
        "labels": {str(v): int((label == v).sum()) for v in (-1, 0, 1)},
        "masks_known": bool(kept["mask_known"].all()),
        "patients_known": bool(table["patient_known"].all()),
        "unused_patients": {
            fold: list(partition_of.values()).count("unused")
            for fold, partition_of in partitions_by_fold.items()
        },
        "unlabelled_patients": {
            fold: list(partition_of.values()).count("unlabelled")
            for fold, partition_of in partitions_by_fold.items()
        },
        "skipped": skipped,
        "subjects": {
            str(subject): {
                "site": str(rows["site"].iloc[0]),
                "batch": str(rows["batch"].iloc[0]),
                "slices": len(rows),
                "tumor_slices": int(rows["tumor"].sum()),
                "kept": int((kept["subject"] == subject).sum()),
            }
            for subject, rows in table.groupby("subject", sort=True)
        },
    }


def describe_normalisation(config: Slices, scales: list[Landmarks] | None) -> dict[str, Any]:
    """Describe how grey values were mapped to [-1, 1], so that it can be repeated."""
    description: dict[str, Any] = {
        "method": NORMALISATION_METHODS[config.intensity],
        "clip_percentiles": config.clip_percentiles,
    }
    if scales is None:
        return description | {"z_range": config.z_range}
    channels = zip(config.modalities, scales, strict=True)
    return description | {"landmarks": {name: scale.tolist() for name, scale in channels}}


def label_auroc(table: pd.DataFrame, covariate: str) -> float | None:
    """Compute the AUROC of a covariate for the label over all slices."""
    return covariate_auroc(table[covariate].to_numpy(dtype=float), table["label"].to_numpy())
