"""Compare the arms of each task on the same test patients, and decide the claim.

Reads `data/downstream/TASK-ARM/` of the listed tasks and arms; writes `data/lift.json`,
`data/lift.csv` and, for `dvc exp show`, the primary metrics alone as `data/lift_metrics.json`.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from tasks import params
from tasks.common.arms import Arm
from tasks.lift.compare import PRIMARY_METRIC, Comparison, compare_arms
from tasks.lift.downstream_results import TaskResults, read_task_results
from tasks.params.downstream import read_arms
from tasks.params.lift import Lift as LiftParams
from tasks.schemas.lift import Lift, TrainingSummary
from tasks.schemas.lift_rows import LiftRows
from tasks.stage import stage_io
from tasks.stage.stage_runtime import run_stage

METHOD = (
    "The metric over all test patients, folds and seeds together (AUROC: over all pairs of slices,"
    " each pair within one network); a seed that failed in one arm is left out of all. Intervals:"
    " Bayesian bootstrap of test patients plus the spread between training runs, each difference's"
    " own, both with Student's t for the patients and runs that tell them (Behrens-Fisher); an"
    " arm's own interval likewise; differences are paired. None with one seed. Lifts are"
    " simultaneous over all arms of a metric, the contrasts of a claim over the arms with real and"
    " synthetic slices (single-step max-t), and p_adjusted agrees with them. 'helps': the primary"
    " metric of such an arm is above every arm without synthetic slices, each lower bound above 0;"
    " 'harms': each upper bound below 0. 'not measured', with the reasons: one seed is left,"
    " lift.min_patients is not reached (AUROC: by the rarer of patients with and without tumour"
    " slices), or an arm without synthetic slices is missing or did not converge. An arm that adds"
    " scans without outlines is no reference where every training slice is outlined."
)


def main() -> None:
    """Run the stage from the repository's root."""
    config = params.read_section(LiftParams)
    tasks: list[str] = params.read_key("downstream.tasks")
    names = [arm.name for arm in read_arms()]
    seeds: list[int] = params.read_key("downstream.seeds")
    results = {task: read_task_results(task, names, seeds) for task in tasks}
    comparisons = {
        task: compare_arms(task, results[task].arms, config, seeds=results[task].seeds)
        for task in tasks
    }
    axes = [c.axes for c in comparisons.values() if c.axes is not None]
    lift = Lift(
        claim={task: comparison.claim for task, comparison in comparisons.items()},
        reasons={task: comparison.reasons for task, comparison in comparisons.items()},
        tasks={task: comparison.figures for task, comparison in comparisons.items()},
        primary={task: PRIMARY_METRIC[task] for task in tasks},
        contrasts={task: comparison.contrasts for task, comparison in comparisons.items()},
        subgroups={task: comparison.subgroups for task, comparison in comparisons.items()},
        n_patients=max((len(a.patients) for a in axes), default=0),
        n_seeds=max((len({seed for _, seed in a.runs}) for a in axes), default=0),
        method=METHOD,
        trained={task: training_summaries(results[task]) for task in tasks},
        notes=[
            note
            for task in tasks
            for note in [
                *too_few_patients_notes(task, comparisons[task], config.min_patients),
                *training_notes(task, results[task], len(seeds)),
            ]
        ],
    )
    rows = LiftRows.validate(tabulate_lift(lift))
    with stage_io.atomic_output(Path("data/lift.csv")) as path:
        rows.to_csv(path, index=False, float_format="%.6f")
    with stage_io.atomic_output(Path("data/lift.json")) as path:
        path.write_text(json.dumps(lift.model_dump(mode="json"), indent=1) + "\n")
    with stage_io.atomic_output(Path("data/lift_metrics.json")) as path:
        path.write_text(
            json.dumps({task: primary_metric_values(lift, task) for task in tasks}, indent=1) + "\n"
        )
    for task, comparison in comparisons.items():
        print(f"lift: {task}: {'; '.join([comparison.claim, *comparison.reasons])}")
    for note in lift.notes:
        print(f"lift: {note}")


def training_summaries(results: TaskResults) -> dict[str, TrainingSummary]:
    """Return how each arm's training ended."""
    return {name: arm.trained for name, arm in results.arms.items() if arm.trained is not None}


def too_few_patients_notes(task: str, comparison: Comparison, min_patients: int) -> list[str]:
    """Note where a task has no claim because it has too few patients."""
    figures = comparison.figures[PRIMARY_METRIC[task]].values()
    counts = [one.n_patients for one in figures if one.status == "too few patients"]
    if not counts:
        return []
    return [
        f"{task}: {PRIMARY_METRIC[task]} is defined for {max(counts)} test patients, and"
        f" lift.min_patients asks for {min_patients}"
    ]


def primary_metric_values(lift: Lift, task: str) -> dict[str, Any]:
    """Return the claim, and every arm's primary metric as single numbers: DVC shows no lists."""
    values_by_arm: dict[str, Any] = {"claim": lift.claim[task]}
    if lift.reasons[task]:
        values_by_arm["reason"] = "; ".join(lift.reasons[task])
    for arm, figure in lift.tasks[task][lift.primary[task]].items():
        low, high = figure.ci95 or (None, None)
        lift_low, lift_high = figure.lift_ci95 or (None, None)
        numbers = {"mean": figure.mean, "low": low, "high": high, "lift": figure.lift_over_real,
                "lift_low": lift_low, "lift_high": lift_high}  # fmt: skip
        values_by_arm[arm] = {name: value for name, value in numbers.items() if value is not None}
    return values_by_arm


def training_notes(task: str, results: TaskResults, requested: int) -> list[str]:
    """Note what a reader of a task's figures should know of its training, one line each."""
    notes = [
        f"{task}: seed {seed} is left out of all arms: {', '.join(arms)} learnt nothing with it"
        for seed, arms in results.left_out.items()
    ]
    compared = {
        name: summary
        for name, summary in training_summaries(results).items()
        if not Arm.parse(name).is_diagnostic
    }
    counts = {len({seed for _, seed in arm.axes.runs}) for name, arm in results.arms.items()
              if name in compared and arm.axes is not None}  # fmt: skip
    if counts and min(counts) < requested:
        notes.append(
            f"{task}: {min(counts)} of {requested} seeds are left; raise downstream.reruns, so that"
            " every arm trains spare ones"
        )
    if counts and min(counts) == 1:
        notes.append(
            f"{task}: one seed tells nothing of other training runs, so that no figure has an"
            " interval; train two at least, better three or more"
        )
    failed = [
        name for name, summary in compared.items() if results.arms[name].status == "not converged"
    ]
    if failed:
        notes.append(f"{task}: networks that learnt nothing are among those of {', '.join(failed)}")
    return notes


def tabulate_lift(lift: Lift) -> pd.DataFrame:
    """Tabulate the figures as the rows of `data/lift.csv`."""
    rows: list[tuple[Any, ...]] = []
    for task, metrics in lift.tasks.items():
        for metric, arms in metrics.items():
            for arm, figure in arms.items():
                low, high = figure.ci95 or (None, None)
                lift_low, lift_high = figure.lift_ci95 or (None, None)
                rows.append(
                    (task, metric, arm, figure.mean, low, high, figure.lift_over_real, lift_low,
                     lift_high, figure.p_adjusted, figure.n_patients, figure.status)
                )  # fmt: skip
    table = pd.DataFrame(rows, columns=list(LiftRows.to_schema().columns))
    numbers = ["mean", "low", "high", "lift", "lift_low", "lift_high", "p_adjusted"]
    return table.astype(dict.fromkeys(numbers, float))


if __name__ == "__main__":
    run_stage(main)
