"""Cut canonical volumes into slices of one grid, match negatives, split by patient.

Reads `data/volumes/BATCH/` of the listed batches; writes `data/slices/`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.processing import resample_from_to
from numpy.typing import NDArray

from tasks import params, stage
from tasks.arrays import save_set
from tasks.params.slices import Slices
from tasks.slices.matching import auroc, match_negatives
from tasks.slices.split import split_patients
from tasks.slices.volume import Volume, brain_mask, normalise, sample, sample_mask, window
from tasks.stage import StageError
from tasks.tables.manifest import Manifest
from tasks.tables.slices import Slices as SlicesTable


@dataclass(frozen=True)
class Cut:
    """All slices of one session: `images` (Z,C,H,W), `masks` (Z,H,W), `table` Z rows."""

    images: Volume
    masks: NDArray[np.uint8]
    table: pd.DataFrame


def main() -> None:
    """Run the stage from the repository's root."""
    config = params.read(Slices)
    batches: list[str] = params.read_key("data.batches")
    manifest = read_manifests(batches)
    cuts, skipped = cut_all(manifest, config)
    table = pd.concat([cut.table for cut in cuts], ignore_index=True)
    folds = [str(fold) for fold in config.folds]
    sides = split_patients(
        patients_of(table),
        folds=folds,
        val_fraction=config.val_fraction,
        test_fraction=config.test_fraction,
        seed=config.seed,
    )
    for fold in folds:
        table[f"partition_{fold}"] = table["subject"].map(sides[fold])
    keep = choose(table, folds, config)
    kept = table[keep].reset_index(drop=True)
    kept.insert(0, "row", np.arange(len(kept)))
    SlicesTable.validate(kept)
    images = np.concatenate([cut.images for cut in cuts])[keep]  # (N,C,H,W)
    masks = np.concatenate([cut.masks for cut in cuts])[keep]  # (N,H,W)
    with stage.output(Path("data/slices")) as folder:
        save_set(folder, images, masks)
        kept.drop(columns=["synthetic", "native_tumor", "patient_known"]).to_parquet(
            folder / "slices.parquet", index=False
        )
        stats = describe(table, kept, skipped, config)
        (folder / "stats.json").write_text(json.dumps(stats, indent=1) + "\n")
    print(
        f"slices: {len(kept)} of {len(table)} slices kept,"
        f" {int((kept['label'] == 1).sum())} with tumour, {kept['subject'].nunique()} patients"
    )


def read_manifests(batches: list[str]) -> pd.DataFrame:
    """The manifests of the listed batches in one table, with `batch` and a usable `path`."""
    tables = []
    for batch in sorted(batches):
        folder = Path("data/volumes") / batch
        table = Manifest.validate(pd.read_parquet(folder / "manifest.parquet"))
        tables.append(table.assign(batch=batch, folder=str(folder)))
    return pd.concat(tables, ignore_index=True)


def cut_all(manifest: pd.DataFrame, config: Slices) -> tuple[list[Cut], list[dict[str, str]]]:
    """Cut every session that has all the modalities; say which were left out and why."""
    cuts: list[Cut] = []
    skipped: list[dict[str, str]] = []
    session = manifest["session"].fillna("")
    for key, volumes in manifest.groupby(["subject", session], sort=True):
        subject, name = map(str, key)
        rows = [volumes[volumes["modality"] == m].sort_values("image") for m in config.modalities]
        missing = [m for m, found in zip(config.modalities, rows, strict=True) if not len(found)]
        if missing:
            code = "missing-modality"
            skipped.append(
                {"subject": subject, "session": name, "code": code, "modality": missing[0]}
            )
            continue
        cut = cut_session([found.iloc[0] for found in rows], config)
        if cut is None:
            skipped.append({"subject": subject, "session": name, "code": "no-brain"})
        else:
            cuts.append(cut)
    if not cuts:
        held = ", ".join(sorted(manifest["modality"].unique()))
        raise StageError(
            f"no session has all of slices.modalities {config.modalities}; the manifests hold"
            f" {held}; change slices.modalities or data.batches"
        )
    return cuts, skipped


def cut_session(rows: "list[pd.Series[Any]]", config: Slices) -> Cut | None:
    """Cut one session; later modalities and the mask are brought onto the first one's grid."""
    first = rows[0]
    folder = Path(first["folder"])
    reference = nib.load(folder / first["image"])
    channels = [np.asarray(reference.dataobj, dtype=np.float32)]
    for row in rows[1:]:
        image = nib.load(folder / row["image"])
        channels.append(
            np.asarray(resample_from_to(image, reference, order=1).dataobj, dtype=np.float32)
        )
    brain = brain_mask(channels[0])
    if not brain.any():
        return None
    spacing = reference.header.get_zooms()[:3]
    grid = window(brain, spacing[:2], pixel_mm=config.spacing_mm, size=config.size)
    images = [
        sample(
            normalise(
                channel, brain, clip_percentiles=config.clip_percentiles, z_range=config.z_range
            ),
            grid,
            fill=-1.0,
        )
        for channel in channels
    ]
    mask_row = next((row for row in rows if row["mask_status"] != "missing"), None)
    native = np.zeros(brain.shape, dtype=bool)
    if mask_row is not None and mask_row["mask_status"] == "segmented":
        mask = nib.load(folder / mask_row["mask"])
        if mask.shape != reference.shape or not np.allclose(mask.affine, reference.affine):
            mask = resample_from_to(mask, reference, order=0)
        native = np.asarray(mask.dataobj) > 0
    masks = sample_mask(native, grid)
    table = tabulate(first, native, masks, brain=brain, affine=reference.affine, config=config)
    if mask_row is None:
        table["label"] = -1
    return Cut(np.stack(images, axis=1), masks, table)  # (Z,C,H,W)


def tabulate(
    row: "pd.Series[Any]",
    native: NDArray[np.bool_],
    masks: NDArray[np.uint8],
    *,
    brain: NDArray[np.bool_],
    affine: NDArray[np.float64],
    config: Slices,
) -> pd.DataFrame:
    """One row a slice; -2 marks a tumour too small to call: neither label would be true."""
    depth = native.shape[2]
    native_tumor = native.any(axis=(0, 1))
    tumor_area_mm2 = masks.sum(axis=(1, 2)) * config.spacing_mm**2
    shown = (tumor_area_mm2 > 0) & (tumor_area_mm2 >= config.min_tumor_mm2)
    area_mm2 = float(np.linalg.norm(np.cross(affine[:3, 0], affine[:3, 1])))
    present = np.flatnonzero(brain.any(axis=(0, 1)))
    spacing_z = float(np.linalg.norm(affine[:3, 2]))
    return pd.DataFrame(
        {
            "subject": row["subject"],
            "session": str(row["session"] or ""),
            "batch": row["batch"],
            "site": row["site"],
            "slice_index": np.arange(depth),
            # From the middle of the imaged body: comparable between scanners' coordinates.
            "position_mm": (np.arange(depth) - (present[0] + present[-1]) / 2) * spacing_z,
            "brain_area_mm2": brain.sum(axis=(0, 1)) * area_mm2,
            "tumor_area_mm2": tumor_area_mm2,
            "label": np.where(shown, 1, np.where(native_tumor, -2, 0)),
            "synthetic": bool(row["synthetic"]),
            "patient_known": bool(row.get("patient_known", True)),
            "native_tumor": native_tumor,
        }
    )


def patients_of(table: pd.DataFrame) -> pd.DataFrame:
    """One row a patient: what the split is stratified by."""
    patients = table.groupby("subject", as_index=False).agg(
        site=("site", "first"), tumor=("native_tumor", "any"), synthetic=("synthetic", "any")
    )
    return patients


def choose(table: pd.DataFrame, folds: list[str], config: Slices) -> NDArray[np.bool_]:
    """Match negatives inside each group of patients that is on the same side in every fold.

    So no side's choice of slices depends on patients of another side.
    """
    keep = np.zeros(len(table), dtype=bool)
    columns = [f"partition_{fold}" for fold in folds]
    usable = table[table["label"] >= -1]
    for _, group in usable.groupby(columns, sort=True):
        chosen = match_negatives(
            group,
            ratio=config.negatives_per_positive,
            caliper=config.caliper,
            keep_unmatched=config.unmatched_tumors == "keep",
        )
        keep[group.index.to_numpy()[chosen]] = True
    return keep


def describe(
    table: pd.DataFrame, kept: pd.DataFrame, skipped: list[dict[str, str]], config: Slices
) -> dict[str, Any]:
    """What was cut, before and after matching."""
    subjects = {
        str(subject): {
            "site": str(rows["site"].iloc[0]),
            "batch": str(rows["batch"].iloc[0]),
            "slices": len(rows),
            "tumor_slices": int(rows["native_tumor"].sum()),
            "kept": int((kept["subject"] == subject).sum()),
        }
        for subject, rows in table.groupby("subject", sort=True)
    }
    label = kept["label"].to_numpy()
    return {
        "size": config.size,
        "pixel_mm": config.spacing_mm,
        "modalities": config.modalities,
        "normalisation": {
            "method": "percentile clip, z-score inside the brain, scaled to [-1, 1], per volume",
            "clip_percentiles": config.clip_percentiles,
            "z_range": config.z_range,
        },
        "matching": {
            "before": {c: auroc_of(table, c) for c in ("position_mm", "brain_area_mm2")},
            "after": {c: auroc_of(kept, c) for c in ("position_mm", "brain_area_mm2")},
        },
        "tumor_slices": {
            "all": int(table["native_tumor"].sum()),
            "too_small": int((table["label"] == -2).sum()),
            "without_matching_negative": int((table["label"] == 1).sum() - (label == 1).sum()),
        },
        "labels": {str(v): int((label == v).sum()) for v in (-1, 0, 1)},
        "patients_known": bool(table["patient_known"].all()),
        "skipped": skipped,
        "subjects": subjects,
    }


def auroc_of(table: pd.DataFrame, covariate: str) -> float | None:
    """AUROC of a covariate for the label over all slices."""
    return auroc(table[covariate].to_numpy(dtype=float), table["label"].to_numpy())


if __name__ == "__main__":
    stage.run(main)
