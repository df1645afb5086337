"""Two processes that share every batch train the generator that one trains alone."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from tasks.params.train_gan import TrainGan
from tasks.stage.errors import InputError
from tasks.train_gan import __main__ as train_gan
from tasks.train_gan.distributed import Ranks
from tests.tasks.train_gan_fixtures import (
    OUT,
    TINY,
    hashes,
    hide_outlines,
    run,
    write_params,
    write_workspace,
)

HERE = Path(__file__).parents[2]


def trained(workspace: Path, gan: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The networks that the stage, as DVC runs it, ends with."""
    write_params(workspace, gan=gan)
    result = run("train_gan", workspace)
    assert result.returncode == 0, result.stderr
    return load_file(workspace / OUT / "networks.safetensors")


def furthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest difference of a tensor's values as a share of the tensor's largest."""
    assert one.keys() == other.keys()
    shares = [
        (a.float() - b.float()).abs().max() / a.float().abs().max().clamp(min=1e-3)
        for a, b in ((one[name], other[name]) for name in one)
    ]
    return float(torch.stack(shares).max())


# A critic's slopes of exactly 0 become any sign, and Adam makes full steps of them.
@pytest.mark.verify
@pytest.mark.parametrize(
    ("gan", "near"),
    [
        ({"ada_target": 0.6, "r1_every": 2, "beta1": 0.5}, 1e-3),
        ({"recipe": "paper"}, 1e-3),
        ({"recipe": "lsgan"}, 1e-3),
        ({"recipe": "wgan_gp", "beta1": 0.5}, 0.05),
    ],
)
def test_two_processes_end_where_one_ends_but_for_rounding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gan: dict[str, Any], near: float
) -> None:
    monkeypatch.chdir(tmp_path)
    write_workspace(tmp_path, gan=gan)
    if "ada_target" in gan:
        hide_outlines(tmp_path)  # a second discriminator
    train_gan.main("0")
    alone = load_file(OUT / "networks.safetensors")
    rows = pd.read_csv(OUT / "history.csv")
    together = trained(tmp_path, gan | {"processes": 2})
    assert furthest(alone, together) < near
    history = pd.read_csv(OUT / "history.csv")
    for name in ("loss_d", "loss_g", "std_z_tumor"):
        assert history[name].to_numpy() == pytest.approx(rows[name].to_numpy(), rel=near)


@pytest.mark.verify
def test_two_processes_killed_and_started_again_end_in_the_same_bytes(tmp_path: Path) -> None:
    gan = {"processes": 2, "steps": 60, "watch_every": 20, "sheet_every": 20}
    write_workspace(tmp_path, gan=gan)
    trained(tmp_path, gan)
    whole = hashes(tmp_path / OUT)
    driver = (
        "import tasks.train_gan.training_loop as loop; loop.SAVE_SECONDS = 0;"
        "from tasks.stage.stage_runtime import run_stage;"
        "from tasks.train_gan.__main__ import main; run_stage(main)"
    )
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    (tmp_path / OUT).rename(tmp_path / "elsewhere")
    torchrun = subprocess.Popen(
        [sys.executable, *words, "--no-python", sys.executable, "-c", driver, "0"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"},
    )
    while torchrun.poll() is None and not list(tmp_path.glob(".checkpoints/*/state.safetensors")):
        time.sleep(0.01)
    time.sleep(0.3)
    torchrun.kill()
    torchrun.wait()
    time.sleep(2)  # the processes that it started end with it, or they would hold the output
    assert not (tmp_path / OUT).exists()
    result = run("train_gan", tmp_path)
    assert "resuming at step" in result.stderr
    assert hashes(tmp_path / OUT) == whole


@pytest.mark.verify
def test_wrong_input_of_two_processes_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    write_workspace(tmp_path, gan={"processes": 2})
    path = tmp_path / "data/slices/slices.parquet"
    pd.read_parquet(path).assign(label=0).to_parquet(path, index=False)
    done = run("train_gan", tmp_path)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if "no tumour slices" in line]
    assert len(lines) == 1 and "Traceback" not in done.stderr


def test_shares_of_a_batch_are_disjoint_and_keep_the_groups_whole() -> None:
    batch = torch.arange(16)
    shares = [Ranks(rank, 2).shard(batch) for rank in range(2)]
    assert sorted(torch.cat(shares).tolist()) == batch.tolist()
    groups = {frozenset(group) for group in batch.reshape(4, 4).T.tolist()}
    assert groups == {frozenset(g) for share in shares for g in share.reshape(4, 2).T.tolist()}


def test_a_batch_that_cannot_be_shared_is_rejected() -> None:
    with pytest.raises(ValidationError, match="batch must be a multiple of 12 for 3 processes"):
        TrainGan.model_validate(TINY | {"processes": 3})
    assert TrainGan.model_validate(TINY | {"processes": 2}).processes == 2


def test_another_number_of_processes_is_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.chdir(tmp_path)
    write_workspace(tmp_path, gan={"processes": 2})
    with pytest.raises(InputError, match="torchrun started 4 processes"):
        train_gan.main("0")
    assert not (tmp_path / OUT).exists()
