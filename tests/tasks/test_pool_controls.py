import json

import numpy as np
import pandas as pd
import pytest
import yaml

from tasks.common.arms import Arm
from tasks.common.slice_set import SliceSet, read_slice_set, write_slice_set
from tasks.pool.__main__ import main
from tasks.pool.control_arms import CONTROLS, make_control_slices
from tasks.tumors.tumor_pasting import tumor_rows


@pytest.fixture
def train() -> SliceSet:
    """Forty slices of eight patients: grey brains with a bright square tumour in every other."""
    rng = np.random.default_rng(0)
    images = np.full((40, 1, 32, 32), -1.0, dtype=np.float32)
    images[:, :, 4:28, 4:28] = rng.uniform(-0.3, 0.0, (40, 1, 1, 1))
    masks = np.zeros((40, 32, 32), dtype=np.uint8)
    for place in range(0, 40, 2):
        row, column = rng.integers(8, 18, 2)
        masks[place, row : row + 6, column : column + 6] = 1
    images[:, 0][masks == 1] = 0.8
    table = pd.DataFrame(
        {"row": np.arange(40) + 100, "subject": [f"sub-{k // 5}" for k in range(40)],
         "position_mm": np.arange(40) % 5 * 4.0, "label": (np.arange(40) + 1) % 2}
    )  # fmt: skip
    return SliceSet(images, masks, table)


@pytest.mark.parametrize("name", list(CONTROLS))
@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.5])
def test_controls_add_as_many_slices_as_asked_and_the_same_each_time(train, name, ratio):
    control, again = (make_control_slices(name, train, ratio=ratio, seed=3) for _ in range(2))
    assert len(control) == round(40 * ratio)
    assert np.array_equal(control.images, again.images) and np.array_equal(
        control.masks, again.masks
    )
    assert control.images.min() >= -1 and control.images.max() <= 1
    assert (control.masks.any(axis=(1, 2)) == (control.table["label"] == 1)).all()


def in_order(train, name):
    """A control at ratio 1, with its slices in the order of the training slices."""
    control = make_control_slices(name, train, ratio=1.0, seed=3)
    return control.select(np.argsort(control.table["row"].to_numpy()))


def test_duplicates_are_the_training_slices_once_more(train):
    control = in_order(train, "duplicated")
    assert np.array_equal(control.images, train.images) and np.array_equal(
        control.masks, train.masks
    )


def test_duplicates_come_in_another_order_since_else_the_arm_would_be_real_again(train):
    control = make_control_slices("duplicated", train, ratio=1.0, seed=3)
    for label in (0, 1):
        added, own = (slices.table.query(f"label == {label}")["row"] for slices in (control, train))
        assert sorted(added) == sorted(own) and added.tolist() != own.tolist()


def test_shuffled_masks_come_from_other_patients(train):
    control = in_order(train, "shuffled-masks")
    assert np.array_equal(control.images, train.images)
    for place in tumor_rows(control):
        own = control.table["subject"][place]
        sources = [
            k for k in tumor_rows(train) if np.array_equal(train.masks[k], control.masks[place])
        ]
        assert any(train.table["subject"][k] != own for k in sources)


def test_pasted_tumours_keep_their_look_and_lie_in_another_patients_brain(train):
    control = in_order(train, "copy-paste")
    for place in tumor_rows(control):
        inside = control.masks[place] == 1
        assert np.array_equal(control.masks[place], train.masks[place])
        assert control.images[place, 0][inside].max() == pytest.approx(0.8, abs=0.02)
        ground = control.images[place, 0, 5, 5]
        hosts = train.images[(train.table["subject"] != control.table["subject"][place]), 0, 5, 5]
        assert np.abs(hosts - ground).min() < 1e-6
    healthy = np.flatnonzero(control.table["label"] == 0)
    assert np.array_equal(control.images[healthy], train.images[healthy])


@pytest.mark.parametrize("name", ["copy-paste", "shuffled-masks"])
def test_a_tumour_without_outline_is_not_pasted_as_nothing(train, name):
    """Half of the tumours were never outlined: with label 1 each slice must show a tumour."""
    bare = tumor_rows(train)[::2]
    masks = train.masks.copy()
    masks[bare] = 0
    control = make_control_slices(
        name, SliceSet(train.images, masks, train.table), ratio=1.0, seed=3
    )
    assert len(control) == 40
    shown = control.images[:, 0].max(axis=(1, 2)) > 0.7
    assert (shown == (control.table["label"] == 1)).all()
    assert (control.masks.any(axis=(1, 2)) == (control.table["label"] == 1)).all()
    none = SliceSet(train.images, np.zeros_like(masks), train.table)
    assert len(make_control_slices(name, none, ratio=1.0, seed=3)) == 0
    assert len(make_control_slices("duplicated", none, ratio=1.0, seed=3)) == 40


def test_a_tumour_of_one_pixel_keeps_its_brightness_where_it_is_pasted(train):
    masks = np.zeros_like(train.masks)
    masks[tumor_rows(train), 15, 15] = 1
    images = np.where(train.masks[:, None] == 1, -0.2, train.images)
    images[tumor_rows(train), 0, 15, 15] = 0.8
    control = make_control_slices(
        "copy-paste", SliceSet(images, masks, train.table), ratio=1.0, seed=3
    )
    assert np.allclose(control.images[tumor_rows(control), 0, 15, 15], 0.8)


def test_pool_writes_the_controls_beside_the_synthetic_arms(train, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arms = ["real", "real+synthetic", "real+copy-paste", "real+duplicated"]
    tree = {
        "slices": {"folds": [0]},
        "pool": {"ratio": 1.0, "min_images": 10, "seed": 3},
        "downstream": {"arms": arms},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    for folder in ("data/slices", "data/synthetic/0", "data/gate/0"):
        (tmp_path / folder).mkdir(parents=True)
        write_slice_set(tmp_path / folder, train.images, train.masks)
    train.table.assign(partition_0="train").to_parquet(tmp_path / "data/slices/slices.parquet")
    samples = pd.DataFrame(
        {"row": np.arange(40), "seed": np.arange(40), "label": train.table["label"]}
    )
    samples.to_parquet(tmp_path / "data/synthetic/0/samples.parquet")
    samples.assign(accepted=True, reason=pd.Series([None] * 40, dtype="str")).to_parquet(
        tmp_path / "data/gate/0/samples.parquet"
    )
    main()
    for arm in arms:
        added = read_slice_set(tmp_path / "data/pool" / arm, "samples.parquet")
        status = json.loads((tmp_path / "data/pool" / arm / "pool.json").read_text())["0"]
        assert len(added) == (0 if arm == "real" else 40)
        assert status["status"] == ("none" if arm == "real" else "ok")
    assert sorted(added.table["source_row"]) == train.table["row"].tolist()


@pytest.mark.parametrize(
    "name",
    ["real+fake", "classical", "slice-split", "real+real", "synthetic+duplicated",
     "random-labels+classical", "synthetic+real", "real+pseudo-label+synthetic+copy-paste",
     "real+classical+paper-augmented"],
)  # fmt: skip
def test_an_arm_that_makes_no_sense_is_refused(name):
    with pytest.raises(ValueError, match="arm"):
        Arm.parse(name)


def test_arms_with_other_labels_or_another_split_stand_apart():
    apart = [name for name in ("real", "real+classical+synthetic", "random-labels",
                               "random-labels+slice-split", "real+synthetic+slice-split")
             if Arm.parse(name).is_diagnostic]  # fmt: skip
    assert apart == ["random-labels", "random-labels+slice-split", "real+synthetic+slice-split"]
