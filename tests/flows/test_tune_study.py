"""What a search remembers, refuses and ranks, without training anything."""

import logging
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.trial import TrialState

from flows import tuning_results
from flows.search_space import read_space
from flows.trial_clones import TrialClones, check_commit
from flows.tuning_flow import SearchLoop
from flows.tuning_study import Search, enqueue_first, open_study, requeue_unfinished
from flows.tuning_trial import TrialOutcome
from tasks.stage.errors import InputError
from tests.flows import toy_trainer

WORDS = ("train_gan.learning_rate=1e-4..1e-2:log", "train_gan.batch=8,16")


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Search:
    root = toy_trainer.make_repo(tmp_path / "repo")
    monkeypatch.chdir(root)
    return Search(
        name="toy", space=read_space(WORDS, None), fixed={}, fold="0", sampler="tpe", trials=5,
        minutes=0, workers=1, prunes=True, seed=0,
    )  # fmt: skip


def test_the_values_of_today_are_tried_first_and_once(search: Search) -> None:
    study = open_study(search)
    enqueue_first(search, study)
    enqueue_first(search, study)
    trials = study.get_trials()
    assert len(trials) == 1
    first = study.ask(search.space)
    assert first.params == {"train_gan.learning_rate": 0.001, "train_gan.batch": 16}


def test_a_trial_that_was_running_is_waiting_again_with_its_values(search: Search) -> None:
    study = open_study(search)
    left = study.ask(search.space)
    again = open_study(search)
    requeue_unfinished(again)
    states = [trial.state for trial in again.get_trials()]
    assert states == [TrialState.FAIL, TrialState.WAITING]
    assert tuning_results.ended_trials(again) == []  # the one given up does not count
    assert again.ask(search.space).params == left.params


def test_a_search_goes_on_with_its_own_space_only(search: Search) -> None:
    open_study(search)
    open_study(replace(search, trials=9, workers=4))
    for other in (
        replace(search, space=read_space(WORDS[:1], None)),
        replace(search, fixed={"train_gan.steps": 8}),
        replace(search, sampler="random"),
    ):
        with pytest.raises(InputError, match="begun with another space"):
            open_study(other)


def test_a_repository_without_commits_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q", "."], check=True)
    with pytest.raises(InputError, match="git commit"):
        check_commit()


def test_a_collapsed_generator_ranks_behind_every_other_and_is_never_the_best(
    search: Search,
) -> None:
    study = open_study(search)
    ends = [(2.0, True), (5.0, False), (3.0, False), (None, False)]
    for value, collapsed in ends:
        trial = study.ask(search.space)
        trial.set_user_attr("collapsed", collapsed)
        state = TrialState.PRUNED if value is None else TrialState.COMPLETE
        study.tell(trial, value, state=state)
    assert [trial.value for trial in tuning_results.ended_trials(study)][:3] == [3.0, 5.0, 2.0]
    chosen = tuning_results.best_trial(study)
    assert chosen is not None and chosen.value == 3.0
    assert "train_gan.batch" in tuning_results.format_best_values(chosen)


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_known_values_are_not_trained_again_and_forbidden_ones_not_at_all(
    search: Search, sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four combinations, three of them known and one forbidden: nine more trials need nothing."""
    words = ("train_gan.discriminator_norm=none,batch", "train_gan.r1_gamma=0,0.1")
    search = replace(search, space=read_space(words, None), sampler=sampler, trials=12)
    study = open_study(search)
    searching = SearchLoop(search, study, TrialClones(search.folder, search.address))
    monkeypatch.setattr("flows.tuning_flow.get_run_logger", lambda: logging.getLogger("toy"))
    known = {}
    for norm, gamma in (("none", 0.0), ("none", 0.1), ("batch", 0.0)):
        values = {"train_gan.discriminator_norm": norm, "train_gan.r1_gamma": gamma}
        study.enqueue_trial(values)
        trial = study.ask(search.space)
        searching.record_outcome(trial, TrialOutcome(TrialState.COMPLETE, 1.0, "", "e"))
        known[trial.number] = values
    while searching.wants_more():
        searching.start_trial()
    assert not searching.running
    assert len(tuning_results.result_rows(study)) == 12
    for row in tuning_results.result_rows(study):
        if row["state"] == "stopped":
            assert (row["train_gan.discriminator_norm"], row["train_gan.r1_gamma"]) == (
                "batch",
                0.1,
            )
            assert "gradient" in row["remark"]
        elif row["trial"] not in known:
            assert row["remark"].startswith("as trial") and row["experiment"] == "e"


@pytest.mark.parametrize(("trials", "tried"), [(0, 4), (3, 3), (9, 4)])
def test_a_grid_is_tried_whole_or_as_many_as_asked_for(
    search: Search, monkeypatch: pytest.MonkeyPatch, trials: int, tried: int
) -> None:
    monkeypatch.setattr("flows.tuning_flow.get_run_logger", lambda: logging.getLogger("toy"))
    words = ("train_gan.learning_rate=1e-3,2e-3", "train_gan.batch=8,16")
    search = replace(search, space=read_space(words, None), sampler="grid", trials=trials)
    study = open_study(search)
    enqueue_first(search, study)
    searching = SearchLoop(search, study, TrialClones(search.folder, search.address))
    while searching.wants_more():
        trial = study.ask(search.space)
        searching.record_outcome(trial, TrialOutcome(TrialState.COMPLETE, 1.0, "", "e"))
    assert len(tuning_results.ended_trials(study)) == tried
