"""The simulation behind the table in docs/lift.md: no arm is better, so nothing may be claimed."""

import numpy as np
import pytest

from benchmarks import lift_simulation as simulation
from benchmarks.lift_simulation import false_lift_row, simulate
from benchmarks.simulated_studies import STUDIES, THROUGH_FILES, Study
from tasks.lift.compare import Comparison
from tasks.params.lift import Lift

REFUSED = (
    "one seed", "one seed, three arms", "real learnt nothing", "the candidate never converged",
    "three of six arms dead, one of them a control", "AUROC, 1 of 12 patients with tumour",
    "AUROC, 2 of 12 patients with tumour", "AUROC, 3 of 12 patients with tumour",
)  # fmt: skip


def named(name: str) -> Study:
    (study,) = (one for one in STUDIES if one.name == name)
    return study


def errors(rounds: list[Comparison]) -> dict[str, float]:
    """Shares of rounds with a false claim, and with intervals without 0.

    Contrasts are simultaneous against one reference: each by itself.
    """
    metric = simulation.PRIMARY_METRIC[
        "segment" if "dice_volume" in rounds[0].figures else "classify"
    ]
    lifts = [[f.lift_ci95 for f in one.figures[metric].values() if f.lift_ci95] for one in rounds]
    against = {
        reference: [
            any(simulation.excludes_zero(c.ci95) for c in one.contrasts if c.reference == reference)
            for one in rounds
        ]
        for reference in {c.reference for one in rounds for c in one.contrasts}
    }
    return {
        "claims": float(np.mean([one.claim in ("helps", "harms") for one in rounds])),
        "lifts": float(np.mean([any(map(simulation.excludes_zero, ci)) for ci in lifts])),
        "contrasts": max(float(np.mean(shares)) for shares in against.values()),
    }


@pytest.mark.parametrize("name", REFUSED)
def test_a_study_that_can_claim_nothing_says_so_every_time(name: str) -> None:
    rounds = simulate(named(name), rounds=2, draws=100)
    assert {one.claim for one in rounds} == {"not measured"}
    assert all(one.reasons for one in rounds)


@pytest.mark.verify
@pytest.mark.parametrize("name", THROUGH_FILES)
def test_the_stage_says_the_same_of_the_files(name: str) -> None:
    simulation.check_through_files(named(name), Lift(draws=200))


@pytest.mark.verify
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", [one.name for one in STUDIES if one.name not in REFUSED])
def test_the_nominal_level_is_held(name: str) -> None:
    """Two standard errors above 5 % in 200 rounds: 8.1 %."""
    study = named(name)
    rounds = simulate(study, rounds=200, draws=300)
    assert max(errors(rounds).values()) <= 0.08
    held = false_lift_row(study, rounds)["an arm's interval holds its mean"]
    assert float(held.removesuffix(" %")) >= 94
