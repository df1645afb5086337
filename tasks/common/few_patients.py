"""Keep numbers of few patients out of the sentences that data card, refusal and report repeat."""

from collections.abc import Iterator
from dataclasses import replace

from tasks.common.cohort_counts import CohortCounts
from tasks.common.release_candidate import ReleaseCandidate
from tasks.common.small_cells import HIDDEN, hide_in_sentences, is_small, show_counts
from tasks.schemas.lift import ArmFigure, Lift


def hide_few_patients(
    candidate: ReleaseCandidate, lift: Lift, cohort: CohortCounts, smallest_cell: int
) -> tuple[ReleaseCandidate, Lift]:
    """Return candidate and lift without small numbers of patients in their sentences.

    Where the number of test patients would tell another one, `n_patients` of the lift is 0.
    """
    gates = {fold: hide_in_sentences(gate, smallest_cell) for fold, gate in candidate.gates.items()}
    shown = cohort.tested_shown and not is_small(lift.n_patients, smallest_cell)
    n_patients = lift.n_patients if shown else 0
    also = {
        figure.n_patients
        for figure in all_figures(lift)
        if not count_tested(figure, n_patients, cohort, smallest_cell).isdecimal()
    }
    also |= set() if shown else {lift.n_patients}
    hidden = hide_in_sentences(lift, smallest_cell, also)
    return replace(candidate, gates=gates), hidden.model_copy(update={"n_patients": n_patients})


def all_figures(lift: Lift) -> Iterator[ArmFigure]:
    """Yield the figures of every metric and arm, of all patients and of subgroups."""
    for metrics in lift.tasks.values():
        for arms in metrics.values():
            yield from arms.values()
    for kinds in lift.subgroups.values():
        for groups in kinds.values():
            for arms in groups.values():
                yield from arms.values()


def count_tested(
    figure: ArmFigure, n_patients: int, cohort: CohortCounts, smallest_cell: int
) -> str:
    """Return how many test patients a figure rests on, as it may be shown.

    Many metrics rest on those with tumour, so where their number is hidden, no metric's is shown:
    that one's is and another's is not would tell it. Few patients of the `n_patients` who test are
    not counted, nor the others then. Where that is 0, nobody is to learn how many test.
    """
    count = figure.n_patients
    if count and not (n_patients and cohort.tested_with_tumour_shown):
        return HIDDEN
    return show_counts([[count, max(n_patients - count, 0)]], smallest_cell)[0][0]
