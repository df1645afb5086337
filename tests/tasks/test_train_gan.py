"""A training writes a generator with its history, by every recipe, from labelled slices alone."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file

from models.dcgan import Architecture, Generator, seeded_noise
from tasks import params
from tasks.params.train_gan import RECIPES, TrainGan
from tasks.stage.errors import InputError
from tasks.train_gan import __main__ as train_gan
from tasks.train_gan.history_columns import COLUMNS
from tasks.train_gan.sample_sheet import OUTLINE, sample_sheet
from tasks.train_gan.trainer import Trainer
from tasks.train_gan.training_data import soft_masks, to_device
from tasks.train_gan.validation_metrics import mean_score
from tests.tasks.train_gan_fixtures import OUT, SIZE, TINY, hashes, write_params, write_workspace


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_workspace(tmp_path)


def test_two_runs_write_the_same_bytes(workspace: Path) -> None:
    train_gan.main("0")
    first = hashes(OUT)
    train_gan.main("0")
    assert hashes(OUT) == first
    assert set(first) == {
        "generator.safetensors", "networks.safetensors", "config.json", "history.csv",
        "metrics.json", "sheets/step_000006.png",
    }  # fmt: skip


def test_the_outputs_rebuild_the_generator_and_hold_its_history(workspace: Path) -> None:
    train_gan.main("0")
    config = json.loads((OUT / "config.json").read_text())
    assert config["kind"] == "dcgan" and config["state"] in ("ok", "collapsed")
    generator = Generator(Architecture(**config["architecture"]))
    generator.load_state_dict(load_file(OUT / "generator.safetensors"))
    history = pd.read_csv(OUT / "history.csv")
    assert list(history.columns) == list(COLUMNS) and history["step"].tolist() == [3, 6]
    assert history.drop(columns="event").notna().all(axis=None)
    assert history["event"].fillna("").str.startswith("best").any()
    best_row = history.set_index("step").loc[config["best_step"]]
    for name, value in json.loads((OUT / "metrics.json").read_text()).items():
        assert name == "step" or value == best_row[name]
    with Image.open(OUT / "sheets/step_000006.png") as picture:
        assert picture.size[0] > 10 * SIZE


def test_the_seed_changes_the_bytes(workspace: Path) -> None:
    train_gan.main("0")
    first = hashes(OUT)["generator.safetensors"]
    write_params(workspace, gan={"seed": 4})
    train_gan.main("0")
    assert hashes(OUT)["generator.safetensors"] != first


@pytest.mark.parametrize("recipe", [r for r in RECIPES if r not in ("small_data", "projected")])
def test_every_recipe_trains(workspace: Path, recipe: str) -> None:
    write_params(workspace, gan={"recipe": recipe, "steps": 2})
    train_gan.main("0")
    assert json.loads((OUT / "config.json").read_text())["recipe"] == recipe


def test_every_switch_trains_on_several_channels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    switches = {
        "excitation": True, "projection": False, "discriminator_norm": "spectral", "l1": 1.0,
        "feature_matching": 1.0, "r1_every": 1, "loss": "hinge", "precision": "bf16",
        "ema_half_life": 0, "diffaugment": {"flip": True}, "steps": 3,
    }  # fmt: skip
    write_workspace(tmp_path, gan=switches, channels=2)
    train_gan.main("0")
    history = pd.read_csv(OUT / "history.csv")
    assert (history[["l1", "r1", "feature_matching"]] > 0).all(axis=None)


def test_a_step_at_128_pixels_trains_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_workspace(tmp_path, gan={"steps": 1, "batch": 4}, zoom=4, per_label=8)
    train_gan.main("0")
    assert json.loads((OUT / "config.json").read_text())["architecture"]["size"] == 128


def test_a_discriminator_on_the_gates_features_is_announced(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_params(workspace, gan={"recipe": "projected", "steps": 1})
    train_gan.main("0")
    assert "flatters the ratio" in capsys.readouterr().err
    assert json.loads((OUT / "config.json").read_text())["architecture"]["pretrained_features"]


def test_slices_from_elsewhere_need_no_training(workspace: Path) -> None:
    write_params(workspace, source="elsewhere")
    train_gan.main("0")
    config = json.loads((OUT / "config.json").read_text())
    assert config == {"kind": "external", "source": "elsewhere"}
    assert pd.read_csv(OUT / "history.csv").empty
    assert json.loads((OUT / "metrics.json").read_text()) == {}


def relabel(workspace: Path, label: int) -> None:
    path = workspace / "data/slices/slices.parquet"
    pd.read_parquet(path).assign(label=label).to_parquet(path, index=False)


@pytest.mark.parametrize(("label", "missing"), [(0, "tumour"), (1, "without tumour"), (-1, "")])
def test_a_label_without_training_slices_is_one_clear_line(
    workspace: Path, label: int, missing: str
) -> None:
    relabel(workspace, label)
    with pytest.raises(InputError, match=f"no .*{missing}.* add patients to data.batches"):
        train_gan.main("0")
    assert not OUT.exists()


def test_slices_with_nan_are_not_taken_for_a_divergence(workspace: Path) -> None:
    path = workspace / "data/slices/images.npy"
    images = np.load(path)
    images[0, 0, 3, 3] = np.nan
    np.save(path, images)
    with pytest.raises(InputError, match=r"1 of 40 slices .* no numbers"):
        train_gan.main("0")


def test_few_validation_slices_leave_the_distance_out_and_keep_the_last_step(
    workspace: Path,
) -> None:
    path = workspace / "data/slices/slices.parquet"
    table = pd.read_parquet(path)
    held = table.index[table["partition_0"] == "val"]
    table.loc[held[6:], "partition_0"] = "unused"
    table.to_parquet(path, index=False)
    train_gan.main("0")
    history = pd.read_csv(OUT / "history.csv")
    assert history["fd_ratio_tumor"].isna().all()
    assert "fd_ratio_tumor" not in json.loads((OUT / "metrics.json").read_text())
    assert json.loads((OUT / "config.json").read_text())["best_step"] == 6


def test_every_batch_holds_both_labels_equally(workspace: Path) -> None:
    from tasks.common.slice_set import read_slices

    examples = to_device(
        read_slices("0", "train"),
        read_slices("0", "val"),
        mask_peak=0.9,
        device=torch.device("cpu"),
    )
    x, labels, conditions = examples.random_batch(8, torch.Generator().manual_seed(0))
    assert labels.tolist() == [0, 1] * 4 and conditions is None
    assert ((x[:, -1] > 0).any(2).any(1) == (labels == 1)).all()


@given(arrays(np.uint8, (2, 9, 11), elements=st.integers(0, 1)), st.floats(0.1, 1.0))
def test_a_softened_mask_cut_at_zero_is_the_original_one(
    masks: NDArray[np.uint8], peak: float
) -> None:
    """Also of one pixel, of a line, of the whole slice: `generate` cuts there."""
    soft = soft_masks(masks, peak=peak)
    assert soft.shape == (2, 1, 9, 11) and soft.dtype == torch.float32
    assert torch.equal(soft[:, 0] > 0, torch.from_numpy(masks > 0))
    assert soft.abs().max() <= np.float32(peak)


def test_a_softened_outline_is_a_ramp_and_a_crisp_one_is_not() -> None:
    mask = np.zeros((1, 16, 16), np.uint8)
    mask[:, 4:12, 4:12] = 1
    soft = soft_masks(mask, peak=0.9)[0, 0, 8]
    assert torch.allclose(soft[2:7], torch.tensor([-0.9, -0.3, 0.3, 0.9, 0.9]))
    assert torch.equal(soft_masks(mask, peak=1.0)[:, 0], torch.from_numpy(2.0 * mask - 1).float())


@pytest.mark.parametrize("n", [2, 4, 5])
def test_slices_are_scored_in_batches_as_in_training(n: int) -> None:
    """However many there are: other groups would shift the minibatch standard deviation."""
    config = TrainGan(**TINY | {"batch": 8, "minibatch_stddev": True})
    trainer = Trainer(config, Architecture(size=SIZE, channels=1, latent=config.latent, width=8),
                      torch.device("cpu"))  # fmt: skip
    none, tumor = torch.randn(2, n, 2, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    rows = torch.arange(-(-n // 4) * 4) % n  # repeated to whole batches of 4 + 4
    mixed = torch.stack([none[rows], tumor[rows]], 1).flatten(0, 1)
    labels = torch.arange(8) % 2
    trainer.joint.network.eval()
    with torch.no_grad():
        logits = [trainer.joint.score(batch, labels)[0] for batch in mixed.split(8)]
    expected = torch.sigmoid(torch.cat(logits)).mean()
    assert mean_score(trainer, [(none, None), (tumor, None)]) == pytest.approx(float(expected))


def test_one_slice_of_a_label_is_too_few_to_learn_from(workspace: Path) -> None:
    path = workspace / "data/slices/slices.parquet"
    table = pd.read_parquet(path)
    held = table.index[(table["partition_0"] == "train") & (table["label"] == 1)]
    table.loc[held[1:], "partition_0"] = "unused"
    table.to_parquet(path, index=False)
    with pytest.raises(InputError, match="1 equal tumour slices"):
        train_gan.main("0")


def test_the_sheet_outlines_masks() -> None:
    x = torch.full((20, 2, SIZE, SIZE), -1.0)
    x[0, 1, 10:20, 10:20] = 1.0
    none, tumor = (
        np.asarray(sample_sheet(x * 0 - 1, x)),
        np.asarray(sample_sheet(x * 0 - 1, x * 0 - 1)),
    )
    outlined = (none == OUTLINE).all(-1).sum()
    assert outlined > 0 and not (tumor == OUTLINE).all(-1).any()


def test_weights_are_sampled_with_the_batch_norm_statistics_of_their_own_samples() -> None:
    config = TrainGan.model_validate(TINY | {"steps": 10})
    trainer = Trainer(config, Architecture(size=SIZE, width=4, latent=8), torch.device("cpu"))
    with torch.no_grad():
        for weight in trainer.ema.parameters():
            weight.mul_(3.0)  # averaged weights are never those the statistics were gathered for
    norm = trainer.recalibrate_ema().stem[1]
    z = seeded_noise(range(256), 8)
    code = torch.cat([z, torch.eye(2)[torch.arange(256) % 2]], 1)[:, :, None, None]
    drawn = trainer.ema.stem[0](code)  # (256,width,base,base)
    torch.testing.assert_close(norm.running_mean, drawn.mean((0, 2, 3)), atol=1e-5, rtol=1e-4)


def test_a_written_key_wins_over_its_recipe() -> None:
    config = TrainGan.model_validate(TINY | {"recipe": "paper", "l1": 0.25})
    assert (config.l1, config.discriminator_norm, config.beta1) == (0.25, "batch", 0.5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"discriminator_norm": "batch"}, "gradient penalty is per slice"),
        ({"loss": "wgan"}, "needs a gradient_penalty"),
        ({"diffaugment": {"upside_down": True}}, "upside-down brains"),
        ({"recipe": "wgan_gp", "ada_target": 0.6}, "sign of the scores"),
        ({"pretrained_features": True}, "no gradient penalty"),
        ({"recipe": "projected", "minibatch_stddev": True}, "by projection"),
        ({"conditions": ["area", "area"]}, "differ"),
        ({"conditions": ["area"], "latent": 1}, "latent must be longer"),
        ({"start_from": "networks.safetensors"}, "sha256sum"),
    ],
)
def test_contradicting_params_are_rejected(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainGan.model_validate(TINY | wrong)


def test_a_typo_is_named_with_what_was_meant(workspace: Path) -> None:
    write_params(workspace, gan={"r1_gama": 3})
    with pytest.raises(InputError, match=r"train_gan\.r1_gama, did you mean 'r1_gamma'"):
        params.read_section(TrainGan)
