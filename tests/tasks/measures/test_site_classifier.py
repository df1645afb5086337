"""A generator of one site is told from one of all; sites that look alike accuse nobody."""

import numpy as np
import pandas as pd
import pytest

from tasks.measures.anatomy.site_classifier import (
    confusion,
    coverage,
    site_shares,
    train_site_classifier,
)

RNG = np.random.default_rng


def cohort(rng: np.random.Generator, patients: int, gap: float) -> tuple[np.ndarray, pd.DataFrame]:
    """Eight slices a patient, sites in turn, `gap` between their means."""
    site = np.repeat(np.arange(patients) % 2, 8)
    own = np.repeat(rng.normal(0, 0.3, (patients, 6)), 8, axis=0)
    features = rng.normal(size=(len(site), 6)) + own + gap * site[:, None]
    people = [f"p{index // 8}" for index in range(len(site))]
    return features, pd.DataFrame({"subject": people, "site": np.array(["A", "B"])[site]})


NAMES = ["A", "B"]
EVEN = np.array([0.5, 0.5])


def test_shares_are_compared_site_by_site() -> None:
    found = np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    errors = confusion(found, NAMES, pd.Series(["A", "A", "B", "B"]))
    np.testing.assert_array_equal(errors, np.eye(2))
    assert coverage(found, errors, EVEN) == pytest.approx(1)
    assert coverage(found[:2], errors, EVEN) < 0.02
    assert coverage(found[:3], errors, EVEN) == pytest.approx(1 / 3 / 0.5, abs=0.01)
    assert coverage(found[:3], errors, np.array([2 / 3, 1 / 3])) == pytest.approx(1)
    assert np.isnan(coverage(np.full((3, 2), np.nan), errors, EVEN))
    lone = confusion(found, NAMES, pd.Series(["A"] * 4))
    assert np.isnan(coverage(found, lone, EVEN))


def test_the_classifiers_errors_are_taken_out() -> None:
    errors = np.array([[0.7, 0.3], [0.4, 0.6]])
    for share in (0.1, 0.3, 0.5):
        found = np.tile(share * errors[0] + (1 - share) * errors[1], (20, 1))
        assert coverage(found, errors, EVEN) == pytest.approx(share / 0.5, abs=0.25)
    assert coverage(found, np.full((2, 2), 0.5), EVEN) == pytest.approx(1)  # nothing to tell by


def test_a_missing_site_is_seen_where_sites_differ_and_not_where_they_are_alike() -> None:
    for gap, low, high in ((1.5, 0, 0.35), (0, 0.7, 1)):
        unseen, table = cohort(RNG(1), 16, gap)
        sites = train_site_classifier(*cohort(RNG(0), 24, gap), table)
        assert sites is not None
        made, origin = cohort(RNG(2), 30, gap)
        errors = confusion(sites.assign(unseen), NAMES, table["site"])
        expected = site_shares(NAMES, table["site"])
        one_site = sites.assign(made[(origin["site"] == "A").to_numpy()])
        assert low <= coverage(one_site, errors, expected) <= high
        assert coverage(sites.assign(made), errors, expected) > 0.7


def test_training_slices_are_assigned_by_folds_without_their_patients() -> None:
    features, table = cohort(RNG(3), 20, 0.0)  # nothing to learn: only patients to remember
    sites = train_site_classifier(features, table, table)
    assert sites is not None
    right = sites.train[np.arange(len(table)), (table["site"] == "B").astype(int)]
    assert right.mean() < 0.55
    known = sites.assign(features)[np.arange(len(table)), (table["site"] == "B").astype(int)]
    assert known.mean() > right.mean()


def test_few_patients_or_no_sites_say_nothing() -> None:
    features, table = cohort(RNG(4), 8, 1.0)
    enough = cohort(RNG(5), 20, 1.0)[1]
    assert train_site_classifier(features, table, enough) is None
    assert train_site_classifier(features, table.drop(columns="site"), enough) is None
    assert train_site_classifier(*cohort(RNG(4), 20, 1.0), table.drop(columns="site")) is None


@pytest.mark.parametrize(("training", "unseen"), [(4, 8), (8, 3)])
def test_a_site_too_small_to_be_measured_is_held_against_no_generator(
    training: int, unseen: int
) -> None:
    """A perfect generator of sites A and B that never shows C, of which there are few patients."""

    def with_small_site(rng: np.random.Generator, count: int) -> tuple[np.ndarray, pd.DataFrame]:
        features, table = cohort(rng, 20, 2.0)
        small, small_table = cohort(rng, count, 0.0)
        small_table = small_table.assign(site="C", subject="c" + small_table["subject"])
        return np.concatenate([features, small - 4]), pd.concat([table, small_table])

    learnt, table = with_small_site(RNG(6), training)
    other, unseen_table = with_small_site(RNG(7), unseen)
    sites = train_site_classifier(learnt, table, unseen_table)
    assert sites is not None and sites.names == NAMES
    errors = confusion(sites.assign(other), NAMES, unseen_table["site"])
    made, _ = cohort(RNG(8), 30, 2.0)
    assert coverage(sites.assign(made), errors, site_shares(NAMES, table["site"])) > 0.8
    held = train_site_classifier(*with_small_site(RNG(6), 8), with_small_site(RNG(7), 8)[1])
    assert held is not None and held.names == ["A", "B", "C"]
