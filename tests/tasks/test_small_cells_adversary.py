"""Who knows all totals and sees all tables of card and report cannot compute a small count.

The adversary here shares no code with the tables. Unknown is how many patients there are of each
combination of site, kind, partition in both folds, and whether an attack took them in. What is
shown and what is known are sums of these, and an integer program finds the least and the greatest
value of each small count.
"""

import re
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from tasks.common.cohort_counts import CohortCounts, count_cohort
from tasks.common.few_patients import count_tested, hide_few_patients
from tasks.common.membership_table import HEADS, membership_rows
from tasks.release.patient_counts import partition_counts
from tasks.report.cohort_tables import partition_table, site_table
from tasks.report.subgroup_tables import gate_subgroups
from tasks.schemas.lift import ArmFigure, Lift
from tasks.schemas.metrics import GateMetrics, MembershipFigure, SliceCounts, SubgroupRatio
from tests.tasks.small_cells_fixtures import empty_candidate

SMALLEST = 4
SITES, KINDS, FOLDS = ("A", "B"), ("tumour", "unknown", "without"), ("0", "1")
PARTITIONS = ("train", "val", "test", "unused")
WORDS = dict(zip(("training", "validation", "test"), PARTITIONS, strict=False))
# A patient: site, kind, partition in both folds, whether the generator was shown their slices.
CELLS = list(product(SITES, KINDS, PARTITIONS, PARTITIONS, (True, False)))
COMMON = ("train", "train", "train", "val", "test", "unused")
PATIENTS = st.lists(
    st.tuples(
        st.sampled_from("AAAB"), st.sampled_from(KINDS), st.sampled_from(COMMON),
        st.sampled_from(COMMON), st.sampled_from((True, True, True, True, True, False)),
    ),
    min_size=6, max_size=60,
)  # fmt: skip
Patients = list[tuple[str, str, str, str, bool]]
Question = dict[str, Any]  # which patients: site, kind, shown, and partition by fold


def chosen(**question: Any) -> np.ndarray:
    """Which cells a question is about (0 or 1)."""
    names = ("site", "kind", "0", "1", "shown")
    return np.array(
        [all(dict(zip(names, cell, strict=True))[n] == v for n, v in question.items())
         for cell in CELLS],
        dtype=float,
    )  # fmt: skip


def shown_tables(patients: Patients) -> list[tuple[Question, str]]:
    """All counts of patients that card and report show, each with what it counts."""
    labels = {"tumour": (1, 0), "unknown": (-1, 0), "without": (0, 0)}
    table = pd.DataFrame(
        [
            {"subject": f"s{n}", "site": site, "label": label, "partition_0": a, "partition_1": b}
            for n, (site, kind, a, b, _) in enumerate(patients)
            for label in labels[kind]
        ]
    )
    gates = {}
    for fold, place in (("0", 2), ("1", 3)):
        taken = [p[place] for p in patients if p[4]]
        members, others = taken.count("train"), taken.count("val")
        few = min(members, others) < 2
        attack = MembershipFigure(
            auroc=None if few else 0.6, ci95=None if few else (0.4, 0.8),
            members=members, non_members=others,
            not_measured=f"{members} training and {others} validation patients" if few else None,
        )  # fmt: skip
        images = SliceCounts(n=1, accepted=1, memorised=0)
        gates[fold] = GateMetrics(verdict="accepted", images=images, membership={"images": attack})
    cohort = count_cohort(table, gates, SMALLEST)
    found: list[tuple[Question, str]] = []
    for row in partition_counts(cohort, list(FOLDS)):
        about = {row.fold: row.partition}
        found += [(about, row.patients), (about | {"kind": "tumour"}, row.with_tumour),
                  (about | {"kind": "unknown"}, row.unknown)]  # fmt: skip
    for fold in FOLDS:
        for word, count, *_ in partition_table(table, fold, cohort, SMALLEST).rows:
            found.append(({fold: WORDS.get(word, "unused")}, count))
        for site, *counts in site_table(fold, cohort).rows:
            found += [({"site": site, fold: part}, count)
                      for part, count in zip(PARTITIONS, counts, strict=False)]  # fmt: skip
    for texts in membership_rows(gates, cohort):
        values = dict(zip(HEADS, texts, strict=True))
        own = values["training patients"], values["validation patients"]
        found += [({values["fold"]: part, "shown": True}, count)
                  for part, count in zip(PARTITIONS, own, strict=False)]  # fmt: skip
        if not all(count.isdecimal() for count in own):  # these tell of few patients
            assert {values[head] for head in ("AUROC", "95 % interval", "finding")} == {"not shown"}
    found += shown_parts(patients, cohort) + shown_tested(patients, cohort)
    return found


def shown_parts(patients: Patients, cohort: CohortCounts) -> list[tuple[Question, str]]:
    """Parts of the gate's set: the fewer patients of training and validation, also in words."""
    found: list[tuple[Question, str]] = []
    for fold, place in (("0", 2), ("1", 3)):
        about: dict[str, Question] = {f"site {site}": {"site": site} for site in SITES}
        about |= {"label 1": {"kind": "tumour"}}
        parts, fewer = {}, {}
        for name, question in about.items():
            theirs = [p for p in patients if p[0] == question.get("site", p[0])
                      and p[1] == question.get("kind", p[1])]  # fmt: skip
            counts = {part: [p[place] for p in theirs].count(part) for part in ("train", "val")}
            fewer[name] = min(counts, key=lambda part, counts=counts: counts[part])
            least = counts[fewer[name]]
            parts[name] = SubgroupRatio(
                ratio=1.1 if least > 1 else None, n=25, patients=least,
                warning=f"few: {least} patients, 25 slices",
            )  # fmt: skip
        table = gate_subgroups(parts, SMALLEST, cohort, fold)
        assert table is not None
        for name, ratio, slices, count, warning in table.rows:
            found.append((about[name] | {fold: fewer[name]}, count))
            if not count.isdecimal():
                assert (ratio, slices, warning) == ("not shown", "not shown", "")
    return found


def shown_tested(patients: Patients, cohort: CohortCounts) -> list[tuple[Question, str]]:
    """Test patients with tumour, on whom Dice rests, in the report's table and in a sentence."""
    tested = [p for p in patients if p[2] == "test"]
    count = [p[1] for p in tested].count("tumour")
    lift = Lift(
        claim={"segment": "not measured"}, primary={"segment": "dice"}, contrasts={}, method="",
        tasks={"segment": {"dice": {"real": ArmFigure(n_patients=count)}}},
        reasons={"segment": [f"dice rests on {count} test patients"]},
        n_patients=len(tested), n_seeds=2,
    )  # fmt: skip
    _, hidden = hide_few_patients(empty_candidate(), lift, cohort, SMALLEST)
    text = count_tested(
        hidden.tasks["segment"]["dice"]["real"], hidden.n_patients, cohort, SMALLEST
    )
    (said,) = re.findall(r"rests on (.*) test patients", hidden.reasons["segment"][0])
    if not text.isdecimal():
        assert said in (f"fewer than {SMALLEST}", "(not shown)")
    every = str(hidden.n_patients) if hidden.n_patients else "not shown"
    return [({"0": "test", "kind": "tumour"}, text), ({"0": "test"}, every)]


def known_totals(truth: np.ndarray) -> list[tuple[Question, int]]:
    """The totals that the adversary knows: none that is small, or that would tell a small one."""
    questions: list[Question] = [{"site": site} for site in SITES]
    totals = [({}, int(truth.sum())), *((q, round(chosen(**q) @ truth)) for q in questions)]
    if any(0 < n < SMALLEST for _, n in totals):
        del totals[1:]
    return totals if truth.sum() >= SMALLEST else []


def told(truth: np.ndarray, shown: list[tuple[Question, str]]) -> list[Question]:
    """The small counts among those shown that have one possible value only."""
    rows, low, high = [], [], []
    for question, total in known_totals(truth):
        rows.append(chosen(**question))
        low.append(total)
        high.append(total)
    for question, text in shown:
        rows.append(chosen(**question))
        number = int(text) if text.isdecimal() else None
        least, most = (1, SMALLEST - 1) if text.startswith("<") else (0, len(truth) + truth.sum())
        low.append(least if number is None else number)
        high.append(most if number is None else number)
    possible = LinearConstraint(np.array(rows), low, high)
    small = [q for q, _ in shown if 0 < chosen(**q) @ truth < SMALLEST]
    seen = {number: {round(chosen(**q) @ truth)} for number, q in enumerate(small)}
    for number, question in enumerate(small):
        for sign in (1, -1):
            if len(seen[number]) > 1:
                break
            solution = milp(
                sign * chosen(**question), constraints=possible, integrality=np.ones(len(truth)),
                bounds=Bounds(0, truth.sum()),
            )  # fmt: skip
            for other, asked in enumerate(small):
                seen[other].add(round(chosen(**asked) @ solution.x))
    return [small[number] for number, values in seen.items() if len(values) == 1]


def check(patients: Patients) -> None:
    truth = np.array([patients.count(cell) for cell in CELLS], dtype=float)
    shown = shown_tables(patients)
    for question, text in shown:
        count = round(chosen(**question) @ truth)
        assert text in (str(count), "not shown", f"<{SMALLEST}"), (question, text, count)
        assert not (text.isdecimal() and 0 < count < SMALLEST)
    assert not told(truth, shown), shown


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(PATIENTS)
def test_no_small_count_can_be_computed_from_all_tables_and_totals(patients: Patients) -> None:
    check(patients)


@pytest.mark.verify
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(PATIENTS)
def test_no_small_count_can_be_computed_in_many_cohorts(patients: Patients) -> None:
    check(patients)


def test_the_adversary_finds_what_tables_hide_one_by_one() -> None:
    """Fold 0 hides row by row, fold 1 tells the total: 43 - 30 - 10 patients test."""
    patients = [("A", "tumour", "train", "train", True)] * 30
    patients += [("A", "tumour", "val", "train", True)] * 10
    patients += [("A", "tumour", "test", "train", True)] * 3
    truth = np.array([patients.count(cell) for cell in CELLS], dtype=float)
    naive = [({"0": "train"}, "30"), ({"0": "val"}, "10"), ({"0": "test"}, f"<{SMALLEST}")]
    whole = [*naive, ({"1": "train"}, "43"), ({"0": "unused"}, "0")]
    assert told(truth, whole) == [{"0": "test"}]
    assert told(truth, [*whole[:1], ({"0": "val"}, "not shown"), *whole[2:]]) == []
    check(patients)
