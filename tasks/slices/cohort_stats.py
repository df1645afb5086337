"""`stats.json`: what was cut, split and matched, for the report and for whoever reads on."""

from typing import Any

import pandas as pd

from tasks.params.slices import Slices
from tasks.slices.patient_split import PartitionPlan
from tasks.slices.position_matching import auroc
from tasks.volumes.intensity_normalisation import Landmarks

METHODS = {
    "z-score": "percentile clip, z-score inside the brain, scaled to [-1, 1], per volume",
    "nyul": "landmarks (clip percentiles and deciles inside the brain) mapped onto those of the"
    " training patients, in [-1, 1]",
}


def describe(
    table: pd.DataFrame,
    kept: pd.DataFrame,
    sides: dict[str, dict[str, PartitionPlan]],
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
    """What was cut, before and after matching.

    Args:
        table: every slice that was cut.
        kept: those in the arrays.
        sides: of every patient in every fold.
        config: the params.
        scales: the standard scales, where there are any.
        skipped: sessions and volumes left out, each with its code.
        cut_off: sessions whose body is wider than the window.
        batches: that sessions were put together from.
        same_head: what the guard against two patients of one head came to.
        skull_stripped: whether all volumes show no skull; None: not known.
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
        "normalisation": normalisation(config, scales),
        "matching": {
            "before": {c: auroc_of(table, c) for c in ("position_mm", "brain_area_mm2")},
            "after": {c: auroc_of(kept, c) for c in ("position_mm", "brain_area_mm2")},
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
        "unused_patients": {fold: list(of.values()).count("unused") for fold, of in sides.items()},
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


def normalisation(config: Slices, scales: list[Landmarks] | None) -> dict[str, Any]:
    """How grey values became [-1, 1], so that it can be done again."""
    said: dict[str, Any] = {
        "method": METHODS[config.intensity],
        "clip_percentiles": config.clip_percentiles,
    }
    if scales is None:
        return said | {"z_range": config.z_range}
    names = zip(config.modalities, scales, strict=True)
    return said | {"landmarks": {name: one.tolist() for name, one in names}}


def auroc_of(table: pd.DataFrame, covariate: str) -> float | None:
    """AUROC of a covariate for the label over all slices."""
    return auroc(table[covariate].to_numpy(dtype=float), table["label"].to_numpy())
