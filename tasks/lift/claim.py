"""Decide what may be claimed of a task: an intersection over references, a union over arms.

Nothing may be claimed with one seed, with too few patients, or over a reference that was not
measured or learnt nothing. An arm that no one could train on these patients is no reference: one
that adds scans without outlines, where every training slice is outlined.
"""

from collections.abc import Collection, Mapping, Sequence

from tasks.common.arms import Arm
from tasks.lift.bootstrap import Difference
from tasks.lift.downstream_results import ArmResult
from tasks.schemas.lift import Claim, TrainingSummary


def claim_candidates(arms: Sequence[str]) -> list[str]:
    """List the arms that add synthetic slices to real ones; `synthetic` alone is only reported."""
    parsed = [Arm.parse(name) for name in arms]
    return [arm.name for arm in parsed if arm.synthetic and arm.real and not arm.is_diagnostic]


def claim_references(arms: Sequence[str]) -> list[str]:
    """List the arms without synthetic slices: the rivals and the controls."""
    parsed = [Arm.parse(name) for name in arms]
    return [arm.name for arm in parsed if not arm.synthetic and not arm.is_diagnostic]


def contrasts_with_real(arms: Sequence[str]) -> list[tuple[str, str]]:
    """List every arm's contrast with `real`."""
    return [
        (arm, "real")
        for arm in arms
        if "real" in arms and arm != "real" and not Arm.parse(arm).is_diagnostic
    ]


def claim_contrasts(arms: Sequence[str]) -> list[tuple[str, str]]:
    """List the contrasts that decide a claim: candidates over all arms without synthetic slices."""
    return [
        (candidate, reference)
        for candidate in claim_candidates(arms)
        for reference in claim_references(arms)
        if "real" in arms
    ]


def decide_claim(arms: Sequence[str], contrasts: Mapping[tuple[str, str], Difference]) -> Claim:
    """Decide the claim by the primary metric's simultaneous intervals; larger must be better.

    An arm helps when its lower bound is above zero against each reference (intersection-union,
    Berger 1982): to beat `real` is no merit if classical augmentation does as well. It harms
    when its upper bound is below zero against each. The intervals hold for all arms at once, so
    one arm that helps is enough.

    Args:
        arms: the arms that were measured.
        contrasts: the differences of `claim_contrasts(arms)`.
    """
    if "real" not in arms or not claim_candidates(arms):
        return "not measured"
    by_candidate = [
        [contrasts[candidate, reference] for reference in claim_references(arms)]
        for candidate in claim_candidates(arms)
    ]
    if any(all(difference.low > 0 for difference in differences) for differences in by_candidate):
        return "helps"
    if any(all(difference.high < 0 for difference in differences) for differences in by_candidate):
        return "harms"
    return "no evidence"


def reasons_not_measured(
    task: str,
    metric: str,
    arms: Mapping[str, ArmResult],
    measured: Collection[str],
    *,
    seeds: int,
    min_patients: int,
) -> list[str]:
    """List why no claim can be made; empty where one can.

    Args:
        task: its name.
        metric: that decides the claim.
        arms: all that were listed for the comparison.
        measured: those whose metric is known and whose networks learnt.
        seeds: number of seeds that the arms share.
        min_patients: `lift.min_patients`.
    """
    listed = list(arms)
    if "real" not in arms or not claim_candidates(listed):
        return [
            "a claim needs the arm real and one with real and synthetic slices in downstream.arms"
        ]
    reasons = []
    trained = [arm for arm in arms.values() if arm.axes is not None]
    if trained and seeds < 2:
        reasons.append(
            f"{seeds} seed is left, and one network an arm tells nothing of other training runs:"
            " add to downstream.seeds or raise downstream.reruns"
        )
    patients = [arm.metrics[metric].count_patients() for arm in trained if metric in arm.metrics]
    if patients and max(patients) < min_patients:
        rarer = " with (or without) a tumour" if metric == "auroc" else ""
        reasons.append(
            f"{metric} rests on {max(patients)} test patients{rarer}, and lift.min_patients asks"
            f" for {min_patients}"
        )
        measured = [name for name in listed if arms[name].axes]  # the reason covers all of them
    blamed = [
        name
        for name in claim_references(listed)
        if name not in measured and arms[name].status != "not applicable"
    ]
    if not any(name in measured for name in claim_candidates(listed)):
        blamed += claim_candidates(listed)
    return reasons + [f"{name} {describe_shortcoming(task, metric, arms[name])}" for name in blamed]


def claim_caveats(
    task: str, metric: str, arms: Mapping[str, ArmResult], measured: Collection[str]
) -> list[str]:
    """List what a claim leaves open: arms that it does not cover, too few steps or seeds.

    Arguments as in `reasons_not_measured`.
    """
    listed = list(arms)
    axes = next(arms[name].axes for name in measured)
    caveats = [
        f"{name} is no part of the claim: it {describe_shortcoming(task, metric, arms[name])}"
        for name in claim_candidates(listed)
        if name not in measured and arms[name].status != "not applicable"
    ]
    absent = [name for name in listed if arms[name].status == "not applicable"]
    if absent:
        caveats.append(
            f"every training slice is outlined, so that {' and '.join(absent)}"
            f" {'do' if len(absent) > 1 else 'does'} not apply"
        )
    rising = [
        name
        for name in (*claim_references(listed), *claim_candidates(listed))
        if name in measured and (summary := arms[name].trained) and summary.flat is False
    ]
    if rising:
        caveats.append(
            f"validation still rose at the end in {', '.join(rising)}: more steps"
            f" (downstream.{task}.steps) may change the claim"
        )
    if axes and len(axes.runs) - len({fold for fold, _ in axes.runs}) == 1:
        caveats.append(
            "two seeds tell so little of other training runs that hardly any lift could be shown:"
            " train three or more"
        )
    return caveats


def describe_shortcoming(task: str, metric: str, arm: ArmResult) -> str:
    """Say why an arm takes no part in a claim; a predicate."""
    if arm.status == "not applicable":
        return "adds scans without outlines, and every training slice is outlined"
    if arm.status == "too few":
        return "has too few added slices to train on"
    if arm.axes is None:
        return "was not trained"
    if not arm.converged:
        seeds = ", ".join(map(str, (arm.trained or TrainingSummary(validation=0)).failed_seeds))
        return (
            f"did not converge: its networks of seed {seeds} learnt nothing of validation"
            f" patients; raise downstream.{task}.steps"
        )
    return f"has no {metric} on these test patients"
