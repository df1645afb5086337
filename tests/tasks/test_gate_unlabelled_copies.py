"""Copies are sought among all slices that a generator saw, also those without labels."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasks.common.slice_set import SliceSet
from tasks.gate.__main__ import main as gate
from tasks.gate.__main__ import saw_without_outlines
from tests.tasks.gate_fixtures import oracle, real, write_stage
from tests.tasks.test_gate import of_patients

COPIES = 6


def test_a_copy_of_an_unlabelled_training_slice_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fresh, others = of_patients(oracle(), 8), oracle().table["subject"].unique()[-4:]
    unlabelled = oracle().select(oracle().table["subject"].isin(others).to_numpy())
    copied = unlabelled.select(np.arange(COPIES))
    noise = np.random.default_rng(0).normal(0, 0.02, copied.images.shape).astype(np.float32)
    copies = SliceSet((copied.images + noise).clip(-1, 1), copied.masks, copied.table)
    hidden = SliceSet(
        unlabelled.images, np.zeros_like(unlabelled.masks), unlabelled.table.assign(label=-1)
    )
    train = of_patients(real().train, 8)
    write_stage(
        tmp_path, train.joined_with(hidden), of_patients(real().val, 8), fresh.joined_with(copies)
    )
    summary = {"source": "generator", "slices_without_outlines": len(hidden)}
    Path("data/synthetic/0/summary.json").write_text(json.dumps(summary))
    gate("0")
    samples = pd.read_parquet("data/gate/0/samples.parquet")
    last_rows = samples.iloc[-COPIES:]
    assert (last_rows["reason"] == "memorised").all()
    assert last_rows["nearest_train_row"].tolist() == list(range(len(train), len(train) + COPIES))
    assert (samples["reason"] == "memorised").sum() < COPIES + 0.05 * len(fresh)
    attacks = json.loads(Path("data/gate/0/metrics.json").read_text())["membership"]
    assert {attack["members"] for attack in attacks.values()} == {8 + len(others)}


@pytest.mark.parametrize(
    ("summary", "searched"),
    [
        ({"source": "generator", "slices_without_outlines": 3}, True),
        ({"source": "generator"}, False),
        ({"source": "folder"}, True),  # nobody knows what taught it
        (None, False),
    ],
)
def test_unlabelled_slices_are_searched_where_the_generator_may_have_seen_them(
    tmp_path: Path, summary: dict[str, object] | None, searched: bool
) -> None:
    if summary is not None:
        (tmp_path / "summary.json").write_text(json.dumps(summary))
    assert saw_without_outlines(tmp_path) == searched
