"""Dice over whole volumes, on the grid that the scanner gave."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from tasks.downstream import volume_dice
from tasks.downstream.__main__ import main
from tasks.downstream.volume_dice import dice_of_masks, read_test_volumes, to_acquired_grid
from tasks.params.slices import Slices
from tasks.volumes.resampling import SliceGrid, resample_slices
from tests.tasks import downstream_fixtures
from tests.tasks.downstream_fixtures import table


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    downstream_fixtures.write(tmp_path)
    return tmp_path


def test_dice_over_whole_volumes_stands_beside_that_over_chosen_slices(root):
    downstream_fixtures.write(root, steps=40, seeds=(0,))
    main("segment", "real")
    scores = table("segment", "real", "patients").pivot(
        index="subject", columns="metric", values="value"
    )
    assert scores["dice_volume"].notna().all()
    assert scores["dice_volume"].mean() == pytest.approx(scores["dice"].mean(), abs=0.15)
    image = nib.load("data/volumes/b/sub-002_mask.nii.gz")
    empty = nib.Nifti1Image(np.zeros(image.shape, np.float32), image.affine)
    nib.save(empty, "data/volumes/b/sub-002_mask.nii.gz")
    main("segment", "real")
    scores = table("segment", "real", "patients").set_index(["metric", "subject"])["value"]
    assert np.isnan(scores["dice_volume", "sub-002"])
    assert scores["dice_volume"].drop("sub-002").notna().all()


def test_a_prediction_goes_back_to_the_grid_that_its_slices_came_from():
    """Sampled onto a rotated, shifted and coarser grid and back, a smooth body stays in place."""
    x, y, _ = np.mgrid[:60, :50, :4]
    body = (x - 21) ** 2 / 9**2 + (y - 30) ** 2 / 14**2 <= 1
    grid = SliceGrid((27.3, 22.9), (1.6, 1.9), 40)
    soft = resample_slices(body.astype(np.float32), grid, fill=0.0)  # (Z,H,W)
    back = to_acquired_grid(torch.from_numpy(soft)[:, None], grid, body.shape) >= 0.5
    assert dice_of_masks(back, body) > 0.95
    exact = SliceGrid((29.5, 24.5), (1.0, 1.0), 60)
    soft = resample_slices(body.astype(np.float32), exact, fill=0.0)
    back = to_acquired_grid(torch.from_numpy(soft)[:, None], exact, body.shape)
    assert back == pytest.approx(body.astype(np.float32))


def test_whole_volumes_hold_every_modality_on_the_grid_of_the_first(root):
    path = root / "data/volumes/b/manifest.parquet"
    first = pd.read_parquet(path)
    coarse = nib.load("data/volumes/b/sub-002_image.nii.gz")
    half = nib.Nifti1Image(coarse.get_fdata()[::2, ::2], coarse.affine @ np.diag([2, 2, 1, 1]))
    nib.save(half, "data/volumes/b/sub-002_t1.nii.gz")
    second = first[first["subject"] == "sub-002"].assign(
        modality="T1", image="sub-002_t1.nii.gz", mask=None, mask_status="missing"
    )
    pd.concat([first, second]).to_parquet(path)
    config = Slices.model_validate(
        yaml.safe_load(Path("params.yaml").read_text())["slices"] | {"modalities": ["FLAIR", "T1"]}
    )
    (one,) = read_test_volumes(["b"], ["sub-002"], config, None)
    assert one.images.shape == (6, 2, downstream_fixtures.SIZE, downstream_fixtures.SIZE)
    assert one.mask.shape == coarse.shape and one.mask.any()
    inside = one.images[:, 0] > -1
    assert np.corrcoef(one.images[:, 0][inside], one.images[:, 1][inside])[0, 1] > 0.8


def test_of_a_volume_with_two_tumours_the_largest_part_is_kept_where_asked(root):
    """By default a volume has one tumour; what else is marked does not count."""

    class Marker(torch.nn.Module):
        """Marks what is bright."""

        def forward(self, images):
            return torch.where(images > 0, 9.0, -9.0)

    images = -np.ones((4, 1, 32, 32), np.float32)
    images[1:3, 0, 4:12, 4:12] = 1  # the tumour
    images[0, 0, 20:23, 20:23] = 1  # something else
    mask = np.zeros((32, 32, 4), bool)
    grid = SliceGrid((15.5, 15.5), (1.0, 1.0), 32)
    mask[20:28, 20:28, 1:3] = True
    volume = volume_dice.TestVolume("sub-1", images, mask, grid)
    dice = {
        keep: volume_dice.dice_volume(
            Marker(), [volume], threshold=0.5, largest_component=keep, device=torch.device("cpu")
        )["sub-1"]
        for keep in (True, False)
    }
    assert dice[True] == 1
    assert dice[False] == pytest.approx(2 * 128 / (128 + 128 + 9))
