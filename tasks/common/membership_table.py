"""Tabulate the attacks that try to tell who trained, for the report and the data card."""

from collections.abc import Mapping
from typing import Final

from tasks.common import small_cells
from tasks.common.cohort_counts import CohortCounts
from tasks.schemas.metrics import GateMetrics, MembershipFigure

HEADS: Final = (
    "fold", "attack on", "AUROC", "95 % interval", "guessing", "training patients",
    "validation patients", "finding",
)  # fmt: skip

BY_CHANCE: Final = 0.025  # how often a 95 % interval lies above guessing where nothing is told


def membership_rows(
    gates: Mapping[str, GateMetrics], smallest_cell: int, cohort: CohortCounts | None = None
) -> list[list[str]]:
    """Return a row of texts for each attack of each fold, in the order of `HEADS`.

    An attack on few patients is not shown: whether there is a figure, and which, tells how many.

    Args:
        gates: the gate's figures by fold.
        smallest_cell: counts of fewer patients are hidden, and intervals that tell them.
        cohort: the counts as other tables show them; None where there are no others.
    """
    rows = []
    measured = sum(
        attack.auroc is not None and not of_few(attack, smallest_cell)
        for gate in gates.values()
        for attack in gate.membership.values()
    )
    for fold, gate in gates.items():
        for name, attack in gate.membership.items():
            if cohort is None:
                counts = [[attack.members, attack.non_members]]
                ((members, others),) = small_cells.show_counts(counts, smallest_cell)
            else:
                members, others = cohort.attacked(fold, name)
            auroc, interval = "-", "-"
            finding = describe_finding(attack, measured)
            if of_few(attack, smallest_cell):
                auroc = interval = small_cells.HIDDEN
                finding = f"not shown: on one side are fewer than {smallest_cell} patients"
            elif attack.auroc is not None and attack.ci95 is not None:
                low, high = (end if end is not None else float("nan") for end in attack.ci95)
                auroc, interval = f"{attack.auroc:.2f}", f"{low:.2f} to {high:.2f}"
                if not (members.isdecimal() and others.isdecimal()):
                    interval = small_cells.HIDDEN  # its width tells the counts
            rows.append(
                [fold, name, auroc, interval, f"{attack.guessing:.2f}", members, others, finding]
            )
    return rows


def of_few(attack: MembershipFigure, smallest_cell: int) -> bool:
    """Check whether an attack was made on few patients of a kind."""
    return any(
        small_cells.is_small(count, smallest_cell) for count in (attack.members, attack.non_members)
    )


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


def membership_sentence(gate: GateMetrics | None, smallest_cell: int) -> str:
    """Say in a line what the attacks on one fold's slices and generator found."""
    rows = membership_rows({"": gate}, smallest_cell) if gate is not None else []
    figures = [
        f"attack on {name}: AUROC {row[2]} ({row[3]})"
        for name, row in zip(gate.membership, rows, strict=True)
        if gate.membership[name].auroc is not None and row[2] != small_cells.HIDDEN
    ] if gate is not None else []  # fmt: skip
    if figures:
        return f"{'; '.join(figures)}; guessing gives 0.50"
    few = gate is not None and any(of_few(a, smallest_cell) for a in gate.membership.values())
    return "not shown, for there are few patients" if few else "not measured"
