"""Run one trial of a search: train in its clone, report its curve, stop it when it lags.

The objective is the Fréchet ratio: the distance to slices of validation patients divided by the
distance of training slices to them, mean over the labels. Test patients are never used.
"""

import csv
import json
import math
import shutil
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from optuna import Trial
from optuna.trial import TrialState

from flows.dvc_runner import DvcRunner
from flows.run_failure import ENDED, StageFailed
from flows.search_space import Values
from flows.trial_clones import TrialClones
from tasks.stage.errors import WRONG_INPUT
from tasks.stage.stage_io import discard

RATIOS = ("fd_ratio_none", "fd_ratio_tumor")
POLL_S = 1.0


@dataclass(frozen=True)
class TrialOutcome:
    """How a trial ended: its Fréchet ratio, the reason, the DVC experiment that holds it."""

    state: TrialState
    value: float | None = None
    reason: str = ""
    experiment: str = ""
    collapsed: bool = False


@dataclass(frozen=True)
class TrialJob:
    """The inputs of a trial."""

    clones: TrialClones
    fold: str
    values: Values
    trial: Trial
    runner: DvcRunner
    prunes: bool


def train_trial(job: TrialJob, say: Callable[[str], None]) -> TrialOutcome:
    """Train with a trial's values until training ends or lags behind the other trials.

    Raises:
        StageFailed: when the whole search was ended; the next start resumes the trial.
    """
    folder = job.clones.open_clone(job.values)
    done, lags = threading.Event(), threading.Event()
    watcher = threading.Thread(target=report_curves, args=(job, folder, done, lags), daemon=True)
    watcher.start()
    try:
        job.runner.repro(job.clones.address, say)
    except StageFailed as error:
        if lags.is_set():
            job.clones.remove_clone(job.values)
            return TrialOutcome(TrialState.PRUNED, reason="lags behind the others")
        if error.code == ENDED:
            raise
        # The trainer exits with 2 when training failed twice: a result, these values do not work.
        state = TrialState.PRUNED if error.code == WRONG_INPUT else TrialState.FAIL
        return TrialOutcome(state, reason=str(error))
    finally:
        done.set()
        watcher.join()
    value, collapsed = read_result(folder / "data/gan" / job.fold)
    if not math.isfinite(value):
        return TrialOutcome(TrialState.FAIL, reason="no Fréchet ratio: too few validation slices")
    message = f"Fréchet ratio {value:.4g} to validation patients"
    experiment = job.clones.save_experiment(job.values, message)
    keep_generator(folder / "data/gan" / job.fold, job.clones.root, job.trial.number)
    job.clones.remove_clone(job.values)
    return TrialOutcome(TrialState.COMPLETE, value, collapsed, experiment, bool(collapsed))


def keep_generator(trained: Path, search: Path, trial: int) -> None:
    """Copy a trial's generator into the search's folder, for readers to compare.

    Args:
        trained: The folder of `config.json` and `generator.safetensors`.
        search: The folder of the search.
        trial: The trial's number.
    """
    files = [trained / name for name in ("config.json", "generator.safetensors")]
    if not all(file.exists() for file in files):
        return
    target = search / "generators" / str(trial)
    partial = target.with_suffix(".partial")
    discard(partial)
    partial.mkdir(parents=True)
    for file in files:
        shutil.copyfile(file, partial / file.name)
    discard(target)
    partial.replace(target)


def report_curves(
    job: TrialJob, folder: Path, done: threading.Event, lags: threading.Event
) -> None:
    """Report the best ratio at each step while the trainer runs; end it when it lags.

    Args:
        job: The trial.
        folder: Its clone.
        done: An event that ends the watch.
        lags: An event that is set when the trainer was ended.
    """
    curves = folder / f"dvclive/train_gan-{job.fold}/plots/metrics"
    reported, best = -1, math.inf
    while not done.wait(POLL_S):
        for step, value in sorted(read_curves(curves).items()):
            if step > reported:
                reported, best = step, min(best, value)
                job.trial.report(best, step)
        # Checked also without a new value: the other trials may have improved meanwhile.
        if job.prunes and reported >= 0 and job.trial.should_prune():
            lags.set()
            job.runner.end()
            return


def read_curves(curves: Path) -> dict[int, float]:
    """Read the mean Fréchet ratio of every step so far from the trainer's curves."""
    series = []
    for name in RATIOS:
        try:
            lines = (curves / f"{name}.tsv").read_text().splitlines()
        except FileNotFoundError:
            return {}
        rows = [line.split("\t") for line in lines[1:]]
        series.append({int(row[0]): float(row[1]) for row in rows if len(row) == 2 and row[1]})
    shared = set.intersection(*map(set, series))
    means = {step: mean_ratio(found[step] for found in series) for step in shared}
    return {step: value for step, value in means.items() if math.isfinite(value)}


def read_result(folder: Path) -> tuple[float, str]:
    """Read the mean Fréchet ratio of the best checkpoint, and the reason if it collapsed."""
    config = json.loads((folder / "config.json").read_text())
    with (folder / "history.csv").open(newline="") as file:
        (best,) = (row for row in csv.DictReader(file) if int(row["step"]) == config["best_step"])
    return mean_ratio(float(best[name] or "nan") for name in RATIOS), config["reason"] or ""


def mean_ratio(ratios: Iterable[float]) -> float:
    """Average the finite ratios, as the trainer does to choose its checkpoint; NaN for none."""
    finite = [ratio for ratio in ratios if math.isfinite(ratio)]
    return sum(finite) / len(finite) if finite else math.nan
