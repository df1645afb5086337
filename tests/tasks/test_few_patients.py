"""Very few patients to train on: from `slices` to `lift` nothing ends half-way."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from tasks.common.slice_set import read_slices, write_slice_set
from tasks.downstream.__main__ import main as downstream
from tasks.lift.__main__ import main as lift
from tasks.pool.__main__ import main as pool
from tasks.slices.__main__ import main as slices
from tests.tasks.slices_fixtures import write_cohort

ARMS = ["real", "real+synthetic", "real+copy-paste", "random-labels"]


def write_run(root: Path, patients: int) -> None:
    """Volumes of 24 patients, and params that train on a few of them for a few steps."""
    write_cohort(root, 24, train_patients=patients, training_slices="auto", caliper=3.0,
                 size=32, spacing_mm=6.0, val_fraction=0.25, test_fraction=0.3)  # fmt: skip
    training = {"steps": 8, "batch": 8, "learning_rate": 0.003, "evaluations": 1}
    tree = yaml.safe_load((root / "params.yaml").read_text()) | {
        "pool": {"ratio": 1.0, "min_images": 50, "seed": 3},
        "downstream": {
            "tasks": ["classify", "segment"], "arms": ARMS, "seeds": [0, 1], "threads": 1,
            "classify": training, "segment": training,
        },
        "lift": {"draws": 200},
    }  # fmt: skip
    (root / "params.yaml").write_text(yaml.safe_dump(tree))


def write_samples(root: Path, *, accepted: bool) -> None:
    """Twice as many generated slices as were trained on; the gate takes all of them, or none."""
    train = read_slices("0", "train")
    rows = np.tile(np.arange(len(train)), 2)
    noise = np.random.default_rng(0).normal(0, 0.05, train.images[rows].shape)
    table = pd.DataFrame(
        {"row": np.arange(len(rows)), "seed": 0, "label": train.table["label"].to_numpy()[rows]}
    )
    for name in ("synthetic", "gate"):
        (root / "data" / name / "0").mkdir(parents=True)
    folder = root / "data/synthetic/0"
    write_slice_set(folder, np.clip(train.images[rows] + noise, -1, 1), train.masks[rows])
    table.to_parquet(folder / "samples.parquet", index=False)
    reason = pd.Series([None if accepted else "not judged"] * len(rows), dtype="str")
    table.assign(accepted=accepted, reason=reason).to_parquet(
        root / "data/gate/0/samples.parquet", index=False
    )


@pytest.mark.verify
@pytest.mark.parametrize(("patients", "accepted"), [(2, True), (3, False), (8, True)])
def test_few_patients_go_from_slices_to_lift(
    patients: int, accepted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path, patients)
    slices()
    write_samples(tmp_path, accepted=accepted)
    pool()
    for task in ("classify", "segment"):
        for arm in ARMS:
            downstream(task, arm)
    lift()
    results = json.loads((tmp_path / "data/lift.json").read_text())
    for task, claim in results["claim"].items():
        assert (claim == "not measured") is not accepted or results["reasons"][task], claim
        if not accepted:
            assert any("too few added slices" in reason for reason in results["reasons"][task])
