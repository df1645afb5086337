"""What may be claimed of a task: an intersection over references, a union over arms."""

from collections.abc import Mapping, Sequence

from tasks.arms import Arm
from tasks.lift.bootstrap import Difference
from tasks.tables.lift import Claim


def candidates(arms: Sequence[str]) -> list[str]:
    """Arms that add synthetic slices to real ones; `synthetic` alone is only reported."""
    specs = [Arm.parse(name) for name in arms]
    return [arm.name for arm in specs if arm.synthetic and arm.real and not arm.apart]


def references(arms: Sequence[str]) -> list[str]:
    """Arms without synthetic slices: the rivals and the controls."""
    specs = [Arm.parse(name) for name in arms]
    return [arm.name for arm in specs if not arm.synthetic and not arm.apart]


def family(arms: Sequence[str]) -> list[tuple[str, str]]:
    """All contrasts of a metric: every arm over `real`, candidates over every reference."""
    return [*over_real(arms), *(pair for pair in deciding(arms) if pair[1] != "real")]


def over_real(arms: Sequence[str]) -> list[tuple[str, str]]:
    """Every arm's contrast with `real`."""
    return [(a, "real") for a in arms if "real" in arms and a != "real" and not Arm.parse(a).apart]


def deciding(arms: Sequence[str]) -> list[tuple[str, str]]:
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
        contrasts: `family(arms)`'s differences.
    """
    if "real" not in arms or not candidates(arms):
        return "not measured"
    trials = [[contrasts[c, r] for r in references(arms)] for c in candidates(arms)]
    if any(all(d.low > 0 for d in trial) for trial in trials):
        return "helps"
    if any(all(d.high < 0 for d in trial) for trial in trials):
        return "harms"
    return "no evidence"
