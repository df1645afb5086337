"""The arithmetic under the lift: measures, resampling, intervals, claims."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, t
from sklearn.metrics import accuracy_score, roc_auc_score
from torchmetrics.functional.classification import binary_calibration_error

from tasks.lift.bootstrap import (
    Estimate,
    Resampling,
    estimate_metric,
    sign_flip_test,
    simultaneous_differences,
)
from tasks.lift.claim import claim_contrasts, contrasts_with_real, decide_claim
from tasks.lift.patient_metrics import MeanMetric, RunPatientAxes, classification_metrics
from tests.tasks import lift_fixtures


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 9))
def test_measures_at_equal_weights_are_scikit_learns_and_torchmetrics(seed, patients):
    rng = np.random.default_rng(seed)
    table = lift_fixtures.classify_arm(lift_fixtures.subjects(patients), rng, shift=1.0, seeds=(0,))
    table["probability"] = table["probability"].round(1)  # ties
    metrics = classification_metrics(table, RunPatientAxes.from_table(table))
    unit = np.ones((1, patients))
    auroc, accuracy, ece = (
        np.divide(*(part.sum() for part in metrics[name].weighted_sums(unit)))
        for name in ("auroc", "accuracy", "ece")
    )
    assert auroc == pytest.approx(roc_auc_score(table["label"], table["probability"]))
    assert accuracy == pytest.approx(accuracy_score(table["label"], table["probability"] >= 0.5))
    given = (torch.tensor(table[name].to_numpy()) for name in ("probability", "label"))
    assert ece == pytest.approx(float(binary_calibration_error(*given, n_bins=15)), abs=1e-6)


def test_auroc_of_a_resample_is_that_of_the_copied_rows():
    rng = np.random.default_rng(5)
    names = lift_fixtures.subjects(5)
    table = lift_fixtures.classify_arm(names, rng, shift=1.0, seeds=(0,))
    weights = np.array([[2.0, 0, 1, 0, 2]])
    copied = pd.concat([table[table["subject"] == n] for n, w in zip(names, weights[0], strict=True)
                        for _ in range(int(w))])  # fmt: skip
    top, bottom = classification_metrics(table, RunPatientAxes.from_table(table))[
        "auroc"
    ].weighted_sums(weights)
    assert top.sum() / bottom.sum() == pytest.approx(
        roc_auc_score(copied["label"], copied["probability"])
    )


def estimates(replicates: np.ndarray, values: np.ndarray) -> dict[str, Estimate]:
    """Arms with given replicates (A,B) and no spread between runs."""
    none = np.zeros(1)
    return {
        f"arm{k}": Estimate(float(v), row, np.zeros(len(row)), none, none[None], 9999, 0)
        for k, (row, v) in enumerate(zip(replicates, values, strict=True))
    }


ONE_RUN = Resampling(np.ones((1, 1)), np.zeros((1, 1)), np.ones((1, 1)), 0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(-0.2, 0.2))
def test_interval_excludes_zero_just_where_p_is_at_most_5_percent(seed, shift):
    values = 0.5 + shift * np.arange(4)
    noise = 0.05 * np.random.default_rng(seed).normal(size=(4, 400))
    arms = estimates(values[:, None] + noise, values)
    differences = simultaneous_differences(arms, [(f"arm{k}", "arm0") for k in (1, 2, 3)], ONE_RUN)
    for one in differences.values():
        assert (one.low > 0 or one.high < 0) == (one.p_adjusted <= 0.05)


def test_a_longer_family_makes_wider_intervals():
    replicates = np.random.default_rng(0).normal(size=(9, 2000))
    replicates[0] = 0
    arms = estimates(replicates, np.zeros(9))
    pairs = [(f"arm{k}", "arm0") for k in range(1, 9)]
    alone = simultaneous_differences(arms, pairs[:1], ONE_RUN)[pairs[0]]
    among = simultaneous_differences(arms, pairs, ONE_RUN)[pairs[0]]
    assert alone.high == pytest.approx(1.96, abs=0.1)
    assert among.high == pytest.approx(2.73, abs=0.15)  # Šidák over 8: 2.73


def test_claims_want_every_rival_beaten():
    arms = ["real", "real+classical", "real+synthetic"]
    assert contrasts_with_real(arms) == [("real+classical", "real"), ("real+synthetic", "real")]
    assert claim_contrasts(arms) == [
        ("real+synthetic", "real"),
        ("real+synthetic", "real+classical"),
    ]
    assert decide_claim(["real"], {}) == "not measured"
    assert decide_claim(["real", "synthetic"], {}) == "not measured"


def test_sign_flips_of_four_patients_are_counted_exactly():
    gains = np.array([[0.1, 0.2, 0.3, 0.4]])
    ones = np.ones((1, 4))
    p = sign_flip_test(MeanMetric(gains, ones), MeanMetric(np.zeros((1, 4)), ones), seed=0)
    assert p == pytest.approx(2 / 16)  # all up or all down, of 2^4 ways
    assert sign_flip_test(MeanMetric(gains, ones), MeanMetric(gains, ones), seed=0) == 1.0


def test_a_study_finds_a_lift_of_the_detectable_size_four_times_in_five():
    found, size, patients = 0, 0.0, 30
    axes, ones = (
        RunPatientAxes([("0", 0)], lift_fixtures.subjects(patients)),
        np.ones((1, patients)),
    )
    for repeat in range(80):
        rng = np.random.default_rng(repeat)
        resampling = Resampling.sample_weights(axes, replicates=400, seed=repeat)
        noise = 0.1 * rng.normal(size=(1, patients))
        for step, lift in enumerate((0.0, size)):
            arms = {
                name: estimate_metric(MeanMetric(gain + noise * (name == "arm"), ones), resampling)
                for name, gain in (("arm", lift), ("real", 0.0))
            }
            one = simultaneous_differences(arms, [("arm", "real")], resampling)["arm", "real"]
            size = one.detectable if step == 0 else size
        found += one.low > 0
    assert 0.65 <= found / 80 <= 0.92


@pytest.mark.parametrize("patients", [6, 9, 20])
def test_an_arms_own_interval_is_students_where_networks_agree(patients):
    """Mean and t quantile times s / sqrt(n), to within what a bootstrap differs from it."""
    axes = RunPatientAxes([("0", seed) for seed in range(3)], lift_fixtures.subjects(patients))
    value = 0.5 + 0.1 * norm.ppf((np.arange(patients) + 0.5) / patients)
    estimate = estimate_metric(MeanMetric(np.tile(value, (3, 1)), np.ones((3, patients))),
                     Resampling.sample_weights(axes, replicates=20_000, seed=1))  # fmt: skip
    low, high = estimate.interval(limit=1, seed=2)
    half = t.ppf(0.975, patients - 1) * value.std(ddof=1) / np.sqrt(patients)
    assert (low + high) / 2 == pytest.approx(0.5, abs=0.003)
    assert (high - low) / 2 == pytest.approx(half, rel=0.06)


def test_one_network_has_no_interval_of_its_own():
    axes = RunPatientAxes([("0", 0)], lift_fixtures.subjects(9))
    value = np.random.default_rng(0).uniform(0.3, 0.6, (1, 9))
    estimate = estimate_metric(
        MeanMetric(value, np.ones((1, 9))), Resampling.sample_weights(axes, replicates=100, seed=1)
    )
    assert estimate.interval(limit=1, seed=2) is None


def test_auroc_of_few_tumour_patients_is_defined_in_every_draw():
    rng = np.random.default_rng(1)
    table = lift_fixtures.classify_arm(lift_fixtures.subjects(12), rng, shift=1.0)
    table = table[(table["label"] == 0) | table["subject"].isin(lift_fixtures.subjects(2))]
    axes = RunPatientAxes.from_table(table)
    auroc = classification_metrics(table, axes)["auroc"]
    estimate = estimate_metric(auroc, Resampling.sample_weights(axes, replicates=2000, seed=1))
    assert np.isfinite(estimate.replicates).all() and estimate.n_patients == 2


def covered(
    repeats: int, patients: int, runs: int, between_runs: float = 0.02, arms: int = 5
) -> float:
    """Share of simulated experiments whose interval of one contrast holds the true lift."""
    truth, hits = 0.03, 0
    axes = RunPatientAxes([("0", seed) for seed in range(runs)], lift_fixtures.subjects(patients))
    ones = np.ones((runs, patients))
    for repeat in range(repeats):
        rng = np.random.default_rng(repeat)
        level = rng.normal(0.6, 0.15, patients)
        gain = rng.normal(truth, 0.05, patients)
        resampling = Resampling.sample_weights(axes, replicates=400, seed=repeat)
        found = {}
        for arm in range(arms):
            noise = 0.08 * rng.normal(size=(runs, patients))
            noise += between_runs * rng.normal(size=(runs, 1))
            found[f"arm{arm}"] = estimate_metric(
                MeanMetric(level + gain * (arm == 1) + noise, ones), resampling
            )
        one = simultaneous_differences(found, [("arm1", "arm0")], resampling)["arm1", "arm0"]
        hits += one.low <= truth <= one.high
    return hits / repeats


def test_interval_holds_the_truth_about_as_often_as_it_says():
    assert covered(120, patients=20, runs=2) >= 0.9


@pytest.mark.verify
@pytest.mark.parametrize(
    ("patients", "runs", "between_runs", "arms"),
    [(9, 2, 0.02, 5), (20, 2, 0.0, 5), (20, 2, 0.04, 5), (20, 2, 0.04, 2), (40, 3, 0.04, 5)],
)
def test_interval_covers_the_truth_over_many_simulations(patients, runs, between_runs, arms):
    assert covered(1500, patients, runs, between_runs, arms) >= 0.94
