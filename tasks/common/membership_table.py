"""Tabulate the attacks that try to tell who trained, for the report and the data card."""

from collections.abc import Mapping
from typing import Final

from tasks.common.cohort_counts import CohortCounts
from tasks.common.small_cells import HIDDEN
from tasks.schemas.metrics import GateMetrics, MembershipFigure

HEADS: Final = (
    "fold", "attack on", "AUROC", "95 % interval", "guessing", "training patients",
    "validation patients", "finding",
)  # fmt: skip

BY_CHANCE: Final = 0.025  # how often a 95 % interval lies above guessing where nothing is told


def membership_rows(gates: Mapping[str, GateMetrics], cohort: CohortCounts) -> list[list[str]]:
    """Return a row of texts for each attack of each fold, in the order of `HEADS`.

    Where a number of patients is hidden, nothing of the attack is shown: whether there is a figure,
    which, and how wide its interval is tell how many they are.

    Args:
        gates: the gate's figures by fold.
        cohort: the counts of patients as they may be shown.
    """
    rows = []
    measured = sum(
        attack.auroc is not None and shows_attack(cohort, fold, name)
        for fold, gate in gates.items()
        for name, attack in gate.membership.items()
    )
    for fold, gate in gates.items():
        for name, attack in gate.membership.items():
            members, others = cohort.attacked(fold, name)
            auroc, interval, finding = "-", "-", describe_finding(attack, measured)
            if not shows_attack(cohort, fold, name):
                auroc = interval = finding = HIDDEN
            elif attack.auroc is not None and attack.ci95 is not None:
                low, high = (end if end is not None else float("nan") for end in attack.ci95)
                auroc, interval = f"{attack.auroc:.2f}", f"{low:.2f} to {high:.2f}"
            rows.append(
                [fold, name, auroc, interval, f"{attack.guessing:.2f}", members, others, finding]
            )
    return rows


def shows_attack(cohort: CohortCounts, fold: str, name: str) -> bool:
    """Check whether the patients of an attack may be counted."""
    return all(count.isdecimal() for count in cohort.attacked(fold, name))


def describe_finding(attack: MembershipFigure, measured: int = 1) -> str:
    """Say in words what an attack found, as one of `measured`."""
    if attack.auroc is None or attack.ci95 is None or None in attack.ci95:
        return f"not measured: {attack.not_measured or 'no figure'}"
    low, high = attack.ci95
    assert low is not None and high is not None
    if low > attack.guessing:
        words = "training patients are told from others better than by guessing"
        if measured == 1:
            return words
        return f"{words} (chance alone finds this in {BY_CHANCE * measured:.1f} of {measured} rows)"
    if high < attack.guessing:
        return "worse than guessing: training and validation patients differ in another way"
    return "no better than guessing, within the interval"


def membership_sentence(fold: str, gates: Mapping[str, GateMetrics], cohort: CohortCounts) -> str:
    """Say in a line what the attacks on one fold's slices and generator found."""
    measured = [name for name, each in gates[fold].membership.items() if each.auroc is not None]
    if any(not shows_attack(cohort, fold, name) for name in gates[fold].membership):
        return f"{HIDDEN}, as in the data card: the figures would tell of few patients"
    rows = {row[1]: row for row in membership_rows({fold: gates[fold]}, cohort)}
    figures = [f"attack on {name}: AUROC {rows[name][2]} ({rows[name][3]})" for name in measured]
    return f"{'; '.join(figures)}; guessing gives 0.50" if figures else "not measured"
