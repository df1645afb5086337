"""The curves of a training, wherever it runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.train_gan import __main__ as train_gan
from tasks.train_gan.dvclive_logger import DvcliveLogger
from tests.tasks.train_gan_fixtures import OUT, hashes, write_workspace


@pytest.mark.parametrize(
    "git", [False, True], ids=["no repository", "a repository without commits"]
)
def test_curves_need_no_commit_and_make_no_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, git: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    if git:
        subprocess.run(["git", "init", "-q", "."], check=True)
    with DvcliveLogger("0", resume=False) as curves:
        curves.log_row({"step": 3, "event": "best", "loss_d": 0.5})
    with DvcliveLogger("0", resume=True) as curves:
        curves.log_row({"step": 6, "event": "", "loss_d": 0.25})
    drawn = (tmp_path / "dvclive/train_gan-0/plots/metrics/loss_d.tsv").read_text()
    assert drawn.split() == ["step", "loss_d", "3", "0.5", "6", "0.25"]
    assert not (tmp_path / ".dvc").exists()


@pytest.mark.parametrize("left", ["", '{"step": 3, "los'])
def test_curves_go_on_where_a_kill_left_half_a_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with DvcliveLogger("0", resume=False) as curves:
        curves.log_row({"step": 3, "event": "", "loss_d": 0.5})
    summary = tmp_path / "dvclive/train_gan-0/metrics.json"
    assert json.loads(summary.read_text())["step"] == 3
    summary.write_text(left)
    with DvcliveLogger("0", resume=True) as curves:
        curves.log_row({"step": 6, "event": "", "loss_d": 0.25})
    assert json.loads(summary.read_text()) == {"step": 6, "loss_d": 0.25}


def test_a_worker_without_dvc_trains_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_workspace(tmp_path)
    train_gan.main("0")
    first = hashes(OUT)
    monkeypatch.delitem(sys.modules, "tasks.train_gan.dvclive_logger")
    monkeypatch.setitem(sys.modules, "dvclive", None)
    train_gan.main("0")
    assert hashes(OUT) == first
    assert "no curves while it trains, dvclive is not installed" in capsys.readouterr().out
