"""Choose among the trials of a search by the scores of readers who compared their generators."""

import json

import optuna
from pydantic import BaseModel, ConfigDict, ValidationError
from rich.console import Console
from rich.table import Table

from flows.trial_clones import write_params
from flows.tuning_results import ended_trials, format_cell, trial_values
from flows.tuning_study import SEARCHES
from tasks.stage.errors import InputError
from tasks.stage.params_file import PARAMS


class TrialScore(BaseModel):
    """Mean score of realism, 1 to 5, of a trial's slices, with its 95 % interval."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    realism: float
    low: float
    high: float
    slices: int


class ReaderScores(BaseModel):
    """`.tune/NAME/readers.json`, as `auglift review export --search NAME` writes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    readers: int
    trials: dict[int, TrialScore]


def choose_by_readers(name: str, *, apply: bool) -> None:
    """Print the trials that readers compared, the best first; write the best values if asked to.

    Raises:
        InputError: when there is no such search, or no readers compared its generators.
    """
    folder = SEARCHES / name
    if not (folder / "study.db").exists():
        raise InputError(f"{folder} holds no search; run `auglift tune --name {name}` first")
    scores = read_scores(name)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{folder / 'study.db'}")
    trials = {trial.number: trial for trial in ended_trials(study)}
    if unknown := sorted(scores.trials.keys() - trials.keys()):
        raise InputError(f"{folder}/readers.json scores trial {unknown[0]}, which has not ended")
    ranked = sorted(scores.trials.items(), key=lambda item: (-item[1].realism, item[0]))
    table = Table(title=f"{name}: realism by {scores.readers} readers, 5 is best")
    for head in ("trial", "realism", "95 % interval", "slices", "Fréchet ratio"):
        table.add_column(head)
    for number, score in ranked:
        table.add_row(
            str(number), f"{score.realism:.2f}", f"{score.low:.2f} to {score.high:.2f}",
            str(score.slices), format_cell(trials[number].value),
        )  # fmt: skip
    terminal = Console()
    (terminal if terminal.is_terminal else Console(width=100)).print(table)
    best, score = ranked[0]
    alike = [number for number, other in ranked[1:] if other.high > score.low]
    if alike:
        print(
            f"trial {best} is not shown to be better than trial"
            f" {', '.join(map(str, alike))}: their intervals overlap"
        )
    values = trial_values(trials[best])
    print(f"best      trial {best}")
    for key, value in values.items():
        print(f"  {key}: {value}")
    if apply:
        write_params(PARAMS, values)
        print("params.yaml has these values now")


def read_scores(name: str) -> ReaderScores:
    """Read what readers said of a search's generators.

    Raises:
        InputError: when nobody compared them, or the file is damaged.
    """
    path = SEARCHES / name / "readers.json"
    remedy = f"run `auglift review --search {name}`, then `auglift review export --search {name}`"
    try:
        scores = ReaderScores.model_validate(json.loads(path.read_text()))
    except FileNotFoundError:
        raise InputError(f"no readers have compared the generators of {name!r}: {remedy}") from None
    except (ValidationError, json.JSONDecodeError):
        raise InputError(f"{path} is damaged: {remedy}") from None
    if not scores.trials:
        raise InputError(f"{path} scores no trial: {remedy}")
    return scores
