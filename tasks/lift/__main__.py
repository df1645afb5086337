"""Compare the arms of each task on the same test patients, and say what follows.

Reads `data/downstream/TASK-ARM/` of the listed tasks and arms; writes `data/lift.json` and
`data/lift.csv`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tasks import params, stage
from tasks.arms import Arm
from tasks.lift import measures
from tasks.lift.bootstrap import Difference, Estimate, Resampling, estimate, sign_flip, simultaneous
from tasks.lift.claim import candidates, claim, family
from tasks.lift.measures import Axes, Measure
from tasks.params.lift import Lift as LiftParams
from tasks.stage import StageError
from tasks.tables.lift import ArmFigure, Claim, Contrast, Lift, LiftRows, Status
from tasks.tables.predictions import ClassifyPredictions, Patients

DOWNSTREAM = Path("data/downstream")
PRIMARY = {"classify": "auroc", "segment": "dice"}
METRICS = {
    "classify": ["auroc", "accuracy", "sensitivity", "specificity", "brier"],
    "segment": ["dice", "dice_slice", "hd95_mm", "false_positive_mm2"],
}
UNBOUNDED = ("hd95_mm", "false_positive_mm2")
METHOD = (
    "Mean over folds and seeds of the metric over all test patients. Intervals: bootstrap by test"
    " patient plus the spread between training runs, pooled over arms; differences are paired."
    " Lifts are simultaneous over all contrasts of a metric (single-step max-t), and p_adjusted"
    " agrees with them. 'helps':"
    " the primary metric of an arm with real and synthetic slices is above every arm without"
    " synthetic slices, each lower bound above 0; 'harms': each upper bound below 0."
)


@dataclass(frozen=True)
class ArmResult:
    """One arm's tables as measures, or why there are none."""

    status: Status
    axes: Axes | None
    measures: dict[str, Measure]


@dataclass(frozen=True)
class Comparison:
    """What one task comes to."""

    claim: Claim
    figures: dict[str, dict[str, ArmFigure]]
    contrasts: list[Contrast]
    axes: Axes | None


def main() -> None:
    """Run the stage from the repository's root."""
    config = params.read(LiftParams)
    tasks: list[str] = params.read_key("downstream.tasks")
    arms: list[str] = params.read_key("downstream.arms")
    found = {task: compare(task, {arm: read(task, arm) for arm in arms}, config) for task in tasks}
    axes = [c.axes for c in found.values() if c.axes is not None]
    lift = Lift(
        claim={task: comparison.claim for task, comparison in found.items()},
        tasks={task: comparison.figures for task, comparison in found.items()},
        primary={task: PRIMARY[task] for task in tasks},
        contrasts={task: comparison.contrasts for task, comparison in found.items()},
        n_patients=max((len(a.patients) for a in axes), default=0),
        n_seeds=max((len({seed for _, seed in a.runs}) for a in axes), default=0),
        method=METHOD,
    )
    rows = LiftRows.validate(tabulate(lift))
    with stage.output(Path("data/lift.csv")) as path:
        rows.to_csv(path, index=False, float_format="%.6f")
    with stage.output(Path("data/lift.json")) as path:
        path.write_text(json.dumps(lift.model_dump(mode="json"), indent=1) + "\n")
    for task, comparison in found.items():
        print(f"lift: {task}: {comparison.claim}")


def read(task: str, arm: str) -> ArmResult:
    """One arm's tables as measures."""
    folder = DOWNSTREAM / f"{task}-{arm}"
    status: dict[str, str] = json.loads((folder / "status.json").read_text())
    shorts: tuple[Status, ...] = ("too few", "not run")
    for short in shorts:
        if short in status.values():
            return ArmResult(short, None, {})
    if task == "classify":
        slices = ClassifyPredictions.validate(pd.read_parquet(folder / "predictions.parquet"))
        axes = Axes.of(slices)
        found = measures.classify(slices, axes)
    else:
        patients = Patients.validate(pd.read_parquet(folder / "patients.parquet"))
        axes = Axes.of(patients)
        found = measures.segment(patients, axes)
    converged = "not converged" not in status.values()
    return ArmResult("ok" if converged else "not converged", axes, found)


def compare(task: str, arms: Mapping[str, ArmResult], config: LiftParams) -> Comparison:
    """All figures of a task, and the claim from its primary metric.

    Raises:
        StageError: when two arms were not tested on the same patients with the same seeds.
    """
    shared = shared_axes(task, {name: arm for name, arm in arms.items() if compared(name)})
    if shared is None or len(shared.patients) < config.min_patients:
        short: Status = "too few patients" if shared is not None else "too few"
        return Comparison("not measured", nothing(task, arms, short, shared), [], shared)
    resamplings = {
        name: Resampling.draw(arm.axes, draws=config.draws, seed=config.seed)
        for name, arm in arms.items()
        if arm.axes is not None
    }
    resampling = next(one for name, one in resamplings.items() if compared(name))
    figures: dict[str, dict[str, ArmFigure]] = {}
    verdict: Claim = "not measured"
    contrasts: list[Contrast] = []
    for metric in METRICS[task]:
        estimates = {
            name: found
            for name, arm in arms.items()
            if arm.measures
            and arm.measures[metric].patients() >= config.min_patients
            and (found := estimate(arm.measures[metric], resamplings[name])) is not None
        }
        rivals = {name: one for name, one in estimates.items() if compared(name)}
        differences = simultaneous(rivals, family(list(rivals)), resampling)
        figures[metric] = {
            name: figure(name, metric, arm, estimates.get(name), differences)
            for name, arm in arms.items()
        }
        if metric == PRIMARY[task]:
            verdict = claim(list(rivals), differences)
            contrasts = [
                Contrast(
                    arm=a,
                    reference=r,
                    lift=d.lift,
                    ci95=(d.low, d.high),
                    p_adjusted=d.p_adjusted,
                    detectable=d.detectable,
                    sign_flip_p=sign_flip(
                        arms[a].measures[metric], arms[r].measures[metric], seed=config.seed
                    ),
                )
                for (a, r), d in differences.items()
                if a in candidates(list(rivals))
            ]
    return Comparison(verdict, figures, contrasts, shared)


def compared(name: str) -> bool:
    """Whether an arm is one of the comparison; `random-labels` stands for itself."""
    return not Arm.parse(name).random_labels


def shared_axes(task: str, arms: Mapping[str, ArmResult]) -> Axes | None:
    """The runs and patients of the arms that were measured; None when none was."""
    known = {name: arm.axes for name, arm in arms.items() if arm.axes is not None}
    for name, axes in known.items():
        first, expected = next(iter(known.items()))
        if axes != expected:
            raise StageError(
                f"data/downstream: {task} {name} was tested on other patients, folds or seeds than"
                f" {first}; run `dvc repro downstream` so that all arms are of one state"
            )
    return next(iter(known.values()), None)


def nothing(
    task: str, arms: Mapping[str, ArmResult], status: Status, axes: Axes | None
) -> dict[str, dict[str, ArmFigure]]:
    """Null figures for every metric and arm."""
    count = len(axes.patients) if axes is not None else 0
    return {
        metric: {
            name: ArmFigure(status=status if arm.axes else arm.status, n_patients=count)
            for name, arm in arms.items()
        }
        for metric in METRICS[task]
    }


def figure(
    name: str,
    metric: str,
    arm: ArmResult,
    found: Estimate | None,
    differences: Mapping[tuple[str, str], Difference],
) -> ArmFigure:
    """One arm's figure of one metric."""
    n_patients = arm.measures[metric].patients() if arm.measures else 0
    if found is None:
        status: Status = "too few patients" if arm.axes else arm.status
        return ArmFigure(status=status, n_patients=n_patients)
    over = differences.get((name, "real"))
    return ArmFigure(
        mean=found.value,
        ci95=found.interval(limit=np.inf if metric in UNBOUNDED else 1.0),
        lift_over_real=over.lift if over else None,
        lift_ci95=(over.low, over.high) if over else None,
        p_adjusted=over.p_adjusted if over else None,
        n_patients=n_patients,
        status=arm.status,
    )


def tabulate(lift: Lift) -> pd.DataFrame:
    """The figures as `data/lift.csv`'s rows."""
    rows = []
    for task, metrics in lift.tasks.items():
        for metric, arms in metrics.items():
            for arm, f in arms.items():
                low, high = f.ci95 or (None, None)
                lift_low, lift_high = f.lift_ci95 or (None, None)
                rows.append(
                    (task, metric, arm, f.mean, low, high, f.lift_over_real, lift_low, lift_high,
                     f.p_adjusted, f.n_patients, f.status)
                )  # fmt: skip
    table = pd.DataFrame(rows, columns=list(LiftRows.to_schema().columns))
    numbers = ["mean", "low", "high", "lift", "lift_low", "lift_high", "p_adjusted"]
    return table.astype(dict.fromkeys(numbers, float))


if __name__ == "__main__":
    stage.run(main)
