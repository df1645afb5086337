"""Tabulate the attacks that try to tell who trained, for the report and the data card."""

from collections.abc import Mapping
from typing import Final

from tasks.common import small_cells
from tasks.schemas.metrics import GateMetrics, MembershipFigure

HEADS: Final = (
    "fold", "attack on", "AUROC", "95 % interval", "guessing", "training patients",
    "validation patients", "finding",
)  # fmt: skip


def membership_rows(gates: Mapping[str, GateMetrics], smallest_cell: int) -> list[list[str]]:
    """Return a row of texts for each attack of each fold, in the order of `HEADS`."""
    rows = []
    for fold, gate in gates.items():
        for name, attack in gate.membership.items():
            counts = [[attack.members, attack.non_members]]
            ((members, others),) = small_cells.show_counts(counts, smallest_cell)
            auroc, interval = "-", "-"
            if attack.auroc is not None and attack.ci95 is not None:
                low, high = (end if end is not None else float("nan") for end in attack.ci95)
                auroc, interval = f"{attack.auroc:.2f}", f"{low:.2f} to {high:.2f}"
            rows.append(
                [
                    fold, name, auroc, interval, f"{attack.guessing:.2f}", members, others,
                    describe_finding(attack),
                ]
            )  # fmt: skip
    return rows


def describe_finding(attack: MembershipFigure) -> str:
    """Say in words what an attack found."""
    if attack.auroc is None or attack.ci95 is None or None in attack.ci95:
        return f"not measured: {attack.not_measured or 'no figure'}"
    low, high = attack.ci95
    assert low is not None and high is not None
    if low > attack.guessing:
        return "training patients are told from others better than by guessing"
    if high < attack.guessing:
        return "worse than guessing: training and validation patients differ in another way"
    return "no better than guessing, within the interval"


def membership_sentence(gate: GateMetrics | None) -> str:
    """Say in a line what the attacks on one fold's slices and generator found."""
    figures = [
        f"attack on {name}: AUROC {row[2]} ({row[3]})"
        for name, row in zip(gate.membership, membership_rows({"": gate}, 1), strict=True)
        if gate.membership[name].auroc is not None
    ] if gate is not None else []  # fmt: skip
    return f"{'; '.join(figures)}; guessing gives 0.50" if figures else "not measured"
