"""What a study came to: tables in Markdown and the learning curves as a picture.

    python -m benchmarks.study_report --work /tmp/lgg-study --plan benchmarks/lgg.yaml \\
        --plot curves.png

Reads what `benchmarks.run_study` collected. Of the candidates of a size and draw (arms with real
and synthetic slices, in every variant) the one that validation patients liked best stands for all
of them, as the arm `chosen`.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks import run_study
from benchmarks.select_study_arm import (
    ALONE,
    BEST_REAL,
    CHOSEN,
    CURVE,
    DESCRIBED,
    FIXED,
    FIXED_ARM,
    PRIMARY,
    Result,
    on_validation,
    read,
    settle,
)
from tasks.common.arms import Arm
from tasks.lift import learning_curves, patient_metrics
from tasks.lift.bootstrap import Difference, Pair, Resampling, estimate, sign_flip
from tasks.lift.claim import claim_contrasts, over_real
from tasks.lift.compare import METRICS, within
from tasks.lift.compare import PRIMARY as PRIMARY_METRIC
from tasks.lift.downstream_results import by_site, by_size
from tasks.lift.patient_metrics import Axes, Measure
from tasks.schemas.predictions import UNBOUNDED

CONTRASTED = ("dice_volume", "auroc", "sensitivity")  # the others' means are printed
FEWEST = 5  # test patients of a group
SEED = 19


@dataclass(frozen=True)
class Metric:
    """One metric of every arm at every size."""

    name: str
    measures: dict[int, dict[str, Measure]]
    estimates: learning_curves.Estimates
    resampling: Resampling

    @property
    def limit(self) -> float:
        """Its largest value."""
        return np.inf if self.name in UNBOUNDED else 1.0

    def family(self) -> learning_curves.Estimates:
        """Without the arms that are described only."""
        return {
            size: {arm: one for arm, one in of_size.items() if arm not in DESCRIBED}
            for size, of_size in self.estimates.items()
        }

    def sizes(self, wanted: Sequence[int]) -> list[int]:
        """Those with draws enough to tell how draws differ."""
        return [
            size for size in wanted if size in self.estimates
            and all(one.freedom > 0 for one in self.estimates[size].values())
        ]  # fmt: skip


def main() -> None:
    """Print the tables and draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--claims", type=int, nargs="*", help="sizes, else the plan's")
    parser.add_argument("--bootstrap", type=int, default=2000)
    words = parser.parse_args()
    claimed = words.claims or run_study.read(words.plan).get("claims", [])
    folder = words.work / "results"
    for task in ("segment", "classify"):
        print(f"\n## {task}\n")
        results = [one for one in read(folder, task) if not Arm.parse(one.arm).is_diagnostic]
        if not results:
            print("Nothing.")
            continue
        settled = settle(task, results)
        print(*settled.said, "\nOn validation patients, means over draws:\n", sep="\n")
        show(
            {"arm": arm} | {f"n = {size}": number(value) for size, value in row.items()}
            for arm, row in on_validation(results).iterrows()
        )
        if settled.tables:
            report(task, settled.tables, results[0], claimed, words)
    print("\n## The gate\n")
    show(gates(folder))
    print("\n## The split of the seed paper\n")
    show(by_slice(folder))


def report(
    task: str,
    tables: Mapping[int, Mapping[str, pd.DataFrame]],
    any_result: Result,
    claimed: Sequence[int],
    words: argparse.Namespace,
) -> None:
    """Print every metric of a task; `any_result` knows the groups of the test patients."""
    axes = {size: learning_curves.axes_of(arms) for size, arms in tables.items()}
    patients = len(next(iter(axes.values())).patients)
    draws = {size: len(one.runs) for size, one in axes.items()}
    print(f"\n{patients} test patients; draws by size: {draws}")
    of = patient_metrics.segment if task == "segment" else patient_metrics.classify
    known = {
        size: {arm: of(table, axes[size]) for arm, table in arms.items()}
        for size, arms in tables.items()
    }
    for name in METRICS[task]:
        found = {
            size: {arm: every[name] for arm, every in arms.items() if name in every}
            for size, arms in known.items()
        }
        estimates, resampling = learning_curves.estimates_of(
            found, axes, draws=words.bootstrap, seed=SEED
        )
        if not any(estimates.values()):
            continue
        metric = Metric(name, found, estimates, resampling)
        print(f"\n### {name}\n")
        show(means(metric))
        sizes = metric.sizes(claimed)
        if name in CONTRASTED and sizes:
            pairs = learning_curves.contrasts(metric.family(), resampling, sizes)
            if name == PRIMARY_METRIC[task]:
                claims = learning_curves.claims(metric.family(), pairs)
                print("\n" + "; ".join(f"n = {n}: **{claim}**" for n, claim in claims.items()))
            print("\nThe family of the claims:\n")
            show(differences(metric, pairs))
            print("\nBeside it, simultaneous among themselves:\n")
            show(
                differences(
                    metric, learning_curves.contrasts(estimates, resampling, sizes, described)
                )
            )
        if name == PRIMARY_METRIC[task]:
            print()
            show(worths(metric))
            print()
            subjects = any_result.table("patients")
            slices = any_result.table("predictions")
            groups = by_site(subjects, next(iter(axes.values())))
            groups |= by_size(slices, next(iter(axes.values())))
            show(by_group(metric, axes, groups, words.bootstrap))
            if words.plot and task == "segment":
                plot(metric, words.plot)


def described(arms: Sequence[str]) -> list[Pair]:
    """Contrasts beside the family: what a choice among as few networks, or none, would show."""
    family = [arm for arm in arms if arm not in DESCRIBED]
    pairs = [(CHOSEN, BEST_REAL), (FIXED, CURVE), (FIXED, BEST_REAL)]
    pairs = [(arm, reference) for arm, reference in pairs if arm in arms and reference in arms]
    return pairs + [pair for pair in over_real(family) if pair not in claim_contrasts(family)]


def means(metric: Metric) -> Iterator[dict[str, Any]]:
    """A row a size, a column an arm; no interval where one draw tells nothing of others."""
    for size, of_size in metric.estimates.items():
        row: dict[str, Any] = {"patients": size}
        for arm, one in of_size.items():
            row[label(arm)] = number(one.value)
            if one.freedom > 0:
                possible = learning_curves.clip_to_metric_range(one, metric.resampling, seed=1)
                row[label(arm)] += f" ({span(np.clip(possible, 0, metric.limit))})"
        yield row


def differences(
    metric: Metric, pairs: Mapping[int, Mapping[Pair, Difference]]
) -> Iterator[dict[str, Any]]:
    """A row a contrast."""
    for size, of_size in pairs.items():
        for (arm, reference), one in of_size.items():
            known = metric.measures[size]
            p = sign_flip(known[arm], known[reference], seed=SEED)
            low, high = within(one, metric.name)
            yield {
                "patients": size,
                "arm": label(arm),
                "less": label(reference),
                "difference": f"{one.lift:+.3f}",
                "95 %, simultaneous": f"{low:+.3f} to {high:+.3f}",
                "p": f"{one.p_adjusted:.3f}",
                "sign flip": "" if p is None else f"{p:.4f}",
                "detectable": number(one.detectable) if one.detectable <= metric.limit else "none",
            }


def worths(metric: Metric) -> Iterator[dict[str, Any]]:
    """What the chosen arm and synthetic slices alone are worth."""
    sizes = metric.sizes(list(metric.estimates))
    curve = {size: metric.estimates[size][CURVE] for size in sizes}
    for size in sizes:
        of_size, real = metric.estimates[size], metric.estimates[size]["real"]
        for arm in (CHOSEN, FIXED, ALONE):
            if arm in of_size and len(curve) > 1:
                one = of_size[arm]
                patients, (low, high) = learning_curves.equivalent_patients(
                    curve, one, metric.resampling
                )
                shares = learning_curves.clip_to_metric_range(
                    one, metric.resampling, seed=1
                ) / learning_curves.clip_to_metric_range(real, metric.resampling, seed=1)
                yield {
                    "patients": size,
                    "arm": label(arm),
                    f"worth in patients, `{CURVE}`": f"{patients:.1f} ({low:.1f} to {high:.1f})",
                    "share of `real`": f"{one.value / real.value:.2f} ({span(shares)})",
                }


def by_group(
    metric: Metric, axes: Mapping[int, Axes], groups: Mapping[str, Any], draws: int
) -> Iterator[dict[str, Any]]:
    """The chosen arm less the curve's in each site and for each size of tumour: exploratory."""
    for kind, members in groups.items():
        for name, inside in members.items():
            found = {
                size: {arm: metric.measures[size][arm].among(inside) for arm in (CHOSEN, CURVE)}
                for size in metric.sizes(list(metric.measures))
            }
            defined = [m.patients() for of in found.values() for m in of.values()]
            if min(defined, default=0) < FEWEST:
                continue
            estimates, resampling = learning_curves.estimates_of(
                found, axes, draws=draws, seed=SEED
            )
            for size, of_size in estimates.items():
                pair = learning_curves.contrasts(
                    {size: of_size}, resampling, [size], lambda _: [(CHOSEN, CURVE)]
                )
                one = pair[size][CHOSEN, CURVE]
                yield {
                    "group": f"{kind} {name}",
                    "test patients": found[size][CHOSEN].patients(),
                    "patients": size,
                    CURVE: number(of_size[CURVE].value),
                    label(CHOSEN): number(of_size[CHOSEN].value),
                    "difference": f"{one.lift:+.3f} ({one.low:+.3f} to {one.high:+.3f})",
                }


def gates(folder: Path) -> Iterator[dict[str, Any]]:
    """The gate's verdict of every experiment, with its nearest SSIM beside that of real slices."""
    for place in sorted(folder.glob("[0-9]*/base/gate/*"), key=cell_of):
        size, draw = cell_of(place)
        said = json.loads((place / "metrics.json").read_text())
        images, named = said["images"], said["measures"]
        ssim = named.get("nearest_ssim", {})
        yield {
            "patients": size,
            "draw": draw,
            "verdict": said["verdict"],
            "accepted": f"{images['accepted']} of {images['n']}",
            "Fréchet ratio": number(next((one["ratio"] for one in named.values()), None)),
            "nearest SSIM": number(ssim.get("value")),
            "of real slices": number(ssim.get("baseline")),
        }


def cell_of(place: Path) -> tuple[int, int]:
    """Size and draw of a folder of the gate."""
    size, _, draw = place.parents[2].name.partition("-")
    return int(size), int(draw)


def by_slice(folder: Path) -> Iterator[dict[str, Any]]:
    """Arms with a split by slice and random labels, and what a split by patient says beside."""
    every = read(folder, "classify")
    leaky = [one for one in every if Arm.parse(one.arm).is_diagnostic]
    cells = {(one.size, one.draw) for one in leaky}
    honest = [one for one in every if one.arm == "real" and (one.size, one.draw) in cells]
    for one in [*honest, *leaky]:
        table = one.table(PRIMARY["classify"])
        axes = Axes.of(table)
        resampling = Resampling.draw(axes, draws=2000, seed=SEED)
        found = patient_metrics.classify(table, axes)
        row: dict[str, Any] = {"patients": one.size, "arm": one.arm, "networks": len(axes.runs)}
        for name in ("accuracy", "auroc"):
            if known := estimate(found[name], resampling):
                row[name] = number(known.value)
                if interval := known.interval(limit=1, seed=SEED):
                    row[name] += f" ({interval[0]:.3f} to {interval[1]:.3f})"
        yield row


def plot(metric: Metric, path: Path) -> None:
    """The learning curve of every arm of the family with its interval."""
    family = metric.family()
    sizes = metric.sizes(list(family))
    with mpl.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(6.4, 4.0))
        axes = figure.add_axes((0.1, 0.13, 0.87, 0.84))
        arms = list(family[sizes[0]]) if sizes else []
        for position, arm in enumerate(arms):
            known = [family[size][arm] for size in sizes]
            middle = np.array([one.value for one in known])
            spans = np.array(
                [
                    np.nanquantile(
                        learning_curves.clip_to_metric_range(one, metric.resampling, seed=1),
                        [0.025, 0.975],
                    )
                    for one in known
                ]
            )
            axes.errorbar(
                np.array(sizes) * 1.03 ** (position - len(arms) / 2), middle,
                yerr=np.abs(spans.T - middle), marker="o", markersize=4, linewidth=1.4,
                elinewidth=0.8, label=label(arm),
            )  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.set_xlabel("real patients to train and validate on")
        axes.set_ylabel(metric.name)
        axes.legend(frameon=False)
        figure.savefig(path, dpi=150)


def label(arm: str) -> str:
    """How an arm is called in the tables."""
    return {CHOSEN: "chosen", FIXED: f"{FIXED_ARM}, not chosen"}.get(arm, arm)


def number(value: float | None) -> str:
    """Three places, or a dash."""
    return "-" if value is None or np.isnan(value) else f"{value:.3f}"


def span(values: patient_metrics.Array) -> str:
    """The 95 % in the middle."""
    low, high = np.nanquantile(values, [0.025, 0.975])
    return f"{low:.3f} to {high:.3f}"


def show(rows: Iterator[dict[str, Any]]) -> None:
    """Print a table."""
    table = pd.DataFrame(rows).fillna("-")
    print(table.to_markdown(index=False, disable_numparse=True) if len(table) else "Nothing.")


if __name__ == "__main__":
    main()
