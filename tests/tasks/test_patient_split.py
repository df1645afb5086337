"""The split of patients itself: fractions, strata, draws, and who may never train."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.slices.patient_split import evenly_spaced_share, split_patients, systematic_sample
from tasks.stage.errors import InputError


def cohort(n: int, sites: str = "AB") -> pd.DataFrame:
    """Patients that all show tumours, and slices without."""
    return pd.DataFrame(
        {
            "subject": [f"s{i:03d}" for i in range(n)],
            "site": [sites[i % len(sites)] for i in range(n)],
            "tumor": True,
            "clear": True,
            "synthetic": False,
            "held_out": False,
        }
    )


def split(patients: pd.DataFrame, **changes: Any) -> dict[str, dict[str, str]]:
    options = {
        "folds": ["0"], "val_fraction": 0.13, "test_fraction": 0.48, "train_patients": 0,
        "draw": 0, "seed": 3,
    }  # fmt: skip
    return split_patients(patients, **(options | changes))


def members(side_of: dict[str, str], *sides: str) -> set[str]:
    return {subject for subject, side in side_of.items() if side in sides}


@settings(max_examples=60, deadline=None)
@given(st.integers(6, 60), st.floats(0.1, 0.4), st.floats(0.1, 0.4), st.integers(0, 99))
def test_a_split_keeps_its_fractions_and_strata(n: int, val: float, test: float, seed: int) -> None:
    patients = cohort(n)
    sides = split(patients, val_fraction=val, test_fraction=test, seed=seed)
    names = pd.Series(sides["0"])
    for side, fraction in (("val", val), ("test", test)):
        assert abs((names == side).sum() - fraction * n) <= 1.5
        by_site = names[names == side].index.map(patients.set_index("subject")["site"])
        counts = pd.Series(by_site).value_counts().reindex(["A", "B"], fill_value=0)
        assert abs(counts["A"] - counts["B"]) <= 2


@given(st.integers(2, 200), st.floats(0.01, 0.99))
def test_systematic_sampling_never_takes_nobody_or_everybody(n: int, fraction: float) -> None:
    chosen = evenly_spaced_share(n, fraction, start=0.5)
    assert 0 < chosen.sum() < n
    assert abs(chosen.sum() - n * fraction) <= 1


@given(st.integers(1, 300), st.data())
def test_an_exact_systematic_sample_has_its_size_wherever_it_starts(
    n: int, data: st.DataObject
) -> None:
    count, start = data.draw(st.integers(0, n)), data.draw(st.integers(0, n - 1))
    assert systematic_sample(n, count, start).sum() == count


@pytest.mark.parametrize(("count", "val"), [(5, 1), (10, 2), (20, 5), (40, 10)])
def test_few_patients_are_drawn_in_the_shares_of_the_whole(count: int, val: int) -> None:
    """77 patients: 37 to test, 30 to train, 10 to validate."""
    side_of = split(cohort(77, "ABCD"), train_patients=count)["0"]
    counts = pd.Series(side_of).value_counts()
    assert counts["test"] == 37
    assert counts["val"] == val
    assert counts["train"] == count - val
    assert counts.get("unused", 0) == 40 - count


def test_test_patients_hang_on_neither_number_nor_draw() -> None:
    patients = cohort(77, "ABCD")
    tested = {
        frozenset(members(split(patients, train_patients=n, draw=draw)["0"], "test"))
        for n in (0, 5, 10, 20)
        for draw in range(5)
    }
    assert len(tested) == 1


def test_draws_are_spread_over_sites_and_independent_of_each_other() -> None:
    patients = cohort(77, "ABCD")
    site_of = patients.set_index("subject")["site"]
    draws = [
        members(split(patients, train_patients=10, draw=draw)["0"], "train", "val")
        for draw in range(40)
    ]
    for drawn in draws:
        assert pd.Series([site_of[s] for s in drawn]).value_counts().between(2, 3).all()
    # Of 40 patients in the pool, 10 drawn twice have 2.5 in common on average.
    shared = [len(a & b) for i, a in enumerate(draws) for b in draws[:i]]
    assert np.mean(shared) == pytest.approx(2.5, abs=0.3)
    assert not any(
        members(split(patients, train_patients=5, draw=draw)["0"], "train", "val") <= draws[draw]
        for draw in range(5)
    )
    counts = pd.Series([s for drawn in draws for s in drawn]).value_counts()
    assert len(counts) == 40  # everybody has a chance


def test_a_draw_has_tumours_and_slices_without_on_both_sides() -> None:
    """As in class folders: who has a tumour has no slice without."""
    patients = cohort(60)
    patients["tumor"] = np.arange(60) % 3 == 0
    patients["clear"] = ~patients["tumor"]
    for draw in range(10):
        side_of = split(patients, val_fraction=0.2, train_patients=10, draw=draw)["0"]
        for side in ("train", "val"):
            inside = patients["subject"].isin(members(side_of, side))
            assert patients.loc[inside, "tumor"].nunique() == 2


def test_nobody_is_drawn_from_among_the_test_patients_of_a_fold() -> None:
    folds = split(cohort(30), folds=["a", "b", "c"], val_fraction=0.2, train_patients=6)
    for side_of in folds.values():
        assert len(members(side_of, "test")) == 10
        assert len(members(side_of, "train", "val")) == 6
    assert len(set().union(*(members(side_of, "test") for side_of in folds.values()))) == 30


def test_synthetic_patients_do_not_join_few_drawn_ones() -> None:
    patients = cohort(40)
    patients["synthetic"] = np.arange(40) < 4
    assert members(split(patients)["0"], "train") >= {"s000", "s001"}
    assert members(split(patients, train_patients=6)["0"], "unused") >= {"s000", "s001"}


@pytest.mark.parametrize("count", [1, 41])
def test_more_patients_than_there_are_or_one_alone_are_refused(count: int) -> None:
    with pytest.raises(InputError, match=r"expected 0 \(all\) or 2 to 40"):
        split(cohort(77), train_patients=count)


def test_a_side_that_shows_tumours_only_is_refused() -> None:
    patients = cohort(20)
    patients["clear"] = False
    with pytest.raises(InputError, match="no patient with slices without tumour"):
        split(patients)


def test_unlabelled_patients_come_from_those_left_over_and_change_nobody_else() -> None:
    patients = cohort(60)
    drawn = {"train_patients": 8, "val_fraction": 0.2}
    without = split(patients, **drawn)["0"]
    for count in (1, 7, 23):
        side_of = split(patients, **drawn, unlabelled_patients=count)["0"]
        unlabelled = members(side_of, "unlabelled")
        assert len(unlabelled) == count
        assert unlabelled <= members(without, "unused")
        assert {s: side_of[s] for s in side_of if s not in unlabelled} == {
            s: without[s] for s in without if s not in unlabelled
        }
        sites = pd.Series(sorted(unlabelled)).map(patients.set_index("subject")["site"])
        assert abs((sites == "A").sum() - count / 2) <= 1
    draws = {
        frozenset(
            members(split(patients, **drawn, unlabelled_patients=7, draw=d)["0"], "unlabelled")
        )
        for d in range(4)
    }
    assert len(draws) == 4


def with_scans_without_labels(labelled: int, others: int) -> pd.DataFrame:
    """A cohort, and further patients of whom no slice has a label."""
    patients = cohort(labelled + others)
    outlined = patients.index < labelled
    return patients.assign(tumor=outlined, clear=outlined)


@settings(max_examples=30, deadline=None)
@given(st.integers(6, 30), st.integers(1, 60), st.integers(1, 3))
def test_patients_without_labels_train_and_change_no_other_patients_side(
    labelled: int, others: int, folds: int
) -> None:
    patients = with_scans_without_labels(labelled, others)
    names = [str(fold) for fold in range(folds)]
    alone = split(patients[:labelled], folds=names)
    together = split(patients, folds=names)
    without = patients["subject"][labelled:]
    for fold in names:
        assert {together[fold][subject] for subject in without} == {"train"}
        assert {s: together[fold][s] for s in alone[fold]} == alone[fold]


def test_patients_without_labels_are_no_drawn_ones_and_may_be_those_without_outlines() -> None:
    patients = with_scans_without_labels(20, 30)
    sides = split(patients, train_patients=6, unlabelled_patients=25, test_fraction=0.3)["0"]
    without = set(patients["subject"][20:])
    assert not members(sides, "train", "val", "test") & without
    assert len(members(sides, "unlabelled")) == 25
    assert members(sides, "unlabelled") & without


def test_a_patient_without_labels_in_a_test_batch_never_trains() -> None:
    patients = with_scans_without_labels(10, 2)
    held_out = patients["subject"].isin(["s001", "s011"])
    sides = split(patients.assign(held_out=held_out))["0"]
    assert sides["s011"] == "test" and sides["s010"] == "train"


def test_more_unlabelled_patients_than_are_left_over_are_one_line() -> None:
    with pytest.raises(InputError, match=r"unlabelled_patients is 30; expected 0 to 2\d"):
        split(cohort(60), train_patients=8, unlabelled_patients=30)


@settings(max_examples=30, deadline=None)
@given(st.integers(8, 40), st.integers(2, 60), st.integers(0, 99))
def test_patients_of_test_batches_test_and_nobody_else(n: int, outside: int, seed: int) -> None:
    patients = cohort(n + outside)
    patients["held_out"] = [i >= n for i in range(n + outside)]
    expected = set(patients.loc[patients["held_out"], "subject"])
    for draw in (0, 1):
        sides = split(patients, seed=seed, train_patients=4, unlabelled_patients=1, draw=draw)["0"]
        assert members(sides, "test") == expected
        assert len(members(sides, "train", "val")) == 4
    sides = split(patients, seed=seed, val_fraction=0.25)["0"]
    assert len(members(sides, "train")) > len(members(sides, "val"))  # however many test
