"""One trial of a search: train in its clone, watch how it comes on, stop it when it lags.

The measure is the Fréchet ratio: the distance to slices of validation patients, training slices
being 1, mean over the labels. Test patients are never looked at.
"""

import csv
import json
import math
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

RATIOS = ("fd_ratio_none", "fd_ratio_tumor")
POLL_S = 1.0


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: its figure, what is to be said of it, the experiment that holds it."""

    state: TrialState
    value: float | None = None
    reason: str = ""
    experiment: str = ""
    collapsed: bool = False


@dataclass(frozen=True)
class Job:
    """What a trial needs."""

    workspaces: TrialClones
    fold: str
    values: Values
    trial: Trial
    runner: DvcRunner
    prunes: bool


def train(job: Job, say: Callable[[str], None]) -> Outcome:
    """Train with a trial's values until it is done, or lags behind the others.

    Raises:
        StageFailed: when the whole search was ended; the trial goes on with the next start.
    """
    folder = job.workspaces.open(job.values)
    done, lags = threading.Event(), threading.Event()
    watcher = threading.Thread(target=watch, args=(job, folder, done, lags), daemon=True)
    watcher.start()
    try:
        job.runner.repro(job.workspaces.address, say)
    except StageFailed as error:
        if lags.is_set():
            job.workspaces.close(job.values)
            return Outcome(TrialState.PRUNED, reason="lags behind the others")
        if error.code == ENDED:
            raise
        # Training that fails twice over is a figure of merit too: these values do not work.
        state = TrialState.PRUNED if error.code == WRONG_INPUT else TrialState.FAIL
        return Outcome(state, reason=str(error))
    finally:
        done.set()
        watcher.join()
    value, collapsed = trial_rank(folder / "data/gan" / job.fold)
    if not math.isfinite(value):
        return Outcome(TrialState.FAIL, reason="no Fréchet ratio: too few validation slices")
    words = f"Fréchet ratio {value:.4g} to validation patients"
    experiment = job.workspaces.record(job.values, words)
    job.workspaces.close(job.values)
    return Outcome(TrialState.COMPLETE, value, collapsed, experiment, bool(collapsed))


def watch(job: Job, folder: Path, done: threading.Event, lags: threading.Event) -> None:
    """Report each new figure while the trainer runs; end the trainer when it lags."""
    curves = folder / f"dvclive/train_gan-{job.fold}/plots/metrics"
    told, best = -1, math.inf
    while not done.wait(POLL_S):
        for step, value in sorted(figures(curves).items()):
            if step > told:
                told, best = step, min(best, value)
                job.trial.report(best, step)
        # Also without a new figure: the others may have come on in the meantime.
        if job.prunes and told >= 0 and job.trial.should_prune():
            lags.set()
            job.runner.end()
            return


def figures(curves: Path) -> dict[int, float]:
    """The mean Fréchet ratio of every step so far, from the trainer's curves."""
    series = []
    for name in RATIOS:
        try:
            lines = (curves / f"{name}.tsv").read_text().splitlines()
        except FileNotFoundError:
            return {}
        rows = [line.split("\t") for line in lines[1:]]
        series.append({int(row[0]): float(row[1]) for row in rows if len(row) == 2 and row[1]})
    shared = set.intersection(*map(set, series))
    means = {step: mean(found[step] for found in series) for step in shared}
    return {step: value for step, value in means.items() if math.isfinite(value)}


def trial_rank(folder: Path) -> tuple[float, str]:
    """The mean Fréchet ratio of the checkpoint that was kept, and why it counts as collapsed."""
    config = json.loads((folder / "config.json").read_text())
    with (folder / "history.csv").open(newline="") as file:
        (kept,) = (row for row in csv.DictReader(file) if int(row["step"]) == config["best_step"])
    return mean(float(kept[name] or "nan") for name in RATIOS), config["reason"] or ""


def mean(ratios: Iterable[float]) -> float:
    """Of the labels that have one, as the trainer chooses its checkpoint; NaN where none has."""
    known = [ratio for ratio in ratios if math.isfinite(ratio)]
    return sum(known) / len(known) if known else math.nan
