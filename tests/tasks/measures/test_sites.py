"""A generator of one site is told from one of all; sites that look alike accuse nobody."""

import numpy as np
import pandas as pd
import pytest

from tasks.measures.sites import coverage, learn

RNG = np.random.default_rng


def cohort(rng: np.random.Generator, patients: int, gap: float) -> tuple[np.ndarray, pd.DataFrame]:
    """Eight slices a patient, sites in turn, `gap` between their means."""
    site = np.repeat(np.arange(patients) % 2, 8)
    own = np.repeat(rng.normal(0, 0.3, (patients, 6)), 8, axis=0)
    features = rng.normal(size=(len(site), 6)) + own + gap * site[:, None]
    people = [f"p{index // 8}" for index in range(len(site))]
    return features, pd.DataFrame({"subject": people, "site": np.array(["A", "B"])[site]})


def test_shares_are_compared_site_by_site() -> None:
    reference = np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    assert coverage(reference[::-1], reference) == 1
    assert coverage(reference[:2], reference) == 0
    assert coverage(reference[:3], reference) == pytest.approx(1 / 3 / 0.5)
    assert np.isnan(coverage(np.full((3, 2), np.nan), reference))


def test_a_missing_site_is_seen_where_sites_differ_and_not_where_they_are_alike() -> None:
    for gap, low, high in ((1.5, 0, 0.35), (0, 0.7, 1)):
        sites = learn(*cohort(RNG(0), 24, gap))
        assert sites is not None
        unseen, table = cohort(RNG(1), 16, gap)
        made, origin = cohort(RNG(2), 30, gap)
        reference = sites.assign(unseen)
        one_site = sites.assign(made[(origin["site"] == "A").to_numpy()])
        assert low <= coverage(one_site, reference) <= high
        assert coverage(sites.assign(made), reference) > 0.7
        assert len(table) == len(reference)


def test_training_slices_are_assigned_by_folds_without_their_patients() -> None:
    features, table = cohort(RNG(3), 20, 0.0)  # nothing to learn: only patients to remember
    sites = learn(features, table)
    assert sites is not None
    right = sites.train[np.arange(len(table)), (table["site"] == "B").astype(int)]
    assert right.mean() < 0.55
    known = sites.assign(features)[np.arange(len(table)), (table["site"] == "B").astype(int)]
    assert known.mean() > right.mean()


def test_few_patients_or_no_sites_say_nothing() -> None:
    features, table = cohort(RNG(4), 8, 1.0)
    assert learn(features, table) is None
    assert learn(features, table.drop(columns="site")) is None
