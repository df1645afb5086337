"""What a study came to: tables in Markdown and the learning curves as a picture.

    python -m benchmarks.lift --work /tmp/lgg-study --plan benchmarks/lgg.yaml --plot curves.png

Reads what `benchmarks.experiment` collected. Of the candidates of a size and draw (arms with real
and synthetic slices, in every variant) the one that validation patients liked best stands for all
of them, as the arm `chosen`; no other is looked at on test patients.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import yaml
from matplotlib.figure import Figure

from tasks.arms import Arm
from tasks.lift import measures, study
from tasks.lift.bootstrap import Resampling, sign_flip
from tasks.lift.measures import Measure

CHOSEN = "real+synthetic"  # the name under which the chosen candidate enters the family
METRICS = {"segment": ["dice_volume", "hd95_mm"], "classify": ["auroc", "sensitivity", "accuracy"]}
PRIMARY = {"segment": "dice_volume", "classify": "auroc"}
CURVE, ALONE = "real+classical", "synthetic"


@dataclass(frozen=True)
class Result:
    """What one arm of one experiment left."""

    size: int
    draw: int
    variant: str
    arm: str
    validation: float
    table: pd.DataFrame


def main() -> None:
    """Print the tables and draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--bootstrap", type=int, default=2000)
    words = parser.parse_args()
    plan = yaml.safe_load(words.plan.read_text())
    folder = words.work / "results"
    for task in ("segment", "classify"):
        results = [one for one in read(folder, task) if not Arm.parse(one.arm).apart]
        if not results:
            print(f"\n## {task}: no result")
            continue
        arms, said = settle(results)
        print(f"\n## {task}\n\nChosen on validation patients: {said}.")
        for metric in METRICS[task]:
            report(task, metric, arms, plan["claims"], words)
    print("\n## The gate\n")
    for line in gates(folder):
        print(line)
    print("\n## The split of the seed paper\n")
    for line in apart(folder):
        print(line)


def read(folder: Path, task: str) -> list[Result]:
    """The results of a task; arms that were not trained are left out."""
    found = []
    table = "patients" if task == "segment" else "predictions"
    for place in sorted(folder.glob(f"*/*/downstream/{task}-*")):
        size, _, draw = place.parents[2].name.partition("-")
        runs = pd.read_parquet(place / "runs.parquet")
        if len(runs):
            found.append(
                Result(
                    int(size),
                    int(draw),
                    place.parents[1].name,
                    place.name.removeprefix(f"{task}-"),
                    float(runs["val_metric"].mean()),
                    pd.read_parquet(place / f"{table}.parquet"),
                )
            )
    return found


def settle(results: Iterable[Result]) -> tuple[dict[int, dict[str, pd.DataFrame]], str]:
    """The tables of each size and arm over its draws, the chosen candidate among them.

    Draws in which an arm is missing (too few slices passed the gate) are left out of that size
    for all arms: no difference could be paired. The second value says what was chosen, how often.
    """
    every = list(results)
    candidates = {CURVE + "+synthetic", CHOSEN}
    picked: dict[tuple[int, int], Result] = {}
    for one in every:
        key = (one.size, one.draw)
        if one.arm in candidates and (key not in picked or one.validation > picked[key].validation):
            picked[key] = one
    rows = [one for one in every if one.variant == "base" and one.arm not in candidates]
    chosen = [(key, CHOSEN, one) for key, one in picked.items()]
    named = [((one.size, one.draw), one.arm, one) for one in rows] + chosen
    names = sorted({arm for _, arm, _ in named})
    have: dict[tuple[int, int], set[str]] = {}
    for key, arm, _ in named:
        have.setdefault(key, set()).add(arm)
    whole = {key for key, arms in have.items() if arms == set(names)}
    for size, draw in sorted(have.keys() - whole):
        missing = ", ".join(sorted(set(names) - have[size, draw]))
        print(f"\nSize {size}, draw {draw} is left out: no result of {missing}.")
    tables: dict[int, dict[str, list[pd.DataFrame]]] = {}
    for (size, draw), arm, one in named:
        if (size, draw) in whole:
            of_size = tables.setdefault(size, {})
            of_size.setdefault(arm, []).append(study.by_draw(one.table, draw))
    counts = Counter(f"{one.arm} ({one.variant})" for key, one in picked.items() if key in whole)
    said = ", ".join(f"{name} {count} times" for name, count in counts.most_common())
    joined = {
        size: {arm: pd.concat(parts, ignore_index=True) for arm, parts in arms.items()}
        for size, arms in sorted(tables.items())
    }
    return joined, said


def measured(task: str, metric: str, table: pd.DataFrame, axes: measures.Axes) -> Measure:
    """One metric of one arm."""
    of = measures.segment if task == "segment" else measures.classify
    return of(table, axes)[metric]


def report(
    task: str,
    metric: str,
    arms: Mapping[int, Mapping[str, pd.DataFrame]],
    claimed: list[int],
    words: Any,
) -> None:
    """Print one metric: means by size and arm, and for the primary one contrasts and worth."""
    axes = {size: study.axes_of(tables) for size, tables in arms.items()}
    found = {
        size: {arm: measured(task, metric, table, axes[size]) for arm, table in tables.items()}
        for size, tables in arms.items()
    }
    estimates, resampling = study.estimates_of(found, axes, draws=words.bootstrap, seed=19)
    draws = {size: len(one.runs) for size, one in axes.items()}
    patients = len(next(iter(axes.values())).patients)
    print(f"\n### {metric}: {patients} test patients; draws by size: {draws}\n")
    means(estimates, resampling)
    sizes = [size for size in claimed if draws.get(size, 0) > 1]
    if sizes:
        differences(estimates, found, resampling, sizes, metric == PRIMARY[task])
    if metric == PRIMARY[task]:
        worths(estimates, resampling)
        if words.plot and task == "segment":
            plot(estimates, resampling, metric, words.plot)


def means(estimates: study.Estimates, resampling: Resampling) -> None:
    """A row a size, a column an arm."""
    arms = list(next(iter(estimates.values())))
    print("| patients | " + " | ".join(map(label, arms)) + " |")
    print("|---" * (len(arms) + 1) + "|")
    for size, of_size in estimates.items():
        cells = []
        for arm in arms:
            low, high = np.nanquantile(
                study.possible(of_size[arm], resampling, seed=1), [0.025, 0.975]
            )
            cells.append(f"{of_size[arm].value:.3f} ({low:.3f} to {high:.3f})")
        print(f"| {size} | " + " | ".join(cells) + " |")


def differences(
    estimates: study.Estimates,
    found: Mapping[int, Mapping[str, Measure]],
    resampling: Resampling,
    sizes: list[int],
    primary: bool,
) -> None:
    """A row a contrast of the family, simultaneous over all of them; the claims below."""
    pairs = study.contrasts(estimates, resampling, sizes)
    print(
        "\n| patients | arm | less | difference | 95 %, simultaneous | p | sign flip | detectable |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for size, of_size in pairs.items():
        for (arm, reference), one in of_size.items():
            p = sign_flip(found[size][arm], found[size][reference], seed=19)
            print(
                f"| {size} | {label(arm)} | {label(reference)} | {one.lift:+.3f} |"
                f" {one.low:+.3f} to {one.high:+.3f} | {one.p_adjusted:.3f} |"
                f" {'' if p is None else f'{p:.4f}'} | {one.detectable:.3f} |"
            )
    if primary:
        claims = study.claims(estimates, pairs)
        print("\n" + "; ".join(f"n = {size}: **{claim}**" for size, claim in claims.items()))


def worths(estimates: study.Estimates, resampling: Resampling) -> None:
    """What the chosen arm and synthetic slices alone are worth."""
    curve = {size: arms[CURVE] for size, arms in estimates.items() if CURVE in arms}
    print(f"\n| patients | arm | worth, in patients with `{CURVE}` | share of `real` |")
    print("|---|---|---|---|")
    for size, of_size in estimates.items():
        for arm in (CHOSEN, ALONE):
            if arm in of_size and len(curve) > 1:
                patients, (low, high) = study.worth(curve, of_size[arm], resampling)
                share = of_size[arm].value / of_size["real"].value
                print(
                    f"| {size} | {label(arm)} | {patients:.1f} ({low:.1f} to {high:.1f}) |"
                    f" {share:.0%} |"
                )


def label(arm: str) -> str:
    """How an arm is called in the tables."""
    return "chosen" if arm == CHOSEN else arm


def plot(estimates: study.Estimates, resampling: Resampling, metric: str, path: Path) -> None:
    """The learning curve of every arm with its interval."""
    with mpl.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(6.4, 4.0))
        axes = figure.add_axes((0.1, 0.13, 0.87, 0.84))
        arms = list(next(iter(estimates.values())))
        for number, arm in enumerate(arms):
            sizes = np.array([size for size, of in estimates.items() if arm in of], dtype=float)
            values = [estimates[int(size)][arm] for size in sizes]
            spans = np.array(
                [
                    np.nanquantile(study.possible(one, resampling, seed=1), [0.025, 0.975])
                    for one in values
                ]
            )
            middle = np.array([one.value for one in values])
            axes.errorbar(
                sizes * 1.03 ** (number - len(arms) / 2), middle,
                yerr=np.abs(spans.T - middle), marker="o", markersize=4, linewidth=1.4,
                elinewidth=0.8, label=label(arm),
            )  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(estimates), [str(size) for size in estimates])
        axes.set_xlabel("real patients to train and validate on")
        axes.set_ylabel(metric)
        axes.legend(frameon=False)
        figure.savefig(path, dpi=150)


def gates(folder: Path) -> list[str]:
    """The gate's verdict of every experiment, with its nearest SSIM beside that of real slices."""
    lines = ["| patients | draw | verdict | accepted | Fréchet ratio | nearest SSIM (real) |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for path in sorted(folder.glob("*/base/gate/*/metrics.json")):
        size, _, draw = path.parents[3].name.partition("-")
        said = json.loads(path.read_text())
        images, named = said["images"], said["measures"]
        frechet = next(iter(named.values()))["ratio"]
        ssim = named.get("nearest_ssim", {})
        lines.append(
            f"| {size} | {draw} | {said['verdict']} | {images['accepted']} of {images['n']} |"
            f" {short(frechet)} | {short(ssim.get('value'))} ({short(ssim.get('baseline'))}) |"
        )
    return lines


def apart(folder: Path) -> list[str]:
    """Accuracy and AUROC of the arms with a split by slice, and of random labels."""
    lines = ["| patients | draw | arm | accuracy | AUROC |", "|---|---|---|---|---|"]
    for one in read(folder, "classify"):
        if Arm.parse(one.arm).apart:
            axes = measures.Axes.of(one.table)
            found = measures.classify(one.table, axes)
            unit = np.ones((1, len(axes.patients)))
            values = [
                np.divide(*(part.sum() for part in found[metric].sums(unit)))
                for metric in ("accuracy", "auroc")
            ]
            lines.append(
                f"| {one.size} | {one.draw} | {one.arm} | {values[0]:.3f} | {values[1]:.3f} |"
            )
    return lines


def short(value: float | None) -> str:
    """Two places, or a dash."""
    return "–" if value is None else f"{value:.2f}"  # noqa: RUF001


if __name__ == "__main__":
    main()
