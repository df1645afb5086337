"""The settings of a search and its Optuna study: what is proposed first, and what is resumed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from flows.search_space import (
    SECTION,
    Space,
    Values,
    check_search_name,
    current_values,
    grid_points,
    parse_fixed_values,
    read_space,
    set_values,
)
from tasks import params
from tasks.params.train_gan import TrainGan
from tasks.stage.errors import InputError

SEARCHES = Path(".tune")
TRIALS_BEFORE_PRUNING = 4  # completed trials before one may be stopped
STEPS_SHARE_BEFORE_PRUNING = 0.3  # share of a trial's steps before it may be stopped
DEFAULT_TRIALS = 20  # without --trials; a grid is tried whole


@dataclass(frozen=True, kw_only=True)
class Search:
    """The settings of a search; `trials` 0 stands for the sampler's default number."""

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

    @classmethod
    def parse(
        cls,
        *,
        name: str,
        space: Sequence[str],
        fixed: Sequence[str],
        space_file: Path | None = None,
        **settings: Any,
    ) -> "Search":
        """Make a search of the words of a command line or of a deployment's parameters.

        Raises:
            InputError: a name, range or value is not allowed.
        """
        return cls(
            name=check_search_name(name),
            space=read_space(space, space_file),
            fixed=parse_fixed_values(fixed),
            **settings,
        )

    @property
    def folder(self) -> Path:
        """The folder of study, clones and results."""
        return SEARCHES / self.name

    @property
    def address(self) -> str:
        """The stage that every trial runs."""
        return f"{SECTION}@{self.fold}"

    @property
    def max_trials(self) -> float:
        """The number of trials in all, those of earlier runs included."""
        return self.trials or (math.inf if self.sampler == "grid" else DEFAULT_TRIALS)

    def fixed_settings(self) -> str:
        """Describe the settings that must not change when a search is resumed."""
        space = {key: repr(values) for key, values in sorted(self.space.items())}
        return f"{space} {sorted(self.fixed.items())} fold {self.fold} {self.sampler}"


def requeue_unfinished(study: optuna.Study) -> None:
    """Enqueue again the trials that an earlier run left unfinished; their clones still exist."""
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        if trial.params:
            study.enqueue_trial(trial.params, user_attrs={"takes_up": trial.number})


def enqueue_first(search: Search, study: optuna.Study) -> None:
    """Enqueue the whole grid, or the current values, which the other trials have to beat."""
    if search.sampler == "grid":
        for values in grid_points(search.space):
            study.enqueue_trial(values, skip_if_exists=True)
    elif not study.get_trials(deepcopy=False) and (current := current_values(search.space)):
        study.enqueue_trial(current)


def open_study(search: Search) -> optuna.Study:
    """Open the study of a search, or create it.

    Raises:
        InputError: when it was begun with another space, fixed values or sampler.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    search.folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=f"sqlite:///{search.folder / 'study.db'}",
        study_name=search.name,
        load_if_exists=True,
        direction="minimize",
        pruner=optuna.pruners.MedianPruner(
            TRIALS_BEFORE_PRUNING, int(STEPS_SHARE_BEFORE_PRUNING * trial_param(search, "steps"))
        ),
    )
    begun = len(study.get_trials(deepcopy=False))
    if study.user_attrs.setdefault("said", search.fixed_settings()) != search.fixed_settings():
        raise InputError(
            f"the search {search.name!r} was begun with another space, other fixed values or"
            f" another sampler; name a new one with --name, or remove {search.folder}"
        )
    study.set_user_attr("said", search.fixed_settings())
    # With the same seed, a resumed search would propose its first values again.
    study.sampler = make_sampler(search.sampler, search.seed + begun)
    return study


def make_sampler(name: str, seed: int) -> BaseSampler:
    """Return the sampler; TPE's constant liar keeps parallel trials apart."""
    if name == "tpe":
        return TPESampler(seed=seed, constant_liar=True)
    return RandomSampler(seed=seed)


def trial_param(search: Search, key: str) -> int:
    """Return an integer key of `train_gan` that all trials share."""
    tree = params.load_params()
    set_values(tree, search.fixed)
    return int(getattr(TrainGan.model_validate(tree[SECTION]), key))
