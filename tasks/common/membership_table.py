"""Tabulate the attacks that try to tell who trained, for the report and the data card."""

from collections.abc import Mapping
from typing import Final

from tasks.common import small_cells
from tasks.schemas.metrics import GateMetrics, MembershipFigure

HEADS: Final = (
    "fold", "attack on", "AUROC", "95 % interval", "guessing", "training patients",
    "validation patients", "finding",
)  # fmt: skip

BY_CHANCE: Final = 0.025  # how often a 95 % interval lies above guessing where nothing is told


def membership_rows(
    gates: Mapping[str, GateMetrics],
    smallest_cell: int,
    patients: Mapping[tuple[str, str], int] | None = None,
) -> list[list[str]]:
    """Return a row of texts for each attack of each fold, in the order of `HEADS`.

    Args:
        gates: the gate's figures by fold.
        smallest_cell: counts of fewer patients are hidden, and intervals that tell them.
        patients: how many patients readers know of a fold's partition: an attack's count is hidden
            where the difference is small.
    """
    rows = []
    known = patients or {}
    measured = sum(
        attack.auroc is not None for g in gates.values() for attack in g.membership.values()
    )
    for fold, gate in gates.items():
        for name, attack in gate.membership.items():
            counts = [[attack.members, attack.non_members]]
            ((members, others),) = small_cells.show_counts(counts, smallest_cell)
            for partition, count in (("train", attack.members), ("val", attack.non_members)):
                left_out = known.get((fold, partition), count) - count
                if small_cells.is_small(left_out, smallest_cell):
                    members = others = small_cells.HIDDEN
            auroc, interval = "-", "-"
            if attack.auroc is not None and attack.ci95 is not None:
                low, high = (end if end is not None else float("nan") for end in attack.ci95)
                auroc, interval = f"{attack.auroc:.2f}", f"{low:.2f} to {high:.2f}"
                if not (members.isdecimal() and others.isdecimal()):
                    interval = small_cells.HIDDEN  # its width tells the counts
            rows.append(
                [
                    fold, name, auroc, interval, f"{attack.guessing:.2f}", members, others,
                    describe_finding(attack, measured),
                ]
            )  # fmt: skip
    return rows


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
        if gate.membership[name].auroc is not None
    ] if gate is not None else []  # fmt: skip
    return f"{'; '.join(figures)}; guessing gives 0.50" if figures else "not measured"
