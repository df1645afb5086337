"""A small cohort of which some training patients were never outlined."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from tests.tasks.downstream_fixtures import SIZE

UNLABELLED = 4  # patients of eight that train


def write_arm_params(root: Path, arms: list[str], *, steps: int = 60, **sections: Any) -> None:
    """`params.yaml` for teacher, pool and the arms that use scans without outlines."""
    tree = sections | {
        "teacher": {"networks": 2, "confidence": 0.6, "agreement": 0.6, "background": 0.4},
        "pool": {"ratio": 1.0, "min_images": 8, "seed": 5},
        "downstream": {
            "tasks": ["segment"], "arms": arms, "seeds": [0], "precision": "fp32",
            "segment": {"steps": steps, "batch": 8, "learning_rate": 0.01, "evaluations": 1},
        },
    }  # fmt: skip
    (root / "params.yaml").write_text(yaml.safe_dump(tree))


def hide_outlines(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Hide labels and outlines of some training patients; return the true masks and hidden rows."""
    path = root / "data/slices/slices.parquet"
    table, masks = pd.read_parquet(path), np.load(root / "data/slices/masks.npy")
    train = sorted(table.loc[table["partition_0"] == "train", "subject"].unique())
    hidden = table["subject"].isin(train[-UNLABELLED:]).to_numpy()
    table["mask_known"] = ~hidden
    table.loc[hidden, "label"] = -1
    table.to_parquet(path)
    np.save(root / "data/slices/masks.npy", np.where(hidden[:, None, None], 0, masks))
    return masks, hidden


def write_gate(root: Path) -> None:
    """An empty set of synthetic slices, which no arm here adds."""
    folder = root / "data/synthetic/0"
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", np.zeros((0, 1, SIZE, SIZE), np.float16))
    np.save(folder / "masks.npy", np.zeros((0, SIZE, SIZE), np.uint8))
    samples = pd.DataFrame({name: pd.Series(dtype="int64") for name in ("row", "seed", "label")})
    samples.to_parquet(folder / "samples.parquet")
    (root / "data/gate/0").mkdir(parents=True)
    gated = samples.assign(accepted=pd.Series(dtype="bool"), reason=pd.Series(dtype="str"))
    gated.to_parquet(root / "data/gate/0/samples.parquet")
