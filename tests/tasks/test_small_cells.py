"""Small counts of patients are hidden, and no count that is shown gives one away."""

import time
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.common import small_cells
from tasks.common.cohort_counts import count_cohort
from tasks.common.few_patients import count_tested, hide_few_patients
from tasks.common.gate_requirements import why_no_null_range
from tasks.common.membership_table import membership_rows, membership_sentence
from tasks.common.small_cells import HIDDEN, hide_in_sentence, is_small, show_counts
from tasks.gate import generator_attack, membership
from tasks.gate.measure_catalogue import FRECHET, catalogue
from tasks.gate.measure_functions import missing_sites
from tasks.gate.unmeasured_causes import NO_NULL_RANGE
from tasks.params.gate import Gate
from tasks.release.patient_counts import partition_counts
from tasks.report import cohort_tables, subgroup_tables
from tasks.schemas.lift import ArmFigure, Lift
from tasks.schemas.metrics import GateMetrics, MembershipFigure, SliceCounts, SubgroupRatio
from tests.tasks.small_cells_fixtures import empty_candidate

SMALLEST = 4
LINES = st.lists(st.integers(0, 9), min_size=2, max_size=3)


def gate(members: int = 0, others: int = 0) -> GateMetrics:
    """The figures of a fold with two attacks on so many patients; without any if there are none."""
    attack = MembershipFigure(auroc=0.6, ci95=(0.4, 0.8), members=members, non_members=others)
    attacks = {"images": attack, "generator": attack} if members else {}
    images = SliceCounts(n=1, accepted=1, memorised=0)
    return GateMetrics(verdict="accepted", images=images, membership=attacks)


def cohort_of(
    tumour: tuple[int, ...], without: tuple[int, ...] = (0, 0, 0), site: str = "A"
) -> pd.DataFrame:
    """A row a patient: so many train, validate and test, with tumour and without."""
    rows = [
        (site, label, partition)
        for label, counts in ((1, tumour), (0, without))
        for partition, count in zip(("train", "val", "test"), counts, strict=True)
        for _ in range(count)
    ]
    table = pd.DataFrame(rows, columns=["site", "label", "partition_0"])
    return table.assign(subject=[f"{site}{n}" for n in range(len(table))])


def possible(shown: str, total: int) -> range:
    """The counts that a reader who knows the rule takes for possible."""
    if shown.isdecimal():
        return range(int(shown), int(shown) + 1)
    return range(SMALLEST, total + 1) if shown == HIDDEN else range(1, SMALLEST)


@settings(max_examples=60, deadline=None)
@given(LINES)
def test_whoever_knows_the_total_learns_no_small_count(counts: list[int]) -> None:
    (shown,) = show_counts([counts], SMALLEST)
    assert not any(word.isdecimal() and 0 < int(word) < SMALLEST for word in shown)
    if sum(n > 0 for n in counts) < 2 or sum(counts) < 3 * SMALLEST:
        return  # too little to hide it among: the total is then small itself, or all is hidden
    total = sum(counts)
    solutions = [
        values
        for values in product(*(possible(word, total) for word in shown))
        if sum(values) == total
    ]
    for place, word in enumerate(shown):
        if word == f"<{SMALLEST}" and HIDDEN in shown:
            assert {values[place] for values in solutions} == set(range(1, SMALLEST))


def test_a_table_hides_along_rows_and_columns() -> None:
    shown = show_counts([[20, 2, 9], [30, 8, 12], [40, 10, 15]], 5)
    assert shown[0][1] == "<5"
    assert sum(word == HIDDEN for word in shown[0]) == 1
    hidden = {(r, c) for r in range(3) for c in range(3) if not shown[r][c].isdecimal()}
    for line in range(3):
        assert len([1 for r, _ in hidden if r == line]) != 1
        assert len([1 for _, c in hidden if c == line]) != 1
    assert show_counts([[20, 2, 9]], 1) == [["20", "2", "9"]]


def test_the_patients_of_all_partitions_together_tell_no_few_of_one() -> None:
    partitions = ["train"] * 30 + ["val"] * 10 + ["test"] * 3
    patients = pd.DataFrame(
        {
            "subject": [f"s{n}" for n in range(43)],
            "partition_0": partitions,
            "label": 1,
            "site": "A",
        }
    )
    cohort = count_cohort(patients, {"0": gate()}, 5)
    shown = {row.partition: row for row in partition_counts(cohort, ["0"])}
    assert shown["train"].patients == "30"
    assert shown["val"].patients == HIDDEN  # another fold may tell that they are 43
    assert shown["test"].patients == "<5"
    assert {shown[part].with_tumour for part in ("val", "test")} == {HIDDEN}


def test_the_reports_tables_hide_patients_and_what_is_theirs() -> None:
    subjects = [f"s{n}" for n in range(20)]
    table = pd.DataFrame(
        {
            "subject": subjects,
            "site": ["A"] * 18 + ["B"] * 2,
            "label": [1, 0] * 9 + [-1, -1],
            "partition_0": ["train"] * 10 + ["val"] * 8 + ["test"] * 2,
        }
    )
    cohort = count_cohort(table, {"0": gate()}, 5)
    rows = {row[0]: row[1:] for row in cohort_tables.partition_table(table, "0", cohort, 5).rows}
    assert rows["test"] == ["<5", *[HIDDEN] * 4]
    assert not all(cell.isdecimal() for cell in rows["validation"])  # 20 less 10 less 8
    assert ["B", "0", "0", "<5"] in cohort_tables.site_table("0", cohort).rows
    manifest = pd.DataFrame(
        {
            "subject": subjects[:3], "modality": "T1", "source_format": "dicom",
            "mask_status": "empty",
        }
    )  # fmt: skip
    (row,) = cohort_tables.batch_table({"ward": manifest}, 5).rows
    assert row == ["ward", "<5", *[HIDDEN] * 4]


def test_a_metric_of_most_test_patients_does_not_tell_how_few_are_left_out() -> None:
    arms = {"real": ArmFigure(mean=0.7, ci95=(0.6, 0.8), n_patients=10)}
    cohort = count_cohort(cohort_of(tumour=(30, 10, 10)), {"0": gate()}, 5)
    for total, shown in ((10, "10"), (12, HIDDEN), (20, "10")):
        assert count_tested(arms["real"], total, cohort, 5) == shown


def test_sentences_say_no_small_number_of_patients() -> None:
    say = "1 training and 12 validation patients, 2 of each are needed (1 more); few: 3 patients"
    assert hide_in_sentence(say, 5) == (
        "fewer than 5 training and 12 validation patients, which is too few; few: fewer than 5"
        " patients"
    )
    assert hide_in_sentence("dice rests on 9 test patients", 5, [9]) == (
        "dice rests on (not shown) test patients"
    )
    assert hide_in_sentence("1 validation patient, at least 2 are needed", 5) == (
        "fewer than 5 validation patients, which is too few"
    )


@pytest.mark.parametrize("smallest_cell", [5, 10])
def test_numbers_that_count_no_patients_stay_in_sentences(smallest_cell: int) -> None:
    """The gate's sentences name thresholds, which are the same for every cohort."""
    few = pd.DataFrame({"subject": ["a"]})
    sites = SimpleNamespace(table=few.assign(site="A"), sites=np.zeros((1, 0)))
    sets: Any = SimpleNamespace(train=sites, val=sites)
    groups = catalogue(Gate(seed=1, threads=1), {FRECHET: "0" * 64}, side=64)
    thresholds = [
        NO_NULL_RANGE.why, missing_sites(sets).why,
        why_no_null_range(few, few), generator_attack.METHOD.format(steps=40, per_patient=4),
        membership.METHOD.format(space="pixels"),
        *(method for group in groups for _, method in group.names.values()),
    ]  # fmt: skip
    other = ["7 of 9 images, 3 tumours", "at least 4 validation patients are needed",
             "1.03 in 12 patients", "1,003 patients", "2 seeds of 12 patients"]  # fmt: skip
    for say in [*thresholds, *other]:
        assert say is not None
        assert hide_in_sentence(say, smallest_cell) == say


def test_what_was_synthetic_at_its_source_is_no_patient_of_the_table() -> None:
    table = pd.DataFrame(
        {
            "subject": ["a", "b", "x"], "label": [1, 0, 1],
            "marked_synthetic": [False, False, True],
            "partition_0": "train",
        }
    )  # fmt: skip
    table["site"] = "A"
    cohort = count_cohort(table, {"0": gate()}, 1)
    rows = {row[0]: row[1:] for row in cohort_tables.partition_table(table, "0", cohort, 1).rows}
    assert rows["training"] == ["2", "2", "1", "1", "0"]
    assert rows["synthetic at source, training"] == ["0", "1", "1", "0", "0"]


def test_a_part_of_hidden_patients_has_no_figure_and_no_warning() -> None:
    """18 validate: 8 of site A, 7 of B and 3 of C; the warning would say that they are 7."""
    table = pd.concat(
        [cohort_of((30, n, 20), site=s) for s, n in zip("ABC", (8, 7, 3), strict=True)]
    )
    cohort = count_cohort(table, {"0": gate()}, 5)
    parts = {
        f"site {site}": SubgroupRatio(
            ratio=1.1, n=25, patients=n, warning=f"few: {n} patients, 25 slices"
        )
        for site, n in zip("ABC", (8, 7, 3), strict=True)
    }
    shown = subgroup_tables.gate_subgroups(parts, 5, cohort, "0")
    assert shown is not None
    for name, _, slices, patients, warning in shown.rows:
        if not patients.isdecimal():
            assert slices == HIDDEN and not warning, name
    assert [row[3].isdecimal() for row in shown.rows] == [True, False, False]


def test_no_metric_tells_how_many_test_patients_have_a_tumour() -> None:
    """45 have one, 30 train, 3 validate: that Dice rests on 12 would tell the 3."""
    table = cohort_of((30, 3, 12), (30, 20, 20))
    cohort = count_cohort(table, {"0": gate()}, 5)
    assert cohort.of_kind("0", "val", "tumour") == "<5"
    assert cohort.of_kind("0", "test", "tumour") == HIDDEN
    figure = ArmFigure(mean=0.7, n_patients=12)
    assert count_tested(figure, 32, cohort, 5) == HIDDEN
    lift = Lift(
        claim={"segment": "not measured"}, tasks={"segment": {"dice": {"real": figure}}},
        reasons={"segment": ["dice rests on 12 test patients, and lift.min_patients asks for 20"]},
        primary={"segment": "dice"}, contrasts={}, n_patients=32, n_seeds=2, method="",
    )  # fmt: skip
    _, hidden = hide_few_patients(empty_candidate(), lift, cohort, 5)
    assert hidden.reasons["segment"][0].startswith("dice rests on (not shown) test patients")
    assert hidden.n_patients == 32


def test_an_attack_of_hidden_patients_looks_the_same_whoever_is_few() -> None:
    """30 train and 12 test: an attack on 30 and 4, beside one on 28 and 6 of the same 30."""
    looks = set()
    for members, others, validating in ((30, 4, 7), (28, 6, 6)):
        gates = {"0": gate(members, others)}
        cohort = count_cohort(cohort_of((30, validating, 12)), gates, 5)
        for row in membership_rows(gates, cohort):
            assert row[5:7] == [HIDDEN, HIDDEN]
            looks.add((row[2], row[3], row[7]))
        looks.add(membership_sentence("0", gates, cohort))
    assert len(looks) == 2
    assert not any(mark.isdigit() for look in looks for text in look for mark in text)


def test_batches_are_hidden_where_a_partition_is() -> None:
    """30 train, 3 validate; the batch of the 12 who test leaves 33 to the other."""
    manifests = {
        name: pd.DataFrame(
            {"subject": [f"{name}{n}" for n in range(count)], "modality": "T1",
             "source_format": "dicom", "mask_status": "empty"}
        )
        for name, count in (("main", 33), ("ward", 12))
    }  # fmt: skip
    for validating, hidden in ((3, True), (8, False)):
        cohort = count_cohort(cohort_of((30, validating, 12)), {"0": gate()}, 5)
        table = cohort_tables.batch_table(manifests, 5, cohort)
        assert [row[1] == HIDDEN for row in table.rows] == [hidden] * 2


def test_all_is_hidden_where_the_search_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = [[30, 3, 12], [30, 20, 20], [9, 8, 40]]
    assert any(text.isdecimal() for row in show_counts(counts, 5) for text in row)
    monkeypatch.setattr(small_cells, "ALL_SECONDS", -1)
    assert {text for row in show_counts(counts, 5) for text in row} == {HIDDEN}
    monkeypatch.setattr(small_cells, "ALL_SECONDS", 60)
    monkeypatch.setattr(small_cells, "SECONDS", 0)  # for a program
    assert {text for row in show_counts(counts, 5) for text in row} == {HIDDEN}


@pytest.mark.verify
def test_sixty_sites_in_five_folds_are_counted_within_a_minute() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "subject": [f"s{n}" for n in range(1000)],
            "site": rng.choice([f"site {n}" for n in range(60)], 1000),
            "label": rng.integers(0, 2, 1000),
        }
        | {f"partition_{f}": rng.choice(["train", "val", "test"], 1000) for f in range(5)}
    )
    start = time.monotonic()
    cohort = count_cohort(table, {str(fold): gate() for fold in range(5)}, 5)
    assert time.monotonic() - start < 60
    assert sum(text.isdecimal() for text in cohort.texts.values()) > 100  # found in time
    assert all(not is_small(int(t), 5) for t in cohort.texts.values() if t.isdecimal())
