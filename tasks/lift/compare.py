"""The arms of one task beside one another: figures, contrasts, the claim, and subgroups."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tasks.arms import Arm
from tasks.lift.bootstrap import (
    Difference,
    Estimate,
    Resampling,
    estimate,
    sign_flip,
    simultaneous,
)  # fmt: skip
from tasks.lift.claim import candidates, claim, family
from tasks.lift.measures import Axes
from tasks.lift.results import ArmResult
from tasks.params.lift import Lift as LiftParams
from tasks.stage import StageError
from tasks.tables.lift import ArmFigure, Claim, Contrast, Status, Subgroups
from tasks.tables.predictions import UNBOUNDED

PRIMARY = {"classify": "auroc", "segment": "dice_volume"}
METRICS = {
    "classify": [
        "auroc",
        "auroc_patient",
        "accuracy",
        "sensitivity",
        "specificity",
        "brier",
        "ece",
    ],
    "segment": ["dice_volume", "dice", "dice_slice", "hd95_mm", "false_positive_mm2"],
}


@dataclass(frozen=True)
class Comparison:
    """What one task comes to."""

    claim: Claim
    figures: dict[str, dict[str, ArmFigure]]
    contrasts: list[Contrast]
    subgroups: Subgroups
    axes: Axes | None


def compare(task: str, arms: Mapping[str, ArmResult], config: LiftParams) -> Comparison:
    """All figures of a task, and the claim from its primary metric.

    Raises:
        StageError: when two arms were not tested on the same patients with the same seeds.
    """
    shared = shared_axes(task, {name: arm for name, arm in arms.items() if compared(name)})
    if shared is not None and len(shared.patients) < config.min_patients:
        return Comparison("not measured", too_few_patients(task, arms, shared), [], {}, shared)
    resamplings = {
        name: Resampling.draw(arm.axes, draws=config.draws, seed=config.seed)
        for name, arm in arms.items()
        if arm.axes is not None
    }
    # Arms that stand apart were tested on patients of their own, and are not paired with others.
    resampling = next((one for name, one in resamplings.items() if compared(name)), None)
    figures: dict[str, dict[str, ArmFigure]] = {}
    verdict: Claim = "not measured"
    contrasts: list[Contrast] = []
    for metric in METRICS[task]:
        estimates = {
            name: found
            for name, arm in arms.items()
            if metric in arm.measures
            and arm.measures[metric].patients() >= config.min_patients
            and (found := estimate(arm.measures[metric], resamplings[name])) is not None
        }
        rivals = {name: one for name, one in estimates.items() if compared(name)}
        differences = simultaneous(rivals, family(list(rivals)), resampling) if resampling else {}
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
                    ci95=within(d, metric),
                    p_adjusted=d.p_adjusted,
                    detectable=d.detectable,
                    sign_flip_p=sign_flip(
                        arms[a].measures[metric], arms[r].measures[metric], seed=config.seed
                    ),
                )
                for (a, r), d in differences.items()
                if a in candidates(list(rivals))
            ]
    groups = by_group(PRIMARY[task], arms, resampling, config) if resampling else {}
    return Comparison(verdict, figures, contrasts, groups, shared)


def by_group(
    metric: str, arms: Mapping[str, ArmResult], resampling: Resampling, config: LiftParams
) -> Subgroups:
    """The primary metric in each subgroup: exploratory, simultaneous inside a subgroup only."""
    rivals = {name: arm for name, arm in arms.items() if arm.measures and compared(name)}
    kinds = next(iter(rivals.values())).groups
    return {
        kind: {name: in_group(metric, rivals, members, resampling, config)
               for name, members in groups.items()}
        for kind, groups in kinds.items()
    }  # fmt: skip


def in_group(
    metric: str,
    arms: Mapping[str, ArmResult],
    members: NDArray[np.bool_],
    resampling: Resampling,
    config: LiftParams,
) -> dict[str, ArmFigure]:
    """The figures of one subgroup's patients."""
    narrowed = {
        name: replace(arm, measures={metric: arm.measures[metric].among(members)})
        for name, arm in arms.items()
    }
    found = {
        name: one
        for name, arm in narrowed.items()
        if arm.measures[metric].patients() >= config.min_patients
        and (one := estimate(arm.measures[metric], resampling)) is not None
    }
    over_real = [(name, "real") for name in found if name != "real" and "real" in found]
    differences = simultaneous(found, over_real, resampling)
    return {
        name: figure(name, metric, arm, found.get(name), differences)
        for name, arm in narrowed.items()
    }


def compared(name: str) -> bool:
    """Whether an arm is one of the comparison; others stand for themselves."""
    return not Arm.parse(name).apart


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


def too_few_patients(
    task: str, arms: Mapping[str, ArmResult], axes: Axes
) -> dict[str, dict[str, ArmFigure]]:
    """Null figures for every metric and arm."""
    return {
        metric: {
            name: ArmFigure(
                status="too few patients" if arm.axes else arm.status, n_patients=len(axes.patients)
            )
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
    n_patients = arm.measures[metric].patients() if metric in arm.measures else 0
    if found is None:
        status: Status = arm.status
        if arm.axes:
            status = "too few patients" if n_patients else "not defined"
        return ArmFigure(status=status, n_patients=n_patients)
    over = differences.get((name, "real"))
    return ArmFigure(
        mean=found.value,
        ci95=found.interval(limit=np.inf if metric in UNBOUNDED else 1.0),
        lift_over_real=over.lift if over else None,
        lift_ci95=within(over, metric) if over else None,
        p_adjusted=over.p_adjusted if over else None,
        n_patients=n_patients,
        status=arm.status,
    )


def within(difference: Difference, metric: str) -> tuple[float, float]:
    """The interval, without differences that the metric's range cannot hold."""
    most = np.inf if metric in UNBOUNDED else 1.0
    return max(difference.low, -most), min(difference.high, most)
