"""A training killed at any moment and started again ends in the same bytes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from tasks.stage.errors import InputError
from tasks.train_gan import __main__ as train_gan
from tasks.train_gan import training_loop
from tasks.train_gan.trainer import Trainer
from tests.tasks.train_gan_fixtures import OUT, hashes, write_params, write_workspace

HERE = Path(__file__).parents[2]
DRIVER = """
import tasks.train_gan.training_loop as run
from tasks.train_gan.__main__ import main
run.SAVE_SECONDS = 0
main("0")
"""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training_loop, "SAVE_SECONDS", 0.0)
    return write_workspace(tmp_path)


class Killed(BaseException):
    """Stands for a signal."""


def kill_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the training die in the middle of a step, and be gone."""
    take = Trainer.step

    def dying(self: Trainer, number: int, examples: object) -> None:
        take(self, number, examples)  # type: ignore[arg-type]
        if number == step:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", dying)
        with pytest.raises(Killed):
            train_gan.main("0")
    assert not OUT.exists()


@pytest.mark.parametrize(
    "gan",
    [
        {},
        {"precision": "bf16", "discriminator_norm": "spectral", "l1": 0.5, "decay": 0.5},
        {"recipe": "paper"},
        {"ada_target": 0.5, "ada_images": 64, "conditions": ["area", "position"]},
        pytest.param({"recipe": "projected"}, marks=pytest.mark.verify),
    ],
)
def test_killed_at_several_steps_it_ends_in_the_same_bytes(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, gan: dict[str, object]
) -> None:
    write_params(workspace, gan=gan | {"steps": 6})
    train_gan.main("0")
    whole = hashes(OUT)
    OUT.rename("elsewhere")
    for step in (2, 6):
        kill_at(step, monkeypatch)
    train_gan.main("0")
    assert hashes(OUT) == whole
    assert not any(Path(".checkpoints").iterdir())


def test_other_params_or_slices_never_resume_a_foreign_checkpoint(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kill_at(4, monkeypatch)
    write_params(workspace, gan={"r1_gamma": 1.0})
    train_gan.main("0")
    assert "resuming" not in capsys.readouterr().err
    write_params(workspace)
    train_gan.main("0")
    assert "resuming at step 3" in capsys.readouterr().err


def test_a_checkpoint_in_bfloat16_is_not_resumed_without_it(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_params(workspace, gan={"precision": "auto"})

    def finished(able: bool) -> tuple[bool, str]:
        """Whether a run on hardware with or without bfloat16 resumed, and what it computed in."""
        monkeypatch.setattr("tasks.common.torch_setup.supports_bf16", lambda _: able)
        train_gan.main("0")
        config = json.loads((OUT / "config.json").read_text())
        return "resuming" in capsys.readouterr().err, config["precision"]

    monkeypatch.setattr("tasks.common.torch_setup.supports_bf16", lambda _: True)
    kill_at(4, monkeypatch)
    assert finished(able=False) == (False, "fp32")
    assert finished(able=True) == (True, "bf16")


def test_half_a_checkpoint_is_started_afresh(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_gan.main("0")
    whole = hashes(OUT)
    OUT.rename("elsewhere")
    kill_at(4, monkeypatch)
    (state,) = Path(".checkpoints").glob("*/state.safetensors")
    state.write_bytes(state.read_bytes()[:1000])
    train_gan.main("0")
    assert hashes(OUT) == whole


def test_a_divergence_starts_once_more_with_the_next_seed_and_says_so(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = Trainer.step

    def breaking(self: Trainer, number: int, examples: object) -> None:
        take(self, number, examples)  # type: ignore[arg-type]
        if self.config.seed == 3 and number == 2:
            self.add_loss("loss_g", torch.tensor(float("nan")))

    monkeypatch.setattr(Trainer, "step", breaking)
    train_gan.main("0")
    events = pd.read_csv(OUT / "history.csv")["event"]
    assert "restarted with seed 4: at step 3: loss_g is nan" in events[0]


def test_a_second_divergence_is_one_clear_line_and_leaves_nothing(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = Trainer.step

    def breaking(self: Trainer, number: int, examples: object) -> None:
        take(self, number, examples)  # type: ignore[arg-type]
        self.add_loss("loss_d", torch.tensor(float("nan")))

    monkeypatch.setattr(Trainer, "step", breaking)
    with pytest.raises(InputError, match=r"failed twice.*loss_d is nan.*learning_rate"):
        train_gan.main("0")
    assert not OUT.exists()


def start(workspace: Path) -> "subprocess.Popen[bytes]":
    environment = os.environ | {"PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER], cwd=workspace, env=environment, stderr=subprocess.DEVNULL
    )


def kill_until_done(workspace: Path, *, kills: int, seed: int) -> int:
    """Start, kill -9 after a random time, start again, ...; returns how many kills struck."""
    dice, struck = random.Random(seed), 0
    while True:
        process = start(workspace)
        try:
            if struck < kills:
                wait_for_checkpoint(workspace, process)
                time.sleep(dice.uniform(0, 0.4))
                process.send_signal(signal.SIGKILL)
            code = process.wait(timeout=240)
        finally:
            process.kill()
        if code == 0:
            return struck
        assert code == -signal.SIGKILL
        struck += 1


def wait_for_checkpoint(workspace: Path, process: "subprocess.Popen[bytes]") -> None:
    """Until this process has written one; its predecessors' are older."""
    since = time.time()
    while process.poll() is None:
        checkpoints = list(workspace.glob(".checkpoints/*/state.safetensors"))
        if checkpoints and checkpoints[0].stat().st_mtime > since:
            return
        time.sleep(0.01)


@pytest.mark.verify
def test_kill_9_at_random_moments_changes_no_byte(workspace: Path) -> None:
    write_params(workspace, gan={"steps": 600, "watch_every": 10, "sheet_every": 20})
    train_gan.main("0")
    whole = hashes(workspace / OUT)
    (workspace / OUT).rename(workspace / "elsewhere")
    assert kill_until_done(workspace, kills=20, seed=1) >= 1
    assert hashes(workspace / OUT) == whole
