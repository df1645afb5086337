"""Small made-up slices, pools and params, for the tests of the downstream stage."""

import json
import tempfile
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import yaml

from tests.tasks.file_cache import read_files, write_files

SIZE = 32
ARMS = ["real", "real+classical", "real+synthetic", "real+classical+synthetic", "synthetic"]


def picture(rng: np.random.Generator, label: int) -> tuple[np.ndarray, np.ndarray]:
    """A grey disc of a brain, with a bright disc in it when `label` is 1."""
    y, x = np.mgrid[:SIZE, :SIZE]
    brain = (y - 15.5) ** 2 + (x - 15.5) ** 2 < 13**2
    image = np.where(brain, rng.uniform(-0.3, 0.0), -1.0) + 0.05 * rng.normal(size=(SIZE, SIZE))
    row, column = rng.uniform(10, 21, size=2)
    mask = ((y - row) ** 2 + (x - column) ** 2 < rng.uniform(3, 5) ** 2) & (label == 1)
    return np.clip(image + 0.7 * mask, -1, 1)[None], mask


def write_slices(root: Path, *, patients: int = 24, slices: int = 6, seed: int = 0) -> None:
    """`data/slices` of patients in thirds: training, validation, test."""
    rng = np.random.default_rng(seed)
    drawn, rows = [], []
    for position in range(patients):
        side = ("train", "val", "test")[position % 3]
        for index in range(slices):
            drawn.append(picture(rng, index % 2))
            rows.append(
                {"row": len(rows), "subject": f"sub-{position:03d}", "batch": "b",
                 "site": "ab"[position % 2], "slice_index": index, "position_mm": float(index),
                 "brain_area_mm2": 500.0, "tumor_area_mm2": float(drawn[-1][1].sum()) * 4,
                 "label": index % 2, "partition_0": side}
            )  # fmt: skip
    folder = root / "data/slices"
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "images.npy", np.stack([d[0] for d in drawn]).astype(np.float16))
    np.save(folder / "masks.npy", np.stack([d[1] for d in drawn]).astype(np.uint8))
    pd.DataFrame(rows).to_parquet(folder / "slices.parquet")
    (folder / "stats.json").write_text(json.dumps({"size": SIZE, "pixel_mm": 2.0}))


def write_volumes(root: Path, *, patients: int = 24, slices: int = 6, seed: int = 2) -> None:
    """`data/volumes/b`: fresh pictures of the same patients, at twice the slices' resolution."""
    rng = np.random.default_rng(seed)
    folder = root / "data/volumes/b"
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for position in range(patients):
        drawn = [picture(rng, index % 2) for index in range(slices)]
        image = np.stack([d[0][0] for d in drawn], axis=2)
        mask = np.stack([d[1] for d in drawn], axis=2)
        row = {"subject": f"sub-{position:03d}", "session": "", "modality": "FLAIR",
               "mask_status": "segmented", "shape": [2 * SIZE, 2 * SIZE, slices],
               "spacing_mm": [1.0, 1.0, 5.0], "orientation": "RAS", "source_format": "nifti",
               "source_sha256": "0", "site": "ab"[position % 2], "synthetic": False}  # fmt: skip
        for name, array in (("image", 100 * (image + 1)), ("mask", mask)):
            # Rows run to posterior and columns to the left: RAS has both turned round.
            native = array.transpose(1, 0, 2)[::-1, ::-1].repeat(2, axis=0).repeat(2, axis=1)
            row[name] = f"{row['subject']}_{name}.nii.gz"
            nib.save(
                nib.Nifti1Image(native.astype(np.float32), np.diag([1.0, 1.0, 5.0, 1.0])),
                folder / row[name],
            )
        rows.append(row)
    pd.DataFrame(rows).to_parquet(folder / "manifest.parquet")


def write_pool(root: Path, arm: str, count: int = 0, *, status: str = "ok", seed: int = 1) -> None:
    """`data/pool/ARM` with `count` fresh slices, or none."""
    rng = np.random.default_rng(seed)
    folder = root / "data/pool" / arm
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [picture(rng, index % 2) for index in range(count)]
    images = np.array([d[0] for d in drawn]).reshape(-1, 1, SIZE, SIZE)
    masks = np.array([d[1] for d in drawn]).reshape(-1, SIZE, SIZE)
    np.save(folder / "images.npy", images.astype(np.float16))
    np.save(folder / "masks.npy", masks.astype(np.uint8))
    index = np.arange(count)
    table = pd.DataFrame(
        {"row": index, "fold": pd.Series(["0"] * count, dtype="str"), "label": index % 2,
         "source_row": index}
    )  # fmt: skip
    table.to_parquet(folder / "samples.parquet")
    status = status if "synthetic" in arm else "none"
    (folder / "pool.json").write_text(json.dumps({"0": {"status": status, "n": count}}))


def write(
    root: Path,
    *,
    steps: int = 8,
    seeds: tuple[int, ...] = (0, 1),
    reruns: int = 0,
    patients: int = 24,
) -> None:
    """A whole little world: params, slices and a pool for every arm."""
    training = {"steps": steps, "batch": 8, "learning_rate": 0.003, "evaluations": 2}
    tree = {
        "slices": {
            "size": SIZE, "spacing_mm": 2.0, "modalities": ["FLAIR"], "folds": [0],
            "val_fraction": 0.3, "test_fraction": 0.3, "seed": 0,
        },
        "downstream": {
            "tasks": ["classify", "segment"], "arms": ARMS, "seeds": list(seeds),
            "reruns": reruns, "threads": 1, "classify": training | {"network": "resnet"},  # quick
            "segment": training | {"components": "all"},  # its slices hold tumours of their own
        },
    }  # fmt: skip
    (root / "params.yaml").write_text(yaml.safe_dump(tree))
    write_files(root, slices_and_pools(patients))


@cache
def slices_and_pools(patients: int) -> dict[str, bytes]:
    """Make slices, volumes and pools, which take longer to compress than to copy."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_slices(root, patients=patients)
        write_volumes(root, patients=patients)
        for arm in ARMS:
            write_pool(root, arm, 40 if "synthetic" in arm else 0)
        return read_files(root)


def table(task: str, arm: str, name: str) -> pd.DataFrame:
    """A table that `downstream` wrote in the working directory."""
    return pd.read_parquet(f"data/downstream/{task}-{arm}/{name}.parquet")
