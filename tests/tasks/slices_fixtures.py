"""A small cohort on disk as `ingest` leaves it, and what `slices` made of it."""

import json
import tempfile
from contextlib import chdir
from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import yaml

from tasks.slices.__main__ import main
from tests.tasks.file_cache import read_files, write_files

BASE = {
    "size": 64,
    "spacing_mm": 3.0,
    "modalities": ["FLAIR"],
    "folds": [0],
    "val_fraction": 0.25,
    "test_fraction": 0.25,
    "seed": 1,
    "same_head": "off",  # a sixth of the stage's time; test_slices_same_head.py looks
}


def head(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> np.ndarray:
    """Millimetres from the centre, (3,X,Y,Z)."""
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def patient(
    seed: int, *, tumor: bool, spacing: tuple[float, float, float] = (3.0, 3.0, 6.0)
) -> tuple[np.ndarray, np.ndarray]:
    """An ellipsoid brain; tumours lie in its upper half only, so position tells the label."""
    volume, mask = simulated_patient(seed, tumor, spacing)
    return volume.copy(), mask.copy()


@cache
def simulated_patient(
    seed: int, tumor: bool, spacing: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """The volume and mask of `patient`, which many tests ask for."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(180 / s) for s in spacing)
    mm = head(shape, spacing)
    brain = (mm[0] / 65) ** 2 + (mm[1] / 80) ** 2 + (mm[2] / 60) ** 2 < 1
    centre = np.array([rng.uniform(-25, 25), rng.uniform(-30, 30), 30.0])
    radius = np.linalg.norm(mm - centre[:, None, None, None], axis=0)
    mask = (radius < 14) & brain & tumor
    volume = brain * (100.0 + rng.normal(0, 8, shape)) + 60.0 * mask
    return volume.clip(0).astype(np.float32), mask.astype(np.uint8)


def write_cohort(
    root: Path, n: int = 16, *, tumors: bool = True, batch: str = "b", **overrides: Any
) -> pd.DataFrame:
    """n patients of two sites, every other one with a tumour."""
    folder = root / "data/volumes" / batch
    rows = []
    for index in range(n):
        subject, site = f"sub-{batch}{index:02d}", "AB"[index // 2 % 2]
        volume, mask = patient(index, tumor=tumors and index % 2 == 0)
        affine = np.diag([3.0, 3.0, 6.0, 1.0])
        (folder / subject).mkdir(parents=True)
        nib.save(nib.Nifti1Image(volume, affine), folder / subject / "FLAIR.nii")
        nib.save(nib.Nifti1Image(mask, affine), folder / subject / "mask.nii")
        rows.append(
            {
                "subject": subject,
                "session": None,
                "modality": "FLAIR",
                "image": f"{subject}/FLAIR.nii",
                "mask": f"{subject}/mask.nii",
                "mask_status": "segmented" if mask.any() else "empty",
                "shape": list(volume.shape),
                "spacing_mm": [3.0, 3.0, 6.0],
                "orientation": "RAS",
                "source_format": "nifti",
                "source_sha256": "0" * 64,
                "site": site,
                "synthetic": False,
            }
        )
    manifest = pd.DataFrame(rows)
    manifest["session"] = manifest["session"].astype("str").where(manifest["session"].notna())
    manifest.to_parquet(folder / "manifest.parquet", index=False)
    tree = {"data": {"batches": [batch]}, "slices": BASE | overrides}
    (root / "params.yaml").write_text(yaml.safe_dump(tree))
    return manifest


def write_sliced_cohort(root: Path, n: int = 16, **overrides: Any) -> pd.DataFrame:
    """`write_cohort` and what `slices` makes of it, which is computed once for equal arguments."""
    files, manifest = sliced_cohort(n, json.dumps(overrides))
    write_files(root, files)
    return manifest.copy()


@cache
def sliced_cohort(n: int, overrides: str) -> tuple[dict[str, bytes], pd.DataFrame]:
    """The files of `write_sliced_cohort`, and the manifest; `overrides` is JSON."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        manifest = write_cohort(Path(folder), n, **json.loads(overrides))
        main()
        return read_files(Path(folder)), manifest


def outputs(root: Path) -> tuple[np.ndarray, np.ndarray, pd.DataFrame, dict[str, Any]]:
    folder = root / "data/slices"
    return (
        np.load(folder / "images.npy"),
        np.load(folder / "masks.npy"),
        pd.read_parquet(folder / "slices.parquet"),
        json.loads((folder / "stats.json").read_text()),
    )


def rewrite(root: Path, manifest: pd.DataFrame, batch: str = "b") -> None:
    """Put a changed manifest in the place of the batch's own."""
    manifest["session"] = manifest["session"].astype("str").where(manifest["session"].notna())
    manifest.to_parquet(root / f"data/volumes/{batch}/manifest.parquet", index=False)


def hide_patient(root: Path, subject: str) -> np.ndarray:
    """Hide a patient's labels and outlines, as `slices.unlabelled_patients` does; return rows."""
    path = root / "data/slices/slices.parquet"
    table, masks = pd.read_parquet(path), np.load(root / "data/slices/masks.npy")
    hidden = (table["subject"] == subject).to_numpy()
    known = table.get("mask_known", pd.Series(True, index=table.index))
    table["mask_known"] = known & ~hidden
    table.loc[hidden, ["label", "tumor_area_mm2"]] = [-1, 0.0]
    table["label"] = table["label"].astype("int64")
    table.to_parquet(path)
    np.save(root / "data/slices/masks.npy", np.where(hidden[:, None, None], 0, masks))
    return hidden


def ask(root: Path, **changes: Any) -> None:
    """Change leaves of the params' section `slices`."""
    tree = yaml.safe_load((root / "params.yaml").read_text())
    tree["slices"] |= changes
    (root / "params.yaml").write_text(yaml.safe_dump(tree))
