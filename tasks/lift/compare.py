"""The arms of one task beside one another: figures, contrasts, the claim, and subgroups."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tasks.common.arms import Arm
from tasks.lift.bootstrap import (
    Difference,
    Estimate,
    Pair,
    Resampling,
    estimate,
    sign_flip,
    simultaneous,
)  # fmt: skip
from tasks.lift.claim import candidates, claim, obstacles, over_real, references, reservations
from tasks.lift.downstream_results import ArmResult
from tasks.lift.patient_metrics import Axes
from tasks.params.lift import Lift as LiftParams
from tasks.schemas.lift import ArmFigure, Claim, Contrast, Status, Subgroups
from tasks.schemas.predictions import UNBOUNDED
from tasks.stage.errors import InputError

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
    """What one task comes to; `reasons` are the claim's."""

    claim: Claim
    reasons: list[str]
    figures: dict[str, dict[str, ArmFigure]]
    contrasts: list[Contrast]
    subgroups: Subgroups
    axes: Axes | None


def compare(
    task: str, arms: Mapping[str, ArmResult], config: LiftParams, *, seeds: int
) -> Comparison:
    """All figures of a task, and the claim from its primary metric.

    Args:
        task: its name.
        arms: every arm's measures.
        config: `lift` of `params.yaml`.
        seeds: that the compared arms share.

    Raises:
        StageError: when two arms were not tested on the same patients with the same seeds.
    """
    rivals = {name: arm for name, arm in arms.items() if compared(name)}
    shared = shared_axes(task, rivals)
    resamplings = {
        name: Resampling.draw(arm.axes, draws=config.draws, seed=config.seed)
        for name, arm in arms.items()
        if arm.axes is not None
    }
    # Arms that stand apart were tested on patients of their own, and are not paired with others.
    resampling = next((one for name, one in resamplings.items() if name in rivals), None)
    figures: dict[str, dict[str, ArmFigure]] = {}
    primary: dict[str, Estimate] = {}
    for metric in METRICS[task]:
        estimates = {
            name: found
            for name, arm in arms.items()
            if metric in arm.measures
            and arm.measures[metric].patients() >= config.min_patients
            and (found := estimate(arm.measures[metric], resamplings[name])) is not None
        }
        sound = {
            name: one for name, one in estimates.items() if name in rivals and arms[name].sound
        }
        figures[metric] = figures_of(metric, arms, estimates, lifts(sound, resampling), config)
        if metric == PRIMARY[task]:
            primary = sound
    of_claim = contrasts(primary, resampling)
    known = PRIMARY[task], rivals, list(primary)
    reasons = obstacles(task, *known, seeds=seeds, min_patients=config.min_patients)
    verdict: Claim = "not measured"
    if not reasons:
        verdict, reasons = claim(list(primary), of_claim), reservations(task, *known)
    groups = by_group(PRIMARY[task], arms, resampling, config) if resampling else {}
    return Comparison(
        verdict,
        reasons,
        figures,
        [described(pair, one, PRIMARY[task], arms, config) for pair, one in of_claim.items()],
        groups,
        shared,
    )


def lifts(sound: Mapping[str, Estimate], resampling: Resampling | None) -> dict[Pair, Difference]:
    """Every arm over `real`, simultaneously; none where one run a fold tells nothing of others."""
    if resampling is None or resampling.freedom < 1:
        return {}
    return simultaneous(sound, over_real(list(sound)), resampling)


def contrasts(
    sound: Mapping[str, Estimate], resampling: Resampling | None
) -> dict[Pair, Difference]:
    """What a claim is read off: candidates over each reference.

    A claim asks all references, so that each of them may be looked at by itself; of the
    candidates one is enough, so that against one reference they are simultaneous.
    """
    if resampling is None or resampling.freedom < 1:
        return {}
    arms = list(sound)
    return {
        pair: one
        for reference in references(arms)
        for pair, one in simultaneous(
            sound, [(arm, reference) for arm in candidates(arms)], resampling
        ).items()
    }


def described(
    pair: Pair,
    one: Difference,
    metric: str,
    arms: Mapping[str, ArmResult],
    config: LiftParams,
) -> Contrast:
    """A contrast of the claim as `data/lift.json` has it."""
    arm, reference = (arms[name].measures[metric] for name in pair)
    return Contrast(
        arm=pair[0],
        reference=pair[1],
        lift=one.lift,
        ci95=within(one, metric),
        p_adjusted=one.p_adjusted,
        detectable=one.detectable,
        sign_flip_p=sign_flip(arm, reference, seed=config.seed),
    )


def figures_of(
    metric: str,
    arms: Mapping[str, ArmResult],
    estimates: Mapping[str, Estimate],
    differences: Mapping[Pair, Difference],
    config: LiftParams,
) -> dict[str, ArmFigure]:
    """Every arm's figure of one metric."""
    return {
        name: figure(metric, arm, estimates.get(name), differences.get((name, "real")), config)
        for name, arm in arms.items()
    }


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
    sound = {name: one for name, one in found.items() if arms[name].sound}
    return figures_of(metric, narrowed, found, lifts(sound, resampling), config)


def compared(name: str) -> bool:
    """Whether an arm is one of the comparison; others stand for themselves."""
    return not Arm.parse(name).is_diagnostic


def shared_axes(task: str, arms: Mapping[str, ArmResult]) -> Axes | None:
    """The runs and patients of the arms that were measured; None when none was."""
    known = {name: arm.axes for name, arm in arms.items() if arm.axes is not None}
    for name, axes in known.items():
        first, expected = next(iter(known.items()))
        if axes != expected:
            raise InputError(
                f"data/downstream: {task} {name} was tested on other patients, folds or seeds than"
                f" {first}; run `dvc repro downstream` so that all arms are of one state"
            )
    return next(iter(known.values()), None)


def figure(
    metric: str,
    arm: ArmResult,
    found: Estimate | None,
    over_real: Difference | None,
    config: LiftParams,
) -> ArmFigure:
    """One arm's figure of one metric."""
    n_patients = arm.measures[metric].patients() if metric in arm.measures else 0
    if found is None:
        status: Status = arm.status
        if arm.axes:
            status = "too few patients" if n_patients else "not defined"
        return ArmFigure(status=status, n_patients=n_patients)
    lift = {}
    if over_real:
        lift = {
            "lift_over_real": over_real.lift,
            "lift_ci95": within(over_real, metric),
            "p_adjusted": over_real.p_adjusted,
        }
    return ArmFigure(
        mean=found.value,
        ci95=found.interval(limit=np.inf if metric in UNBOUNDED else 1.0, seed=config.seed),
        n_patients=n_patients,
        status=arm.status,
        **lift,
    )


def within(difference: Difference, metric: str) -> tuple[float, float]:
    """The interval, without differences that the metric's range cannot hold."""
    most = np.inf if metric in UNBOUNDED else 1.0
    return max(difference.low, -most), min(difference.high, most)
