"""Report a study: tables in Markdown and the learning curves as a figure.

    python -m benchmarks.study_report --work /tmp/lgg-study --plan benchmarks/lgg.yaml \\
        --plot curves.png

Reads what `benchmarks.run_study` collected. Of the candidates of a size and draw (arms with real
and synthetic slices, in every variant) the one with the best validation metric stands for all of
them, as the arm `chosen`.
"""

import argparse
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
    ArmTraining,
    choose_arms,
    read_results,
    tabulate_validation,
)
from benchmarks.study_tables import (
    SEED,
    format_interval,
    format_number,
    gate_rows,
    print_table,
    slice_split_rows,
)
from tasks.common.arms import Arm
from tasks.lift import learning_curves, patient_metrics
from tasks.lift.bootstrap import ArmPair, Difference, Resampling, sign_flip_test
from tasks.lift.claim import claim_contrasts, contrasts_with_real
from tasks.lift.compare import METRICS, PRIMARY_METRIC, clip_interval_to_range
from tasks.lift.downstream_results import group_by_site, group_by_tumor_size
from tasks.lift.patient_metrics import PatientMetric, RunPatientAxes
from tasks.schemas.predictions import UNBOUNDED_METRICS

CONTRASTED_METRICS = ("dice_volume", "auroc", "sensitivity")  # the others' means are printed
MIN_GROUP_PATIENTS = 5  # test patients of a group


@dataclass(frozen=True)
class StudyMetric:
    """One metric of every arm at every size."""

    name: str
    measures: dict[int, dict[str, PatientMetric]]
    estimates: learning_curves.Estimates
    resampling: Resampling

    @property
    def limit(self) -> float:
        """The metric's largest value."""
        return np.inf if self.name in UNBOUNDED_METRICS else 1.0

    def family(self) -> learning_curves.Estimates:
        """Return the estimates without the arms that are only described."""
        return {
            size: {arm: estimate for arm, estimate in of_size.items() if arm not in DESCRIBED}
            for size, of_size in self.estimates.items()
        }

    def sizes(self, wanted: Sequence[int]) -> list[int]:
        """Return the sizes with enough draws to estimate the variance between them."""
        return [
            size for size in wanted if size in self.estimates
            and all(estimate.degrees_of_freedom > 0 for estimate in self.estimates[size].values())
        ]  # fmt: skip


def main() -> None:
    """Print the tables and plot the curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--claims", type=int, nargs="*", help="sizes, else the plan's")
    parser.add_argument("--bootstrap", type=int, default=2000)
    options = parser.parse_args()
    claimed = options.claims or run_study.read_plan(options.plan).get("claims", [])
    folder = options.work / "results"
    for task in ("segment", "classify"):
        print(f"\n## {task}\n")
        results = [
            training
            for training in read_results(folder, task)
            if not Arm.parse(training.arm).is_diagnostic
        ]
        if not results:
            print("Nothing.")
            continue
        settled = choose_arms(task, results)
        print(*settled.messages, "\nOn validation patients, means over draws:\n", sep="\n")
        print_table(
            {"arm": arm} | {f"n = {size}": format_number(value) for size, value in row.items()}
            for arm, row in tabulate_validation(results).iterrows()
        )
        if settled.tables:
            report_task(task, settled.tables, results[0], claimed, options)
    print("\n## The gate\n")
    print_table(gate_rows(folder))
    print("\n## The split of the seed paper\n")
    print_table(slice_split_rows(folder))


def report_task(
    task: str,
    tables: Mapping[int, Mapping[str, pd.DataFrame]],
    any_result: ArmTraining,
    claimed: Sequence[int],
    options: argparse.Namespace,
) -> None:
    """Print every metric of a task; `any_result` knows the groups of the test patients."""
    axes = {size: learning_curves.common_axes(arms) for size, arms in tables.items()}
    patients = len(next(iter(axes.values())).patients)
    draws = {size: len(size_axes.runs) for size, size_axes in axes.items()}
    print(f"\n{patients} test patients; draws by size: {draws}")
    compute_metrics = (
        patient_metrics.segmentation_metrics
        if task == "segment"
        else patient_metrics.classification_metrics
    )
    metrics_by_size = {
        size: {arm: compute_metrics(table, axes[size]) for arm, table in arms.items()}
        for size, arms in tables.items()
    }
    for name in METRICS[task]:
        metric_by_size = {
            size: {arm: metrics[name] for arm, metrics in arms.items() if name in metrics}
            for size, arms in metrics_by_size.items()
        }
        estimates, resampling = learning_curves.estimate_curves(
            metric_by_size, axes, draws=options.bootstrap, seed=SEED
        )
        if not any(estimates.values()):
            continue
        metric = StudyMetric(name, metric_by_size, estimates, resampling)
        print(f"\n### {name}\n")
        print_table(mean_rows(metric))
        sizes = metric.sizes(claimed)
        if name in CONTRASTED_METRICS and sizes:
            pairs = learning_curves.contrasts_by_size(metric.family(), resampling, sizes)
            if name == PRIMARY_METRIC[task]:
                claims = learning_curves.claims_by_size(metric.family(), pairs)
                print("\n" + "; ".join(f"n = {n}: **{claim}**" for n, claim in claims.items()))
            print("\nThe family of the claims:\n")
            print_table(difference_rows(metric, pairs))
            print("\nBeside it, simultaneous among themselves:\n")
            print_table(
                difference_rows(
                    metric,
                    learning_curves.contrasts_by_size(
                        estimates, resampling, sizes, described_contrasts
                    ),
                )
            )
        if name == PRIMARY_METRIC[task]:
            print()
            print_table(equivalent_patients_rows(metric))
            print()
            subjects = any_result.table("patients")
            slices = any_result.table("predictions")
            groups = group_by_site(subjects, next(iter(axes.values())))
            groups |= group_by_tumor_size(slices, next(iter(axes.values())))
            print_table(subgroup_rows(metric, axes, groups, options.bootstrap))
            if options.plot and task == "segment":
                plot_learning_curves(metric, options.plot)


def described_contrasts(arms: Sequence[str]) -> list[ArmPair]:
    """List contrasts beside the family: what a choice among as few networks, or none, shows."""
    family = [arm for arm in arms if arm not in DESCRIBED]
    pairs = [(CHOSEN, BEST_REAL), (FIXED, CURVE), (FIXED, BEST_REAL)]
    pairs = [(arm, reference) for arm, reference in pairs if arm in arms and reference in arms]
    return pairs + [
        pair for pair in contrasts_with_real(family) if pair not in claim_contrasts(family)
    ]


def mean_rows(metric: StudyMetric) -> Iterator[dict[str, Any]]:
    """Yield a row a size, a column an arm; no interval where there is one draw only."""
    for size, of_size in metric.estimates.items():
        row: dict[str, Any] = {"patients": size}
        for arm, estimate in of_size.items():
            row[arm_label(arm)] = format_number(estimate.value)
            if estimate.degrees_of_freedom > 0:
                distribution = learning_curves.arm_mean_distribution(
                    estimate, metric.resampling, seed=1
                )
                row[arm_label(arm)] += (
                    f" ({format_interval(np.clip(distribution, 0, metric.limit))})"
                )
        yield row


def difference_rows(
    metric: StudyMetric, pairs: Mapping[int, Mapping[ArmPair, Difference]]
) -> Iterator[dict[str, Any]]:
    """Yield a row a contrast."""
    for size, of_size in pairs.items():
        for (arm, reference), difference in of_size.items():
            metric_by_arm = metric.measures[size]
            p_value = sign_flip_test(metric_by_arm[arm], metric_by_arm[reference], seed=SEED)
            low, high = clip_interval_to_range(difference, metric.name)
            yield {
                "patients": size,
                "arm": arm_label(arm),
                "less": arm_label(reference),
                "difference": f"{difference.lift:+.3f}",
                "95 %, simultaneous": f"{low:+.3f} to {high:+.3f}",
                "p": f"{difference.p_adjusted:.3f}",
                "sign flip": "" if p_value is None else f"{p_value:.4f}",
                "detectable": format_number(difference.detectable)
                if difference.detectable <= metric.limit
                else "none",
            }


def equivalent_patients_rows(metric: StudyMetric) -> Iterator[dict[str, Any]]:
    """Yield what the chosen arm and synthetic slices alone are worth in real patients."""
    sizes = metric.sizes(list(metric.estimates))
    curve = {size: metric.estimates[size][CURVE] for size in sizes}
    for size in sizes:
        of_size, real = metric.estimates[size], metric.estimates[size]["real"]
        for arm in (CHOSEN, FIXED, ALONE):
            if arm in of_size and len(curve) > 1:
                estimate = of_size[arm]
                patients, (low, high) = learning_curves.equivalent_patients(
                    curve, estimate, metric.resampling
                )
                shares = learning_curves.arm_mean_distribution(
                    estimate, metric.resampling, seed=1
                ) / learning_curves.arm_mean_distribution(real, metric.resampling, seed=1)
                yield {
                    "patients": size,
                    "arm": arm_label(arm),
                    f"worth in patients, `{CURVE}`": f"{patients:.1f} ({low:.1f} to {high:.1f})",
                    "share of `real`": f"{estimate.value / real.value:.2f}"
                    f" ({format_interval(shares)})",
                }


def subgroup_rows(
    metric: StudyMetric, axes: Mapping[int, RunPatientAxes], groups: Mapping[str, Any], draws: int
) -> Iterator[dict[str, Any]]:
    """Yield the chosen arm less the curve's in each site and tumour size: exploratory."""
    for kind, members in groups.items():
        for name, inside in members.items():
            metric_by_size = {
                size: {
                    arm: metric.measures[size][arm].restricted_to(inside) for arm in (CHOSEN, CURVE)
                }
                for size in metric.sizes(list(metric.measures))
            }
            defined = [
                restricted.count_patients()
                for metrics in metric_by_size.values()
                for restricted in metrics.values()
            ]
            if min(defined, default=0) < MIN_GROUP_PATIENTS:
                continue
            estimates, resampling = learning_curves.estimate_curves(
                metric_by_size, axes, draws=draws, seed=SEED
            )
            for size, of_size in estimates.items():
                differences = learning_curves.contrasts_by_size(
                    {size: of_size}, resampling, [size], lambda _: [(CHOSEN, CURVE)]
                )
                difference = differences[size][CHOSEN, CURVE]
                yield {
                    "group": f"{kind} {name}",
                    "test patients": metric_by_size[size][CHOSEN].count_patients(),
                    "patients": size,
                    CURVE: format_number(of_size[CURVE].value),
                    arm_label(CHOSEN): format_number(of_size[CHOSEN].value),
                    "difference": f"{difference.lift:+.3f}"
                    f" ({difference.low:+.3f} to {difference.high:+.3f})",
                }


def plot_learning_curves(metric: StudyMetric, path: Path) -> None:
    """Plot the learning curve of every arm of the family with its interval."""
    family = metric.family()
    sizes = metric.sizes(list(family))
    with mpl.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(6.4, 4.0))
        axes = figure.add_axes((0.1, 0.13, 0.87, 0.84))
        arms = list(family[sizes[0]]) if sizes else []
        for position, arm in enumerate(arms):
            estimates = [family[size][arm] for size in sizes]
            means = np.array([estimate.value for estimate in estimates])
            spans = np.array(
                [
                    np.nanquantile(
                        learning_curves.arm_mean_distribution(estimate, metric.resampling, seed=1),
                        [0.025, 0.975],
                    )
                    for estimate in estimates
                ]
            )
            axes.errorbar(
                np.array(sizes) * 1.03 ** (position - len(arms) / 2), means,
                yerr=np.abs(spans.T - means), marker="o", markersize=4, linewidth=1.4,
                elinewidth=0.8, label=arm_label(arm),
            )  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.set_xlabel("real patients to train and validate on")
        axes.set_ylabel(metric.name)
        axes.legend(frameon=False)
        figure.savefig(path, dpi=150)


def arm_label(arm: str) -> str:
    """Name an arm in the tables."""
    return {CHOSEN: "chosen", FIXED: f"{FIXED_ARM}, not chosen"}.get(arm, arm)


if __name__ == "__main__":
    main()
