"""What may be claimed of a task: an intersection over references, a union over arms.

And when nothing may be: with one seed, with too few patients, over a reference that was not
measured or learnt nothing.
"""

from collections.abc import Collection, Mapping, Sequence

from tasks.common.arms import Arm
from tasks.lift.bootstrap import Difference
from tasks.lift.downstream_results import ArmResult
from tasks.schemas.lift import Claim, Trained


def candidates(arms: Sequence[str]) -> list[str]:
    """Arms that add synthetic slices to real ones; `synthetic` alone is only reported."""
    specs = [Arm.parse(name) for name in arms]
    return [arm.name for arm in specs if arm.synthetic and arm.real and not arm.is_diagnostic]


def references(arms: Sequence[str]) -> list[str]:
    """Arms without synthetic slices: the rivals and the controls."""
    specs = [Arm.parse(name) for name in arms]
    return [arm.name for arm in specs if not arm.synthetic and not arm.is_diagnostic]


def over_real(arms: Sequence[str]) -> list[tuple[str, str]]:
    """Every arm's contrast with `real`."""
    return [
        (a, "real")
        for a in arms
        if "real" in arms and a != "real" and not Arm.parse(a).is_diagnostic
    ]


def claim_contrasts(arms: Sequence[str]) -> list[tuple[str, str]]:
    """The contrasts that a claim is read off: candidates over all arms without synthetic slices."""
    return [(c, r) for c in candidates(arms) for r in references(arms) if "real" in arms]


def claim(arms: Sequence[str], contrasts: Mapping[tuple[str, str], Difference]) -> Claim:
    """Read the claim off the primary metric's simultaneous intervals; larger must be better.

    An arm helps when its lower bound is above zero against each reference (intersection-union,
    Berger 1982): to beat `real` is no merit if classical augmentation does as well. It harms
    when its upper bound is below zero against each. The intervals hold for all arms at once, so
    one arm that helps is enough.

    Args:
        arms: the arms that were measured.
        contrasts: `deciding(arms)`'s differences.
    """
    if "real" not in arms or not candidates(arms):
        return "not measured"
    trials = [[contrasts[c, r] for r in references(arms)] for c in candidates(arms)]
    if any(all(d.low > 0 for d in trial) for trial in trials):
        return "helps"
    if any(all(d.high < 0 for d in trial) for trial in trials):
        return "harms"
    return "no evidence"


def obstacles(
    task: str,
    metric: str,
    arms: Mapping[str, ArmResult],
    measured: Collection[str],
    *,
    seeds: int,
    min_patients: int,
) -> list[str]:
    """Why no claim can be given; empty where one can.

    Args:
        task: its name.
        metric: that the claim is read off.
        arms: all that were listed for the comparison.
        measured: those whose metric is known and whose networks learnt.
        seeds: that the arms share.
        min_patients: `lift.min_patients`.
    """
    listed = list(arms)
    if "real" not in arms or not candidates(listed):
        return [
            "a claim needs the arm real and one with real and synthetic slices in downstream.arms"
        ]
    found = []
    trained = [arm for arm in arms.values() if arm.axes is not None]
    if trained and seeds < 2:
        found.append(
            f"{seeds} seed is left, and one network an arm tells nothing of other training runs:"
            " add to downstream.seeds or raise downstream.reruns"
        )
    patients = [arm.measures[metric].patients() for arm in trained if metric in arm.measures]
    if patients and max(patients) < min_patients:
        rarer = " with (or without) a tumour" if metric == "auroc" else ""
        found.append(
            f"{metric} rests on {max(patients)} test patients{rarer}, and lift.min_patients asks"
            f" for {min_patients}"
        )
        measured = [name for name in listed if arms[name].axes]  # that says it of all of them
    blamed = [name for name in references(listed) if name not in measured]
    if not any(name in measured for name in candidates(listed)):
        blamed += candidates(listed)
    return found + [f"{name} {shortcoming(task, metric, arms[name])}" for name in blamed]


def reservations(
    task: str, metric: str, arms: Mapping[str, ArmResult], measured: Collection[str]
) -> list[str]:
    """What a claim that is given leaves open: arms it says nothing of, too few steps or seeds.

    Arguments as `obstacles` has them.
    """
    listed = list(arms)
    axes = next(arms[name].axes for name in measured)
    found = [
        f"{name} is no part of the claim: it {shortcoming(task, metric, arms[name])}"
        for name in candidates(listed)
        if name not in measured
    ]
    rising = [
        name
        for name in (*references(listed), *candidates(listed))
        if name in measured and (ended := arms[name].trained) and ended.flat is False
    ]
    if rising:
        found.append(
            f"validation still rose at the end in {', '.join(rising)}: more steps"
            f" (downstream.{task}.steps) may change the claim"
        )
    if axes and len(axes.runs) - len({fold for fold, _ in axes.runs}) == 1:
        found.append(
            "two seeds tell so little of other training runs that hardly any lift could be shown:"
            " train three or more"
        )
    return found


def shortcoming(task: str, metric: str, arm: ArmResult) -> str:
    """Why an arm takes no part in a claim; a predicate."""
    if arm.status == "too few":
        return "has too few added slices to train on"
    if arm.axes is None:
        return "was not trained"
    if not arm.sound:
        seeds = ", ".join(map(str, (arm.trained or Trained(validation=0)).failed_seeds))
        return (
            f"did not converge: its networks of seed {seeds} learnt nothing of validation"
            f" patients; raise downstream.{task}.steps"
        )
    return f"has no {metric} on these test patients"
