"""Compare the arms of one task: figures, contrasts, the claim, and subgroups."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tasks.common.arms import Arm
from tasks.lift.bootstrap import (
    ArmPair,
    Difference,
    Estimate,
    Resampling,
    estimate_metric,
    sign_flip_test,
    simultaneous_differences,
)  # fmt: skip
from tasks.lift.claim import (
    claim_candidates,
    claim_caveats,
    claim_references,
    contrasts_with_real,
    decide_claim,
    reasons_not_measured,
)
from tasks.lift.downstream_results import ArmResult
from tasks.lift.patient_metrics import RunPatientAxes
from tasks.params.lift import Lift as LiftParams
from tasks.schemas.lift import ArmFigure, Claim, Contrast, Status, Subgroups
from tasks.schemas.predictions import UNBOUNDED_METRICS
from tasks.stage.errors import InputError

PRIMARY_METRIC = {"classify": "auroc", "segment": "dice_volume"}
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
    "segment": [
        "dice_volume",
        "dice",
        "dice_slice",
        "hd95_mm",
        "false_positive_mm2",
        "slice_auroc",
    ],
}


@dataclass(frozen=True)
class Comparison:
    """The result of one task; `reasons` are the claim's."""

    claim: Claim
    reasons: list[str]
    figures: dict[str, dict[str, ArmFigure]]
    contrasts: list[Contrast]
    subgroups: Subgroups
    axes: RunPatientAxes | None


def compare_arms(
    task: str, arms: Mapping[str, ArmResult], config: LiftParams, *, seeds: int
) -> Comparison:
    """Compute all figures of a task, and the claim from its primary metric.

    Args:
        task: its name.
        arms: every arm's metrics.
        config: `lift` of `params.yaml`.
        seeds: number of seeds that the compared arms share.

    Raises:
        InputError: two arms were not tested on the same patients with the same seeds.
    """
    rivals = {name: arm for name, arm in arms.items() if is_compared(name)}
    shared = shared_axes(task, rivals)
    resamplings = {
        name: Resampling.sample_weights(arm.axes, replicates=config.draws, seed=config.seed)
        for name, arm in arms.items()
        if arm.axes is not None
    }
    # Diagnostic arms were tested on patients of their own, and are not paired with others.
    resampling = next((one for name, one in resamplings.items() if name in rivals), None)
    figures: dict[str, dict[str, ArmFigure]] = {}
    primary: dict[str, Estimate] = {}
    for metric in METRICS[task]:
        estimates = {
            name: found
            for name, arm in arms.items()
            if metric in arm.metrics
            and arm.metrics[metric].count_patients() >= config.min_patients
            and (found := estimate_metric(arm.metrics[metric], resamplings[name])) is not None
        }
        sound = {
            name: one for name, one in estimates.items() if name in rivals and arms[name].converged
        }
        figures[metric] = arm_figures(
            metric, arms, estimates, lifts_over_real(sound, resampling), config
        )
        if metric == PRIMARY_METRIC[task]:
            primary = sound
    of_claim = claim_differences(primary, resampling)
    known = PRIMARY_METRIC[task], rivals, list(primary)
    reasons = reasons_not_measured(task, *known, seeds=seeds, min_patients=config.min_patients)
    verdict: Claim = "not measured"
    if not reasons:
        verdict, reasons = decide_claim(list(primary), of_claim), claim_caveats(task, *known)
    groups = subgroup_figures(PRIMARY_METRIC[task], arms, resampling, config) if resampling else {}
    return Comparison(
        verdict,
        reasons,
        figures,
        [
            contrast_record(pair, one, PRIMARY_METRIC[task], arms, config)
            for pair, one in of_claim.items()
        ],
        groups,
        shared,
    )


def lifts_over_real(
    sound: Mapping[str, Estimate], resampling: Resampling | None
) -> dict[ArmPair, Difference]:
    """Compute every arm's simultaneous lift over `real`; none where each fold has one run only."""
    if resampling is None or resampling.degrees_of_freedom < 1:
        return {}
    return simultaneous_differences(sound, contrasts_with_real(list(sound)), resampling)


def claim_differences(
    sound: Mapping[str, Estimate], resampling: Resampling | None
) -> dict[ArmPair, Difference]:
    """Compute the differences that decide a claim: candidates over each reference.

    A claim requires all references, so that each of them may be tested by itself; one of the
    candidates is enough, so that against one reference they are simultaneous.
    """
    if resampling is None or resampling.degrees_of_freedom < 1:
        return {}
    arms = list(sound)
    return {
        pair: difference
        for reference in claim_references(arms)
        for pair, difference in simultaneous_differences(
            sound, [(arm, reference) for arm in claim_candidates(arms)], resampling
        ).items()
    }


def contrast_record(
    pair: ArmPair,
    difference: Difference,
    metric: str,
    arms: Mapping[str, ArmResult],
    config: LiftParams,
) -> Contrast:
    """Make the record of a claim's contrast in `data/lift.json`."""
    arm, reference = (arms[name].metrics[metric] for name in pair)
    return Contrast(
        arm=pair[0],
        reference=pair[1],
        lift=difference.lift,
        ci95=clip_interval_to_range(difference, metric),
        p_adjusted=difference.p_adjusted,
        detectable=difference.detectable,
        sign_flip_p=sign_flip_test(arm, reference, seed=config.seed),
    )


def arm_figures(
    metric: str,
    arms: Mapping[str, ArmResult],
    estimates: Mapping[str, Estimate],
    differences: Mapping[ArmPair, Difference],
    config: LiftParams,
) -> dict[str, ArmFigure]:
    """Make every arm's figure of one metric."""
    return {
        name: arm_figure(metric, arm, estimates.get(name), differences.get((name, "real")), config)
        for name, arm in arms.items()
    }


def subgroup_figures(
    metric: str, arms: Mapping[str, ArmResult], resampling: Resampling, config: LiftParams
) -> Subgroups:
    """Compute the primary metric in each subgroup: exploratory, simultaneous within one only."""
    rivals = {name: arm for name, arm in arms.items() if arm.metrics and is_compared(name)}
    kinds = next(iter(rivals.values())).groups
    return {
        kind: {name: figures_in_subgroup(metric, rivals, members, resampling, config)
               for name, members in groups.items()}
        for kind, groups in kinds.items()
    }  # fmt: skip


def figures_in_subgroup(
    metric: str,
    arms: Mapping[str, ArmResult],
    members: NDArray[np.bool_],
    resampling: Resampling,
    config: LiftParams,
) -> dict[str, ArmFigure]:
    """Compute the figures of one subgroup's patients."""
    narrowed = {
        name: replace(arm, metrics={metric: arm.metrics[metric].restricted_to(members)})
        for name, arm in arms.items()
    }
    estimates = {
        name: estimate
        for name, arm in narrowed.items()
        if arm.metrics[metric].count_patients() >= config.min_patients
        and (estimate := estimate_metric(arm.metrics[metric], resampling)) is not None
    }
    sound = {name: estimate for name, estimate in estimates.items() if arms[name].converged}
    return arm_figures(metric, narrowed, estimates, lifts_over_real(sound, resampling), config)


def is_compared(name: str) -> bool:
    """Return whether an arm is part of the comparison; diagnostic arms are not."""
    return not Arm.parse(name).is_diagnostic


def shared_axes(task: str, arms: Mapping[str, ArmResult]) -> RunPatientAxes | None:
    """Return the runs and patients of the arms that were measured; None when none was."""
    axes_by_arm = {name: arm.axes for name, arm in arms.items() if arm.axes is not None}
    for name, axes in axes_by_arm.items():
        first, expected = next(iter(axes_by_arm.items()))
        if axes != expected:
            raise InputError(
                f"data/downstream: {task} {name} was tested on other patients, folds or seeds than"
                f" {first}; run `dvc repro downstream` so that all arms are of one state"
            )
    return next(iter(axes_by_arm.values()), None)


def arm_figure(
    metric: str,
    arm: ArmResult,
    estimate: Estimate | None,
    difference: Difference | None,
    config: LiftParams,
) -> ArmFigure:
    """Make one arm's figure of one metric."""
    n_patients = arm.metrics[metric].count_patients() if metric in arm.metrics else 0
    if estimate is None:
        status: Status = arm.status
        if arm.axes:
            status = "too few patients" if n_patients else "not defined"
        return ArmFigure(status=status, n_patients=n_patients)
    lift = {}
    if difference:
        lift = {
            "lift_over_real": difference.lift,
            "lift_ci95": clip_interval_to_range(difference, metric),
            "p_adjusted": difference.p_adjusted,
        }
    return ArmFigure(
        mean=estimate.value,
        ci95=estimate.interval(
            limit=np.inf if metric in UNBOUNDED_METRICS else 1.0, seed=config.seed
        ),
        n_patients=n_patients,
        status=arm.status,
        **lift,
    )


def clip_interval_to_range(difference: Difference, metric: str) -> tuple[float, float]:
    """Clip the interval to the differences that the metric's range allows."""
    largest = np.inf if metric in UNBOUNDED_METRICS else 1.0
    return max(difference.low, -largest), min(difference.high, largest)
