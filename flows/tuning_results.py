"""Write the results of a search: a table, plots on one page, the best values."""

import base64
import csv
import html
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna import Trial
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Table

from flows.search_space import Values, round_value

MAX_TABLE_ROWS = 15
STATES = {TrialState.COMPLETE: "done", TrialState.PRUNED: "stopped", TrialState.FAIL: "failed"}


def trial_values(trial: FrozenTrial | Trial) -> Values:
    """Return the values that a trial sets in `params.yaml`."""
    return {key: round_value(value) for key, value in trial.params.items()}


def ended_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that ended, best first, without those that a later trial resumed."""
    trials = study.get_trials(deepcopy=False)
    resumed = {trial.user_attrs.get("takes_up") for trial in trials}
    ended = [t for t in trials if t.state in STATES and t.number not in resumed]
    return sorted(ended, key=trial_rank)


def trial_rank(trial: FrozenTrial) -> tuple[int, float, int]:
    """Rank completed trials by their ratio, then collapsed ones, then all others."""
    done = trial.state == TrialState.COMPLETE and trial.value is not None
    value = trial.value if done and trial.value is not None else math.inf
    return (int(not done) + int(trial.user_attrs.get("collapsed", False)), value, trial.number)


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """Return the best trial that completed and did not collapse, if any."""
    first = next(iter(ended_trials(study)), None)
    return first if first is not None and trial_rank(first)[0] == 0 else None


def trial_state(trial: FrozenTrial) -> str:
    """Return how a trial ended, in a word."""
    return "collapsed" if trial.user_attrs.get("collapsed") else STATES[trial.state]


def result_rows(study: optuna.Study) -> list[dict[str, Any]]:
    """Return one row per trial, as table and CSV file show it."""
    return [
        {
            "trial": trial.number,
            "frechet_ratio": trial.value if trial.state == TrialState.COMPLETE else None,
            "state": trial_state(trial),
            "steps": max(trial.intermediate_values, default=None),
            **trial_values(trial),
            "experiment": trial.user_attrs.get("experiment", ""),
            "remark": trial.user_attrs.get("reason", ""),
        }
        for trial in ended_trials(study)
    ]


def write_results(study: optuna.Study, folder: Path) -> None:
    """Write table, plots and page to `folder`; print the table and what to do next."""
    found = result_rows(study)
    if not found:
        print("no trial has ended yet")
        return
    folder.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(name for row in found for name in row))
    with (folder / "trials.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, names, lineterminator="\n")
        table.writeheader()
        table.writerows(found)
    notes = plot_study(study, folder)
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=120)
    console.print(results_table(study.study_name, found[:MAX_TABLE_ROWS]))
    if len(found) > MAX_TABLE_ROWS:
        print(f"{len(found) - MAX_TABLE_ROWS} more trials in {folder / 'trials.csv'}")
    (folder / "index.html").write_text(html_page(study.study_name, found, folder, notes))
    print(f"pictures  {folder / 'index.html'}")
    chosen = best_trial(study)
    print(
        format_best_values(chosen)
        if chosen is not None
        else "no trial ended with a generator worth keeping"
    )


def results_table(title: str, found: list[dict[str, Any]]) -> Table:
    """Return the best trials as a table for a terminal."""
    table = Table(title=f"{title}: Fréchet ratio to validation patients, training slices = 1")
    names = list(dict.fromkeys(name for row in found for name in row if name != "experiment"))
    for name in names:
        table.add_column(name.removeprefix("train_gan."), overflow="fold")
    for row in found:
        table.add_row(*(format_cell(row.get(name)) for name in names))
    return table


def format_cell(value: Any) -> str:
    """Format a number with four digits, a word as it is, nothing as a dash."""
    if value is None or value == "":
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def format_best_values(chosen: FrozenTrial) -> str:
    """Format the best values for DVC's command line and for `params.yaml`."""
    values = trial_values(chosen)
    words = " ".join(f"-S {key}={value}" for key, value in values.items())
    lines = [f"best      trial {chosen.number}, Fréchet ratio {format_cell(chosen.value)}"]
    lines += [f"  dvc exp run {words}", "or `auglift tune --apply`, which writes to params.yaml:"]
    return "\n".join([*lines, *(f"  {key}: {value}" for key, value in values.items())])


def plot_study(study: optuna.Study, folder: Path) -> list[str]:
    """Plot history, curves, importance and parallel coordinates; return notes on missing plots."""
    import matplotlib as mpl

    mpl.use("Agg")
    import warnings

    from matplotlib import pyplot as plt
    from optuna.visualization import matplotlib as plots

    notes = []
    ratio = "Fréchet ratio"
    drawings: dict[str, Callable[[], Any]] = {
        "history": lambda: plots.plot_optimization_history(study, target_name=ratio),
        "curves": lambda: plots.plot_intermediate_values(study).set_ylabel("best Fréchet ratio"),
        "importance": lambda: plots.plot_param_importances(study, target_name=ratio),
        "parallel": lambda: plots.plot_parallel_coordinate(study, target_name=ratio),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, draw in drawings.items():
            path = folder / f"{name}.png"
            path.unlink(missing_ok=True)
            try:
                draw()
                plt.gcf().set_size_inches(9, 5)
                plt.savefig(path, dpi=110, bbox_inches="tight")
            except (ValueError, RuntimeError, ZeroDivisionError) as error:
                notes.append(f"{name}: not drawn, {error}")
            finally:
                plt.close("all")
    return notes


def html_page(title: str, found: list[dict[str, Any]], folder: Path, notes: list[str]) -> str:
    """Return the results as one HTML page that needs no other file."""
    names = list(dict.fromkeys(name for row in found for name in row))
    text = io.StringIO()
    text.write(
        f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title><style>"
        "body{font:15px sans-serif;margin:2em;max-width:70em}table{border-collapse:collapse}"
        "td,th{border-bottom:1px solid #ccc;padding:.2em .6em;text-align:left}"
        "td:last-child{min-width:14em}img{max-width:100%}"
        f"</style><h1>Search {html.escape(title)}</h1><p>Fréchet ratio: distance to slices of"
        " validation patients, mean over the labels; training slices are 1. Less is better.</p>"
    )
    text.write(
        "<table><tr>"
        + "".join(f"<th>{html.escape(name.removeprefix('train_gan.'))}" for name in names)
    )
    for row in found:
        cells = (html.escape(format_cell(row.get(name))) for name in names)
        text.write("<tr>" + "".join(f"<td>{each}" for each in cells))
    text.write("</table>")
    for note in notes:
        text.write(f"<p>{html.escape(note)}")
    for path in sorted(folder.glob("*.png")):
        encoded = base64.b64encode(path.read_bytes()).decode()
        text.write(
            f'<h2>{path.stem}</h2><img alt="{path.stem}" src="data:image/png;base64,{encoded}">'
        )
    return text.getvalue()
