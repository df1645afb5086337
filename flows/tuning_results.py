"""What a search has found: a table, pictures on one page, and the values ready to apply."""

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

from flows.search_space import Values, rounded

SHOWN = 15
STATES = {TrialState.COMPLETE: "done", TrialState.PRUNED: "stopped", TrialState.FAIL: "failed"}


def values_of(trial: FrozenTrial | Trial) -> Values:
    """What a trial writes into `params.yaml`."""
    return {key: rounded(value) for key, value in trial.params.items()}


def ended(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that ended, the best first; what a later trial took up again is not among them."""
    everything = study.get_trials(deepcopy=False)
    taken_up = {trial.user_attrs.get("takes_up") for trial in everything}
    found = [t for t in everything if t.state in STATES and t.number not in taken_up]
    return sorted(found, key=rank)


def rank(trial: FrozenTrial) -> tuple[int, float, int]:
    """Trials that ended well by their figure, then those that collapsed, then the others."""
    done = trial.state == TrialState.COMPLETE and trial.value is not None
    value = trial.value if done and trial.value is not None else math.inf
    return (int(not done) + int(trial.user_attrs.get("collapsed", False)), value, trial.number)


def best(study: optuna.Study) -> FrozenTrial | None:
    """The best trial that ended well and did not collapse."""
    first = next(iter(ended(study)), None)
    return first if first is not None and rank(first)[0] == 0 else None


def state_of(trial: FrozenTrial) -> str:
    """How a trial ended, in a word."""
    return "collapsed" if trial.user_attrs.get("collapsed") else STATES[trial.state]


def rows(study: optuna.Study) -> list[dict[str, Any]]:
    """A row a trial, as the table and the CSV file have it."""
    return [
        {
            "trial": trial.number,
            "frechet_ratio": trial.value if trial.state == TrialState.COMPLETE else None,
            "state": state_of(trial),
            "steps": max(trial.intermediate_values, default=None),
            **values_of(trial),
            "experiment": trial.user_attrs.get("experiment", ""),
            "remark": trial.user_attrs.get("reason", ""),
        }
        for trial in ended(study)
    ]


def show(study: optuna.Study, folder: Path) -> None:
    """Print the table and what to do next; write table and pictures to `folder`."""
    found = rows(study)
    if not found:
        print("no trial has ended yet")
        return
    folder.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(name for row in found for name in row))
    with (folder / "trials.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, names, lineterminator="\n")
        table.writeheader()
        table.writerows(found)
    notes = pictures(study, folder)
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=120)
    console.print(as_table(study.study_name, found[:SHOWN]))
    if len(found) > SHOWN:
        print(f"{len(found) - SHOWN} more trials in {folder / 'trials.csv'}")
    (folder / "index.html").write_text(page(study.study_name, found, folder, notes))
    print(f"pictures  {folder / 'index.html'}")
    chosen = best(study)
    print(advice(chosen) if chosen is not None else "no trial ended with a generator worth keeping")


def as_table(title: str, found: list[dict[str, Any]]) -> Table:
    """The best trials for a terminal."""
    table = Table(title=f"{title}: Fréchet ratio to validation patients, training slices = 1")
    names = list(dict.fromkeys(name for row in found for name in row if name != "experiment"))
    for name in names:
        table.add_column(name.removeprefix("train_gan."), overflow="fold")
    for row in found:
        table.add_row(*(cell(row.get(name)) for name in names))
    return table


def cell(value: Any) -> str:
    """A figure of four digits, a word as it is, a dash for nothing."""
    if value is None or value == "":
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def advice(chosen: FrozenTrial) -> str:
    """The best values as DVC's command line takes them, and as `params.yaml` has them."""
    values = values_of(chosen)
    words = " ".join(f"-S {key}={value}" for key, value in values.items())
    lines = [f"best      trial {chosen.number}, Fréchet ratio {cell(chosen.value)}"]
    lines += [f"  dvc exp run {words}", "or `auglift tune --apply`, which writes to params.yaml:"]
    return "\n".join([*lines, *(f"  {key}: {value}" for key, value in values.items())])


def pictures(study: optuna.Study, folder: Path) -> list[str]:
    """Draw history, curves, importance and parallel coordinates; says what could not be drawn."""
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


def page(title: str, found: list[dict[str, Any]], folder: Path, notes: list[str]) -> str:
    """One page that needs no other file."""
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
        cells = (html.escape(cell(row.get(name))) for name in names)
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
