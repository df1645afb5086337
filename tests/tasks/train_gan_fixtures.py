"""A tiny data set and a tiny configuration on which the generator's stages run in seconds."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from tasks.common.slice_set import write_slice_set

OUT = Path("data/gan/0")

TINY: dict[str, Any] = {
    "seed": 3, "threads": 1, "steps": 6, "batch": 8, "width": 4, "latent": 8,
    "watch_every": 3, "sheet_every": 6, "precision": "fp32",
}  # fmt: skip
SIZE = 32


def write_workspace(
    root: Path,
    *,
    gan: dict[str, Any] | None = None,
    per_label: int = 40,
    channels: int = 1,
    zoom: int = 1,
    **keys: Any,
) -> Path:
    """Fill a folder with `params.yaml` and `data/slices` of simple heads with bright discs.

    Slices are `SIZE` pixels a side, times `zoom`.
    """
    rng = np.random.default_rng(1)
    n = 2 * per_label
    y, x = np.mgrid[:SIZE, :SIZE]
    images = np.full((n, channels, SIZE, SIZE), -1.0, np.float32)
    masks = np.zeros((n, SIZE, SIZE), np.uint8)
    labels = np.arange(n) % 2
    for row in range(n):
        a, b = rng.uniform(9, 13, 2)
        head = ((y - 16) / a) ** 2 + ((x - 16) / b) ** 2 < 1
        images[row, :, head] = rng.uniform(-0.4, 0.0)
        if labels[row]:
            cy, cx = rng.uniform(12, 20, 2)
            masks[row] = (y - cy) ** 2 + (x - cx) ** 2 < rng.uniform(6, 16)
            images[row][:, masks[row] > 0] = 0.7
    images += rng.normal(0, 0.02, images.shape).astype(np.float32)
    subjects = [f"sub-{row // 4:02d}" for row in range(n)]
    side = ["train", "val"]
    table = pd.DataFrame(
        {
            "row": np.arange(n), "subject": subjects, "label": labels,
            "tumor_area_mm2": masks.sum((1, 2)) * 9.0, "position_mm": rng.normal(0, 20, n),
            "partition_0": [side[int(row // 4 % 2)] for row in range(n)],
        }
    )  # fmt: skip
    folder = root / "data/slices"
    folder.mkdir(parents=True)
    images, masks = (x.repeat(zoom, -1).repeat(zoom, -2) for x in (images, masks))
    write_slice_set(folder, images.clip(-1, 1), masks)
    table.to_parquet(folder / "slices.parquet", index=False)
    write_params(root, gan=gan, channels=channels, **keys)
    return root


UNLABELLED = ("sub-00", "sub-04", "sub-08")  # of the ten training patients
NOT_OUTLINED = ("sub-12",)  # it is known which of their slices show a tumour


def hide_outlines(root: Path) -> None:
    """Leave three training patients of a workspace without labels and one without outlines."""
    folder = root / "data/slices"
    table, masks = pd.read_parquet(folder / "slices.parquet"), np.load(folder / "masks.npy")
    unlabelled = table["subject"].isin(UNLABELLED)
    hidden = unlabelled | table["subject"].isin(NOT_OUTLINED)
    table.loc[unlabelled, "label"] = -1
    table.assign(mask_known=~hidden).to_parquet(folder / "slices.parquet", index=False)
    masks[hidden] = 0
    np.save(folder / "masks.npy", masks)


def write_params(
    root: Path,
    *,
    gan: dict[str, Any] | None = None,
    channels: int = 1,
    source: str = "data/gan",
    **generate: Any,
) -> None:
    """`params.yaml` with what the two stages read."""
    tree = {
        "slices": {"size": SIZE, "modalities": ["FLAIR", "T1", "T2"][:channels], "folds": [0]},
        "synthetic": {"source": source},
        "train_gan": TINY | (gan or {}),
        "generate": {"count": 70, "seed": 5, "threads": 1} | generate,
        "downstream": {"tasks": ["classify", "segment"]},
    }
    (root / "params.yaml").write_text(yaml.safe_dump(tree))


def run(stage: str, root: Path) -> subprocess.CompletedProcess[str]:
    """`python -m tasks.STAGE 0` in a folder, as DVC runs it."""
    here = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-m", f"tasks.{stage}", "0"], cwd=root, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(here), "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip


def fake_generator(root: Path, **changes: Any) -> None:
    """An untrained generator in `data/gan/0`: `generate` cannot tell."""
    from dataclasses import asdict

    import torch
    from safetensors.torch import save_file

    from models.dcgan import Architecture, Generator

    torch.manual_seed(0)
    architecture = Architecture(size=SIZE, latent=8, width=4)
    generator = Generator(architecture)
    torch.nn.init.normal_(generator.head.weight, 0, 2)
    folder = root / "data/gan/0"
    folder.mkdir(parents=True)
    save_file(generator.state_dict(), folder / "generator.safetensors")
    config = {"kind": "dcgan", "architecture": asdict(architecture)} | changes
    (folder / "config.json").write_text(json.dumps(config))


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
