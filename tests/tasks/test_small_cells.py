"""Small counts of patients are hidden, and no count that is shown gives one away."""

from itertools import product

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.common.cohort_counts import count_cohort
from tasks.common.small_cells import HIDDEN, hide_in_sentence, show_counts
from tasks.release.patient_counts import partition_counts
from tasks.report import cohort_tables, report_page
from tasks.schemas.lift import ArmFigure
from tasks.schemas.metrics import GateMetrics, MembershipFigure, SliceCounts

SMALLEST = 4
LINES = st.lists(st.integers(0, 9), min_size=2, max_size=3)


def gate(members: int = 0, others: int = 0) -> GateMetrics:
    """The figures of a fold with two attacks on so many patients; without any if there are none."""
    attack = MembershipFigure(auroc=0.6, ci95=(0.4, 0.8), members=members, non_members=others)
    attacks = {"images": attack, "generator": attack} if members else {}
    images = SliceCounts(n=1, accepted=1, memorised=0)
    return GateMetrics(verdict="accepted", images=images, membership=attacks)


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
    for total, shown in ((10, "10"), (12, HIDDEN), (20, "10")):
        metric = report_page.metric_lift("segment", "dice", arms, n_patients=total, smallest_cell=5)
        assert metric.rows[0][-1] == shown


def test_sentences_say_no_small_number_of_patients() -> None:
    say = "1 training and 12 validation patients, 2 of each are needed (1 more); few: 3 patients"
    assert hide_in_sentence(say, 5) == (
        "fewer than 5 training and 12 validation patients, 2 of each are needed; few: fewer than 5"
        " patients"
    )
    assert hide_in_sentence("dice rests on 9 test patients", 5, [9]) == (
        "dice rests on (not shown) test patients"
    )
    for other in ("7 of 9 images, 3 tumours", "at least 4 validation patients are needed"):
        assert hide_in_sentence(other, 5) == other


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
