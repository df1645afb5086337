"""Trials are chosen by readers' scores where readers compared them."""

import json
from pathlib import Path

import pytest
import yaml
from optuna.trial import TrialState

from flows.search_space import read_space
from flows.tuning_readers import choose_by_readers
from flows.tuning_study import Search, open_study
from tasks.stage.errors import InputError
from tests.flows import toy_trainer


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A search of three trials; the first has the least Fréchet ratio."""
    monkeypatch.chdir(toy_trainer.make_repo(tmp_path / "repo"))
    search = Search(
        name="toy", space=read_space(("train_gan.learning_rate=0.001,0.002,0.003",), None),
        fixed={}, fold="0", sampler="grid", trials=3, minutes=0, workers=1, prunes=True, seed=0,
    )  # fmt: skip
    study = open_study(search)
    for rate, ratio in ((0.001, 2.0), (0.002, 3.0), (0.003, 4.0)):
        study.enqueue_trial({"train_gan.learning_rate": rate})
        study.tell(study.ask(search.space), ratio, state=TrialState.COMPLETE)
    return search.folder


def write_scores(folder: Path, **scores: tuple[float, float, float]) -> None:
    trials = {
        name.removeprefix("t"): {"realism": mean, "low": low, "high": high, "slices": 10}
        for name, (mean, low, high) in scores.items()
    }
    (folder / "readers.json").write_text(json.dumps({"readers": 2, "trials": trials}))


def test_the_trial_that_readers_prefer_is_chosen_and_applied(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scores(folder, t0=(2.0, 1.5, 2.5), t1=(4.0, 3.5, 4.5))
    choose_by_readers("toy", apply=True)
    said = capsys.readouterr().out
    assert "best      trial 1" in said
    assert "overlap" not in said
    params = yaml.safe_load(Path("params.yaml").read_text())
    assert params["train_gan"]["learning_rate"] == 0.002


def test_a_difference_within_the_intervals_is_said_to_be_none(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path("params.yaml").read_text()
    write_scores(folder, t0=(3.0, 2.0, 4.0), t2=(3.5, 2.5, 4.5))
    choose_by_readers("toy", apply=False)
    assert "trial 2 is not shown to be better than trial 0" in capsys.readouterr().out
    assert Path("params.yaml").read_text() == before


def test_a_choice_without_readers_is_one_line(folder: Path) -> None:
    with pytest.raises(InputError, match="no readers have compared the generators of 'toy'"):
        choose_by_readers("toy", apply=True)
    with pytest.raises(InputError, match="holds no search"):
        choose_by_readers("other", apply=True)
    (folder / "readers.json").write_text("{")
    with pytest.raises(InputError, match=r"readers\.json is damaged"):
        choose_by_readers("toy", apply=True)
    write_scores(folder, t7=(3.0, 2.0, 4.0))
    with pytest.raises(InputError, match="scores trial 7, which has not ended"):
        choose_by_readers("toy", apply=True)
