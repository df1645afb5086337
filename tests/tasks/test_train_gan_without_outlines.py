"""Training slices without outlines teach a second discriminator, which sees no masks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from models.dcgan import Architecture, Discriminator
from tasks.common.generator_slices import teach_a_generator, teach_with_masks
from tasks.common.slice_set import read_slices
from tasks.train_gan import __main__ as train_gan
from tasks.train_gan import training_loop
from tasks.train_gan.slices_without_outlines import SlicesWithoutOutlines
from tasks.train_gan.trainer import new_discriminator
from tasks.train_gan.training_data import TrainingData, to_device
from tests.tasks.test_train_gan_resume import kill_at
from tests.tasks.train_gan_fixtures import (
    OUT,
    SIZE,
    UNLABELLED,
    hashes,
    hide_outlines,
    write_params,
    write_workspace,
)

QUICK: dict[str, Any] = {"steps": 2, "watch_every": 2}
TABLE, IMAGES, MASKS = (
    Path("data/slices") / name for name in ("slices.parquet", "images.npy", "masks.npy")
)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cohort in which three training patients have no labels and one has no outlines."""
    monkeypatch.chdir(tmp_path)
    write_workspace(tmp_path, gan=QUICK)
    hide_outlines(tmp_path)
    return tmp_path


def examples() -> TrainingData:
    return to_device(
        read_slices("0", "train"), read_slices("0", "val"),
        mask_peak=0.9, device=torch.device("cpu"), without_outlines=True,
    )  # fmt: skip


def change(rows: pd.Series) -> None:
    """Fill these slices with other pixels."""
    images = np.load(IMAGES)
    images[rows] = np.random.default_rng(7).uniform(-1, 1, images[rows].shape)
    np.save(IMAGES, images)


def test_where_every_slice_is_outlined_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_workspace(tmp_path, gan=QUICK | {"unlabelled_weight": 0})
    train_gan.main("0")
    off = hashes(OUT)
    write_params(tmp_path, gan=QUICK)
    train_gan.main("0")
    assert hashes(OUT) == off


def test_slices_without_outlines_teach_by_their_images_alone(workspace: Path) -> None:
    train_gan.main("0")
    first = hashes(OUT)
    config = json.loads((OUT / "config.json").read_text())
    assert config["slices_without_outlines"] == {"slices": 14, "patients": 4}
    assert config["training_slices"] == {"none": 14, "tumor": 12}
    assert config["training_patients"] == 10
    history = pd.read_csv(OUT / "history.csv")
    assert (history[["loss_d_images", "loss_g_images"]] != 0).all(axis=None)
    table, masks = pd.read_parquet(TABLE), np.load(MASKS)
    hidden = table["subject"].isin(UNLABELLED)
    masks[hidden] = 1
    np.save(MASKS, masks)
    table.loc[hidden, ["position_mm", "tumor_area_mm2"]] = 1e6
    table.to_parquet(TABLE, index=False)
    train_gan.main("0")
    assert hashes(OUT) == first
    change(hidden)
    train_gan.main("0")
    assert hashes(OUT)["generator.safetensors"] != first["generator.safetensors"]


def test_images_of_test_patients_reach_no_generator(workspace: Path) -> None:
    """A planted patient: whatever the images show, every byte stays."""
    table = pd.read_parquet(TABLE)
    planted = table["subject"].isin([*UNLABELLED[:1], "sub-16"])
    table.loc[planted, "partition_0"] = "test"
    table.to_parquet(TABLE, index=False)
    train_gan.main("0")
    first = hashes(OUT)
    assert json.loads((OUT / "config.json").read_text())["training_patients"] == 8
    change(planted)
    train_gan.main("0")
    assert hashes(OUT) == first


@pytest.mark.parametrize(
    "gan",
    [
        {"conditions": ["area"], "precision": "bf16"},
        pytest.param({"recipe": "paper"}, marks=pytest.mark.verify),
        pytest.param({"recipe": "wgan_gp"}, marks=pytest.mark.verify),
        pytest.param({"recipe": "projected"}, marks=pytest.mark.verify),
    ],
)
def test_killed_with_two_discriminators_it_ends_in_the_same_bytes(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, gan: dict[str, Any]
) -> None:
    monkeypatch.setattr(training_loop, "SAVE_SECONDS", 0.0)
    write_params(workspace, gan=gan | {"steps": 4, "watch_every": 4})
    train_gan.main("0")
    whole = hashes(OUT)
    OUT.rename("elsewhere")
    kill_at(2, monkeypatch)
    train_gan.main("0")
    assert hashes(OUT) == whole


def test_tumours_that_nobody_outlined_are_no_empty_masks_beside_outlined_ones() -> None:
    table = pd.DataFrame(
        {"label": [1, 1, 0, 0, -1], "mask_known": [True, False, True, False, False]}
    )
    assert teach_with_masks(table).tolist() == [True, False, True, True, False]
    nobody = table.assign(mask_known=False)
    assert teach_with_masks(nobody).tolist() == [True, True, True, True, False]
    assert teach_with_masks(table.drop(columns="mask_known")).sum() == 4
    assert teach_a_generator(table, without_outlines=True).all()


def test_neither_a_label_nor_that_it_is_known_tells_real_from_generated() -> None:
    """Which slice a position shows, in many batches of 6 none and 12 tumour slices and others."""
    others = SlicesWithoutOutlines(
        x=torch.tensor([-1.0] * 9 + [2.0] * 6)[:, None, None, None],
        unlabelled=torch.arange(9),
        tumors=torch.arange(9, 15),
        unlabelled_shares=torch.tensor([0.2, 0.4]),
        tumor_share=6 / 18,
        subjects=frozenset(),
    )
    labels = torch.arange(40_000) % 2
    outlined = torch.full((40_000, 1, 1, 1), 5.0)
    x, shown = others.random_batch(outlined, labels, torch.Generator().manual_seed(0))
    unknown = shown == -1
    assert torch.equal(shown[~unknown], labels[~unknown])
    assert torch.equal(unknown, x.flatten() == -1)
    not_outlined = x.flatten() == 2
    assert (labels[not_outlined] == 1).all()
    for label, share in ((0, 0.2), (1, 0.4)):
        assert float(unknown[labels == label].float().mean()) == pytest.approx(share, abs=0.02)
    tumors = (labels == 1) & ~unknown
    assert float(not_outlined[tumors].float().mean()) == pytest.approx(1 / 3, abs=0.02)


def test_unknown_labels_stand_beside_as_many_generated_tumours_as_outlined_slices_show(
    workspace: Path,
) -> None:
    others = examples().without_outlines
    assert others is not None and len(others.unlabelled) == 12 and len(others.tumors) == 2
    none, tumor = others.unlabelled_shares.tolist()
    assert tumor / none == pytest.approx(12 / 14)  # as 12 tumour slices and 14 others are outlined
    assert none == pytest.approx(12 / 40)  # of the more frequent kind: the share of all slices
    assert others.tumor_share == pytest.approx(2 / 14)


def test_a_discriminator_of_images_is_blind_to_masks() -> None:
    architecture = Architecture(size=SIZE, width=4)
    torch.manual_seed(0)
    networks = [
        Discriminator(architecture, sees_mask=False),
        Discriminator(Architecture(size=SIZE, width=4, projection=False), sees_mask=False),
        new_discriminator(
            Architecture(size=SIZE, pretrained_features=True), torch.device("cpu"), sees_mask=False
        ),
    ]
    x, labels = torch.randn(8, 2, SIZE, SIZE), torch.tensor([-1, 0, 1, -1] * 2)
    other = torch.cat([x[:, :1], torch.randn(8, 1, SIZE, SIZE)], 1)
    for network in networks:
        network.eval()
        assert torch.equal(network(x, labels)[0], network(other, labels)[0])
        assert not torch.equal(network(x, labels)[0], network(x, labels.abs())[0])
