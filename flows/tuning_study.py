"""The settings of a search and its Optuna study: what is proposed first, and what is resumed."""

import math
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from flows.search_space import SECTION, Space, Values, current, grid, set_values
from tasks import params
from tasks.params.train_gan import TrainGan
from tasks.stage.errors import InputError

FOLDER = Path(".tune")
STARTUP = 4  # whole trials before one may be stopped
HEAD_START = 0.3  # of the steps, before a trial may be stopped
TRIALS = 20  # unless another number is asked for; a grid is tried whole


@dataclass(frozen=True, kw_only=True)
class Search:
    """What was asked for; 0 `trials` are as many as the sampler usually has."""

    name: str
    space: Space
    fixed: Values
    fold: str
    sampler: str
    trials: int
    minutes: float
    workers: int
    prunes: bool
    seed: int

    @property
    def folder(self) -> Path:
        """Where study, clones and results lie."""
        return FOLDER / self.name

    @property
    def address(self) -> str:
        """The stage that every trial runs."""
        return f"{SECTION}@{self.fold}"

    @property
    def most(self) -> float:
        """Trials in all, those of earlier runs included."""
        return self.trials or (math.inf if self.sampler == "grid" else TRIALS)

    def said(self) -> str:
        """What must not change while a search goes on."""
        words = {key: repr(found) for key, found in sorted(self.space.items())}
        return f"{words} {sorted(self.fixed.items())} fold {self.fold} {self.sampler}"


def requeue_unfinished(study: optuna.Study) -> None:
    """Put trials that an earlier run left unfinished back in line; their clones are still there."""
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        if trial.params:
            study.enqueue_trial(trial.params, user_attrs={"takes_up": trial.number})


def propose_first(search: Search, study: optuna.Study) -> None:
    """The whole grid; or the values of today, which the others have to beat."""
    if search.sampler == "grid":
        for values in grid(search.space):
            study.enqueue_trial(values, skip_if_exists=True)
    elif not study.get_trials(deepcopy=False) and (today := current(search.space)):
        study.enqueue_trial(today)


def open_study(search: Search) -> optuna.Study:
    """The study of this name, as it was left, or new.

    Raises:
        StageError: when it was begun with another space.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    search.folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=f"sqlite:///{search.folder / 'study.db'}",
        study_name=search.name,
        load_if_exists=True,
        direction="minimize",
        pruner=optuna.pruners.MedianPruner(STARTUP, int(HEAD_START * planned(search, "steps"))),
    )
    begun = len(study.get_trials(deepcopy=False))
    if study.user_attrs.setdefault("said", search.said()) != search.said():
        raise InputError(
            f"the search {search.name!r} was begun with another space, other fixed values or"
            f" another sampler; name a new one with --name, or remove {search.folder}"
        )
    study.set_user_attr("said", search.said())
    # What is drawn at random goes on; the same seed again would repeat the first proposals.
    study.sampler = sampler(search.sampler, search.seed + begun)
    return study


def sampler(name: str, seed: int) -> BaseSampler:
    """How values are proposed; several trials at once keep out of each other's way."""
    if name == "tpe":
        return TPESampler(seed=seed, constant_liar=True)
    return RandomSampler(seed=seed)


def planned(search: Search, key: str) -> int:
    """A whole number of `train_gan` that holds for all trials."""
    tree = params.load_params()
    set_values(tree, search.fixed)
    return int(getattr(TrainGan.model_validate(tree[SECTION]), key))
