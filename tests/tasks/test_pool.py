"""`pool`: accepted synthetic slices in, each arm's added slices out."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tasks.common.slice_set import read_slice_set, write_slice_set
from tasks.pool.__main__ import main, sample_rows
from tasks.stage.errors import InputError

ARMS = ["real", "real+classical", "real+synthetic", "synthetic"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """60 real training slices (a third with tumour) and 200 synthetic ones."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    label = np.array([1] * 20 + [0] * 40)
    write(
        tmp_path / "data/slices",
        "slices.parquet",
        pd.DataFrame(
            {
                "row": np.arange(60),
                "subject": [f"sub-{row % 4}" for row in range(60)],
                "position_mm": 0.0,
                "label": label,
                "partition_0": "train",
            }
        ),
        rng,
    )
    table = pd.DataFrame(
        {"row": np.arange(200), "seed": np.arange(200), "label": np.arange(200) % 2}
    )
    write(tmp_path / "data/synthetic/0", "samples.parquet", table, rng)
    gate(tmp_path, np.ones(200, dtype=bool))
    params(tmp_path)
    return tmp_path


def write(folder: Path, name: str, table: pd.DataFrame, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    n = len(table)
    write_slice_set(folder, rng.uniform(-1, 1, (n, 1, 8, 8)), rng.integers(0, 2, (n, 8, 8)))
    table.to_parquet(folder / name, index=False)


def gate(root: Path, accepted: np.ndarray) -> None:
    """The gate's decision on each synthetic slice."""
    table = pd.read_parquet(root / "data/synthetic/0/samples.parquet")
    table["accepted"] = accepted
    table["reason"] = pd.Series(np.where(accepted, None, "memorised"), dtype="str")
    (root / "data/gate/0").mkdir(parents=True, exist_ok=True)
    table.to_parquet(root / "data/gate/0/samples.parquet", index=False)


def params(root: Path, arms: list[str] | None = None, **pool: object) -> None:
    tree = {
        "slices": {"folds": [0]},
        "pool": {"ratio": 1.0, "min_images": 10, "seed": 3} | pool,
        "downstream": {"arms": arms or ARMS},
    }
    (root / "params.yaml").write_text(yaml.safe_dump(tree))


def test_only_arms_that_name_synthetic_slices_get_any(root: Path) -> None:
    main()
    for arm in ARMS:
        added = read_slice_set(root / "data/pool" / arm, "samples.parquet")
        status = json.loads((root / "data/pool" / arm / "pool.json").read_text())["0"]
        if "synthetic" in arm:
            assert status == {"status": "ok", "n": len(added), "asked": 60}
            assert len(added) == 60
        else:
            assert status == {"status": "none", "n": 0, "asked": 0}
            assert added.images.shape == (0, 1, 8, 8)


def test_added_slices_are_accepted_and_unchanged_and_keep_the_label_prior(root: Path) -> None:
    accepted = np.arange(200) % 5 != 0
    gate(root, accepted)
    main()
    added = read_slice_set(root / "data/pool/real+synthetic", "samples.parquet")
    source = read_slice_set(root / "data/synthetic/0", "samples.parquet")
    rows = added.table["source_row"].to_numpy()
    assert accepted[rows].all()
    assert len(set(rows)) == len(rows)
    np.testing.assert_array_equal(added.images, source.images[rows])
    np.testing.assert_array_equal(added.masks, source.masks[rows])
    assert added.table["label"].mean() == pytest.approx(1 / 3, abs=0.02)


def test_a_small_ratio_is_enough_where_the_gate_accepted_plenty(root: Path, capsys) -> None:
    """Six slices are asked for and there are 200: to generate more would not help."""
    params(root, [*ARMS, "real+duplicated"], ratio=0.1, min_images=50)
    main()
    for arm in ("real+synthetic", "real+duplicated"):
        status = json.loads((root / "data/pool" / arm / "pool.json").read_text())["0"]
        assert status == {"status": "ok", "n": 6, "asked": 6}
    assert "raise" not in capsys.readouterr().out
    params(root, ratio=0.001)
    main()
    assert "(too few); raise pool.ratio" in capsys.readouterr().out


def test_compared_arms_add_equal_numbers(root: Path) -> None:
    """A third of the training slices is unlabelled, and the gate left fewer than asked for."""
    path = root / "data/slices/slices.parquet"
    table = pd.read_parquet(path)
    table.assign(label=[1] * 20 + [0] * 20 + [-1] * 20).to_parquet(path)
    arms = [*ARMS, "real+duplicated", "real+copy-paste", "real+shuffled-masks"]
    for accepted, ratio, count in ((200, 1.0, 40), (24, 1.0, 24), (24, 3.0, 24), (4, 2.0, 80)):
        params(root, arms, ratio=ratio)
        gate(root, np.arange(200) < accepted)
        main()
        for arm in arms:
            added = read_slice_set(root / "data/pool" / arm, "samples.parquet")
            none = arm in ("real", "real+classical") or (accepted == 4 and "synthetic" in arm)
            assert len(added) == (0 if none else count), (arm, accepted, ratio)


def test_nothing_that_could_be_judged_leaves_the_other_arms_alone(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gate(root, np.zeros(200, dtype=bool))
    params(root, filter={"score": "realism", "keep": 0.5})
    main()
    message = capsys.readouterr().out
    assert "the gate accepted none" in message and "generate.count" not in message
    status = json.loads((root / "data/pool/synthetic/pool.json").read_text())
    assert status["0"] == {"status": "too few", "n": 0, "asked": 60}


def test_too_few_accepted_slices_are_a_status_and_not_an_error(root: Path) -> None:
    gate(root, np.arange(200) < 5)
    main()
    status = json.loads((root / "data/pool/synthetic/pool.json").read_text())
    assert status["0"] == {"status": "too few", "n": 0, "asked": 60}


def test_fewer_slices_than_the_ratio_asks_for_are_told_of(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params(root, ratio=10.0)
    main()
    message = capsys.readouterr().out
    assert (
        "slices of 600 asked for (ok); the gate accepted no more: raise generate.count" in message
    )
    status = json.loads((root / "data/pool/synthetic/pool.json").read_text())
    assert status["0"]["n"] < status["0"]["asked"] == 600


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        (["real", "real+synth"], "unknown part 'synth'"),
        (["real", "real"], "each arm stands once"),
        (["real", "synthetic+real"], "is written 'real+synthetic'"),
        ("real", "a list"),
    ],
)
def test_arms_that_cannot_be_are_refused_before_anything_is_written(
    root: Path, arms: list[str], message: str
) -> None:
    params(root, arms)
    with pytest.raises(InputError, match=re.escape(message)):
        main()
    assert not (root / "data/pool").exists()


def test_a_filter_adds_the_better_share_of_each_label_only(root: Path) -> None:
    path = root / "data/gate/0/samples.parquet"
    table = pd.read_parquet(path)
    table["realism"] = np.random.default_rng(2).permutation(200) / 10
    table.to_parquet(path, index=False)
    params(root, filter={"score": "realism", "keep": 0.25})
    main()
    added = read_slice_set(root / "data/pool/real+synthetic", "samples.parquet")
    for label, rows in added.table.groupby("label"):
        of_label = table[table["label"] == label]
        best = set(of_label.nsmallest(25, "realism")["row"])
        assert set(rows["source_row"]) <= best and len(rows) >= 12
    params(root, filter={"score": "charm", "keep": 0.25})
    with pytest.raises(InputError, match=r"filter\.score is 'charm': Input should be 'realism'"):
        main()
    table.drop(columns="realism").assign(outline=0.5).to_parquet(path, index=False)
    params(root, filter={"score": "realism", "keep": 0.25})
    with pytest.raises(InputError, match=r"score is 'realism', .* it holds outline: change it"):
        main()


def test_another_arm_leaves_the_old_arms_bytes_alone(root: Path) -> None:
    def content(arm: str) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in (root / "data/pool" / arm).iterdir()}

    main()
    before = {arm: content(arm) for arm in ARMS}
    params(root, [*ARMS, "real+classical+synthetic"])
    main()
    assert before == {arm: content(arm) for arm in ARMS}
    assert len(content("real+classical+synthetic")) == 4


@given(st.integers(0, 80), st.integers(0, 80), st.floats(0.0, 1.0), st.integers(0, 100))
def test_a_draw_never_exceeds_what_there_is_and_keeps_the_share(
    positives: int, negatives: int, share: float, count: int
) -> None:
    label = np.array([1] * positives + [0] * negatives, dtype=int)
    table = pd.DataFrame({"row": np.arange(len(label)), "label": label})
    rows = sample_rows(table, tumor_share=share, count=count, seed=1)
    assert len(rows) <= count
    assert len(set(rows.tolist())) == len(rows)
    drawn = label[rows]
    assert abs(drawn.sum() - share * len(rows)) <= 1 + 1e-6
