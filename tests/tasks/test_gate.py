"""The gate accepts fresh patients, refuses what is no picture, and writes the same bytes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasks.arrays import SliceSet, save_set
from tasks.stage import StageError
from tests.tasks.cohort import as_synthetic
from tests.tasks.gate_room import judged, oracle, real, rng

ROOT = Path(__file__).parents[2]


def test_fresh_patients_of_the_simulator_are_accepted() -> None:
    found = judged(oracle())
    assert found.verdict == "accepted", found.reasons
    assert found.images["accepted"] >= 0.9 * found.images["n"]
    assert all(one.method and one.n > 0 for one in found.measures.values())


def test_pixels_that_are_no_numbers_are_refused_one_by_one() -> None:
    images = oracle().images[:40].copy()
    images[3, 0, 10, 10] = np.nan
    images[4] *= 3
    found = judged(SliceSet(images, oracle().masks[:40], oracle().table[:40]))
    assert found.samples["reason"].tolist()[3:5] == ["broken", "broken"]
    assert found.images["accepted"] >= 35


@pytest.mark.verify
def test_the_order_of_the_images_changes_no_decision() -> None:
    order = rng().permutation(len(oracle()))
    ahead, shuffled = judged(oracle()), judged(oracle().take(order))
    np.testing.assert_array_equal(
        ahead.samples["accepted"].to_numpy()[order], shuffled.samples["accepted"]
    )


def test_too_few_or_other_sized_images_are_refused() -> None:
    with pytest.raises(StageError, match="5 synthetic slices"):
        judged(oracle().take(np.arange(5)))
    small = SliceSet(oracle().images[..., ::2, ::2], oracle().masks, oracle().table)
    with pytest.raises(StageError, match="resample"):
        judged(small)


def test_the_stage_writes_the_same_bytes_twice(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("threads: 2", "threads: 1"))
    sides = {"train": real().train, "val": real().val}
    table = pd.concat([side.table.assign(partition_0=name) for name, side in sides.items()])
    slices = tmp_path / "data/slices"
    slices.mkdir(parents=True)
    images, masks = (
        np.concatenate([getattr(side, name) for side in sides.values()])
        for name in ("images", "masks")
    )
    save_set(slices, images, masks)
    table.assign(row=np.arange(len(table))).to_parquet(slices / "slices.parquet", index=False)
    made = tmp_path / "data/synthetic/0"
    made.mkdir(parents=True)
    synthetic = as_synthetic(oracle())
    save_set(made, synthetic.images, synthetic.masks)
    synthetic.table.to_parquet(made / "samples.parquet", index=False)
    written = []
    for _ in range(2):
        subprocess.run(
            [sys.executable, "-m", "tasks.gate", "0"],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
            check=True,
        )
        folder = tmp_path / "data/gate/0"
        written.append([(folder / n).read_bytes() for n in ("metrics.json", "samples.parquet")])
    assert written[0] == written[1]
    metrics = json.loads(written[0][0])
    assert metrics["verdict"] == "accepted", metrics["reasons"]
    samples = pd.read_parquet(folder / "samples.parquet")
    assert samples["nearest_train_row"].isin(range(len(real().train))).all()
