"""Several sizes and draws: closed-form curves, and simulations whose truth is known."""

import numpy as np
import pandas as pd
import pytest

from tasks.lift import learning_curves
from tasks.lift.patient_metrics import MeanMetric, RunPatientAxes

SIZES = (5, 10, 20)
ARMS = ["real", "real+classical", "real+synthetic"]


def simulated(
    rng: np.random.Generator,
    lifts: dict[str, float],
    *,
    draws: int = 5,
    patients: int = 37,
    between: float = 0.03,
    sizes: tuple[int, ...] = SIZES,
) -> tuple[dict, dict]:
    """Mean Dice by size and arm; an arm with synthetic slices spreads twice as much by draw."""
    level = rng.normal(0.6, 0.15, patients)
    axes = {s: RunPatientAxes([("0", d) for d in range(draws)], names(patients)) for s in sizes}
    ones = np.ones((draws, patients))
    measures: dict = {}
    for size in sizes:
        common = between * rng.normal(size=(draws, 1))  # a good draw is good for all arms
        measures[size] = {}
        for arm in ARMS:
            spread = between * (2 if "synthetic" in arm else 1) * rng.normal(size=(draws, 1))
            gain = rng.normal(lifts[arm], 0.05, patients) if lifts[arm] else 0.0
            noise = 0.08 * rng.normal(size=(draws, patients))
            total = level + 0.03 * np.log2(size / 5) + gain + common + spread + noise
            measures[size][arm] = MeanMetric(total, ones)
    return measures, axes


def names(count: int) -> list[str]:
    return [f"sub-{k:03d}" for k in range(count)]


def test_a_lift_beyond_all_draws_helps_at_every_size_and_none_is_no_evidence():
    rng = np.random.default_rng(0)
    for lift, claim in ((0.3, "helps"), (0.0, "no evidence"), (-0.3, "harms")):
        measures, axes = simulated(rng, {"real": 0, "real+classical": 0, "real+synthetic": lift})
        curves, resampling = learning_curves.estimate_curves(measures, axes, draws=500, seed=1)
        pairs = learning_curves.contrasts_by_size(curves, resampling, SIZES)
        assert learning_curves.claims_by_size(curves, pairs) == dict.fromkeys(SIZES, claim)
        pair = pairs[10]["real+synthetic", "real"]
        assert pair.lift == pytest.approx(lift, abs=0.12)
        assert pair.low < pair.lift < pair.high


def test_one_lucky_draw_is_no_evidence():
    """Every test patient gains in it, and none in the others."""
    ones = np.ones((5, 37))
    flat = np.full((5, 37), 0.5) + 0.01 * np.random.default_rng(0).normal(size=(5, 37))
    lucky = flat + 0.3 * (np.arange(5) == 0)[:, None]
    axes = {5: RunPatientAxes([("0", d) for d in range(5)], names(37))}
    measures = {5: {"real": MeanMetric(flat, ones), "real+synthetic": MeanMetric(lucky, ones)}}
    curves, resampling = learning_curves.estimate_curves(measures, axes, draws=500, seed=1)
    pairs = learning_curves.contrasts_by_size(curves, resampling, [5])
    assert learning_curves.claims_by_size(curves, pairs) == {5: "no evidence"}


def test_a_size_of_one_draw_changes_nothing_at_the_others():
    """It tells nothing of other draws, and its one draw must not pass for certainty elsewhere."""
    lifts = {"real": 0.0, "real+classical": 0.0, "real+synthetic": 0.1}
    measures, axes = simulated(np.random.default_rng(2), lifts, sizes=(5, 40))
    first_run = RunPatientAxes(axes[40].runs[:1], names(37))
    short = {arm: MeanMetric(m.total[:1], m.count[:1]) for arm, m in measures[40].items()}
    alone, resampling = learning_curves.estimate_curves(
        {5: measures[5]}, {5: axes[5]}, draws=500, seed=1
    )
    both, other = learning_curves.estimate_curves(
        {5: measures[5], 40: short}, {5: axes[5], 40: first_run}, draws=500, seed=1
    )
    expected = learning_curves.contrasts_by_size(alone, resampling, [5])
    assert learning_curves.contrasts_by_size(both, other, [5]) == expected
    with pytest.raises(ValueError, match="one run only"):
        learning_curves.contrasts_by_size(both, other, [5, 40])
    with pytest.raises(ValueError, match="one draw"):
        learning_curves.arm_mean_distribution(both[40]["real"], other, seed=1)


def test_a_family_may_have_another_number_of_draws_at_each_size():
    lifts = {"real": 0.0, "real+classical": 0.0, "real+synthetic": 0.0}
    measures, axes = simulated(np.random.default_rng(2), lifts, sizes=(5, 10), draws=5)
    few = {arm: MeanMetric(m.total[:2], m.count[:2]) for arm, m in measures[10].items()}
    curves, resampling = learning_curves.estimate_curves(
        {5: measures[5], 10: few},
        {5: axes[5], 10: RunPatientAxes(axes[10].runs[:2], names(37))},
        draws=500,
        seed=1,
    )
    widths = {
        size: max(one.high - one.low for one in of_size.values())
        for size, of_size in learning_curves.contrasts_by_size(curves, resampling, [5, 10]).items()
    }
    assert widths[10] > 2 * widths[5], "two draws tell little, and five are not held back by them"


@pytest.mark.parametrize(
    ("value", "patients"), [(0.4, 5), (0.5, 5), (0.55, 5 * np.sqrt(2)), (0.6, 10), (0.9, 40)]
)
def test_worth_is_read_off_between_the_sizes_and_never_beyond_them(value, patients):
    sizes, heights = np.array([5.0, 10.0, 20.0, 40.0]), np.array([0.5, 0.6, 0.6, 0.7])
    assert learning_curves.patients_at_value(value, sizes, heights) == pytest.approx(patients)


@pytest.mark.parametrize(
    ("value", "patients"),
    [(0.6999, 10), (0.7, 10), (0.7001, 20), (0.75, 20 * np.sqrt(2)), (0.8, 40), (0.81, 40)],
)
def test_a_value_above_a_plateau_is_worth_more_than_where_the_plateau_ends(value, patients):
    """Ten and twenty patients come to the same .7; so .75 lies half-way from twenty to forty."""
    sizes, heights = np.array([5.0, 10.0, 20.0, 40.0]), np.array([0.5, 0.72, 0.68, 0.8])
    assert learning_curves.patients_at_value(value, sizes, heights) == pytest.approx(
        patients, rel=2e-3
    )


@pytest.mark.parametrize("heights", [(0.5, 0.6, 0.7, 0.69), (0.7, 0.6, 0.5, 0.4)])
def test_more_than_the_whole_curve_is_worth_the_largest_size_also_above_a_plateau(heights):
    assert (
        learning_curves.patients_at_value(0.9, np.array([5.0, 10.0, 20.0, 40.0]), np.array(heights))
        == 40
    )


def test_a_dip_of_the_curve_is_evened_out():
    sizes, heights = np.array([5.0, 10.0, 20.0]), np.array([0.5, 0.62, 0.58])
    assert learning_curves.patients_at_value(0.6, sizes, heights) == pytest.approx(10)


def test_an_arm_on_the_curve_is_worth_its_own_patients():
    measures, axes = simulated(np.random.default_rng(3), dict.fromkeys(ARMS, 0), between=0.0)
    curves, resampling = learning_curves.estimate_curves(measures, axes, draws=500, seed=1)
    curve = {size: arms["real+classical"] for size, arms in curves.items()}
    patients, (low, high) = learning_curves.equivalent_patients(
        curve, curves[10]["real+classical"], resampling
    )
    assert patients == pytest.approx(10, rel=0.01)
    assert low <= 10 <= high


def test_other_test_patients_or_several_seeds_are_refused():
    measures, axes = simulated(np.random.default_rng(3), dict.fromkeys(ARMS, 0))
    axes[5] = RunPatientAxes(axes[5].runs, names(36))
    with pytest.raises(ValueError, match="different patients"):
        learning_curves.estimate_curves(measures, axes, draws=100, seed=1)
    with pytest.raises(ValueError, match="several seeds"):
        learning_curves.use_draw_as_seed(pd.DataFrame({"seed": [0, 1]}), 3)


@pytest.mark.verify
@pytest.mark.parametrize(("draws", "between"), [(5, 0.03), (5, 0.0), (3, 0.03)])
def test_the_family_covers_all_its_truths_together(draws, between):
    """Simultaneous: all of the six contrasts' intervals hold their truths, 95 times in 100."""
    truth = {"real": 0.0, "real+classical": 0.0, "real+synthetic": 0.03}
    hits = 0
    for repeat in range(600):
        measures, axes = simulated(
            np.random.default_rng(repeat), truth, draws=draws, between=between
        )
        curves, resampling = learning_curves.estimate_curves(measures, axes, draws=400, seed=repeat)
        pairs = learning_curves.contrasts_by_size(curves, resampling, SIZES)
        hits += all(
            one.low <= truth[a] - truth[r] <= one.high
            for of_size in pairs.values()
            for (a, r), one in of_size.items()
        )
    assert hits / 600 >= 0.94, hits
