"""Keep numbers of few patients out of the sentences that data card, refusal and report repeat."""

from dataclasses import replace

from tasks.common.cohort_counts import CohortCounts
from tasks.common.release_candidate import ReleaseCandidate
from tasks.common.small_cells import hide_in_sentences, is_small
from tasks.schemas.lift import Lift


def hide_few_patients(
    candidate: ReleaseCandidate, lift: Lift, cohort: CohortCounts, smallest_cell: int
) -> tuple[ReleaseCandidate, Lift]:
    """Return candidate and lift without small numbers of patients in their sentences.

    Where the number of test patients would tell another one, `n_patients` of the lift is 0.
    """
    gates = {fold: hide_in_sentences(gate, smallest_cell) for fold, gate in candidate.gates.items()}
    shown = cohort.tested_shown and not is_small(lift.n_patients, smallest_cell)
    also = () if shown else (lift.n_patients,)
    hidden = hide_in_sentences(lift, smallest_cell, also)
    return replace(candidate, gates=gates), hidden.model_copy(
        update={"n_patients": lift.n_patients if shown else 0}
    )
