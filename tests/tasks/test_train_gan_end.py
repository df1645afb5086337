"""When a training has collapsed, which weights are best, and when it ends."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from models.dcgan import Architecture
from tasks.params.train_gan import TrainGan
from tasks.train_gan import __main__ as train_gan
from tasks.train_gan.collapse_detection import checkpoint_rank, collapse_reason
from tasks.train_gan.trainer import Trainer
from tasks.train_gan.training_state import TrainingState
from tests.tasks.train_gan_fixtures import OUT, SIZE, TINY, write_params, write_workspace

HEALTHY = {
    "step": 100.0, "std_z_none": 0.7, "std_z_tumor": 0.8, "ssim_none": 0.5, "ssim_tumor": 0.4,
    "mask_missing": 0.1, "mask_spurious": 0.1, "fd_ratio_none": 4.0, "fd_ratio_tumor": 6.0,
    "loss_d": 1.2, "loss_g": 0.9, "score_train": 0.7, "score_fake": 0.2,
}  # fmt: skip


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_workspace(tmp_path)


@pytest.mark.parametrize(
    "ill",
    [
        {"std_z_tumor": 0.05}, {"ssim_none": 0.97}, {"mask_missing": 0.9},
        {"mask_spurious": 0.9}, {"score_train": 0.999, "score_fake": 0.001},
    ],
)  # fmt: skip
def test_collapse_is_detected_from_the_metrics_of_the_slices(ill: dict[str, float]) -> None:
    assert collapse_reason(dict(HEALTHY)) == ""
    assert collapse_reason(HEALTHY | ill)


def test_the_best_checkpoint_has_the_least_distance_and_without_one_is_the_last() -> None:
    nan = float("nan")
    assert checkpoint_rank(dict(HEALTHY)) == (False, 5.0)
    blind = HEALTHY | {"fd_ratio_none": nan, "fd_ratio_tumor": nan}
    assert checkpoint_rank(blind | {"step": 200.0}) < checkpoint_rank(blind)
    assert checkpoint_rank(HEALTHY | {"fd_ratio_none": nan}) == (False, 6.0)


def test_no_collapsed_checkpoint_is_better_than_one_that_is_not() -> None:
    masked = HEALTHY | {"mask_spurious": 1.0, "fd_ratio_none": 1.0}
    assert checkpoint_rank(dict(HEALTHY)) < checkpoint_rank(masked) < checkpoint_rank({})


def test_a_run_ends_at_its_steps_on_a_plateau_or_when_its_time_is_up() -> None:
    config = TrainGan.model_validate(
        TINY | {"steps": 900, "watch_every": 100, "patience": 3, "max_minutes": 2}
    )
    best, later = HEALTHY | {"step": 200.0}, HEALTHY | {"step": 500.0}
    waiting = TrainingState(step=400, history=[best, HEALTHY | {"step": 400.0}], best_row=best)
    assert waiting.stop_reason(config) == ""
    assert (
        TrainingState(step=500, history=[best, later], best_row=best).stop_reason(config)
        == "plateau"
    )
    last = HEALTHY | {"step": 900.0}
    assert TrainingState(step=900, history=[last], best_row=last).stop_reason(config) == "steps"
    slow = TrainingState(step=200, seconds=121, history=[best], best_row=best)
    assert slow.stop_reason(config) == "max_minutes"
    slow.step = 201  # between rows: the last steps are measured before it ends
    assert slow.stop_reason(config) == ""


def test_a_run_whose_time_is_up_before_its_first_row_is_measured_all_the_same(
    workspace: Path,
) -> None:
    write_params(workspace, gan={"steps": 900, "watch_every": 900, "max_minutes": 1e-6})
    train_gan.main("0")
    config = json.loads((OUT / "config.json").read_text())
    assert (config["stopped_by"], config["steps"], config["best_step"]) == ("max_minutes", 2, 2)
    assert pd.read_csv(OUT / "history.csv")["step"].tolist() == [2]
    assert [path.name for path in (OUT / "sheets").iterdir()] == ["step_000002.png"]


def test_only_a_lasting_collapse_of_the_second_half_starts_over() -> None:
    config = TrainGan.model_validate(TINY | {"steps": 1000})
    ill = HEALTHY | {"std_z_none": 0.01}
    late = [ill | {"step": step} for step in (600.0, 700.0, 800.0)]
    early = [ill | {"step": step} for step in (100.0, 200.0, 300.0)]
    assert TrainingState(history=late[:2]).lasting_collapse(late[2], config)
    assert not TrainingState(history=early[:2]).lasting_collapse(early[2], config)
    assert not TrainingState(history=late[:2]).lasting_collapse(HEALTHY | {"step": 800.0}, config)
    assert not TrainingState(history=late[:2], restarted="once").lasting_collapse(late[2], config)


def test_a_run_ends_when_its_losses_have_settled() -> None:
    config = TrainGan.model_validate(TINY | {"steps": 900, "settled": 3})
    still = [HEALTHY | {"loss_d": 1.2 + shift} for shift in (0.0, 0.02, -0.02)]
    moving = [HEALTHY | {"loss_g": 0.9 + shift} for shift in (0.0, 0.1, -0.1)]
    assert TrainingState(step=100, history=still, best_row=still[0]).stop_reason(config) == "losses"
    assert TrainingState(step=100, history=moving, best_row=moving[0]).stop_reason(config) == ""
    assert TrainingState(step=100, history=still[:2], best_row=still[0]).stop_reason(config) == ""


def test_learning_rates_fall_to_zero_over_the_last_steps() -> None:
    config = TrainGan.model_validate(TINY | {"steps": 100, "decay": 0.4, "learning_rate": 0.01})
    trainer = Trainer(config, Architecture(size=SIZE, width=4, latent=8), torch.device("cpu"))
    rates = []
    for number in (1, 60, 81, 100):
        trainer.set_rates(number)
        rates.append(round(trainer.generator_adam.param_groups[0]["lr"], 6))
    assert rates == [0.01, 0.01, 0.005, 0.00025]
