"""Figures of a reader study against textbooks, scipy, and cases that can be counted by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from tasks.commands.review import reader_statistics as statistics
from tasks.schemas.review import Origin, Rating

# Fleiss 1971 as in the textbooks: 10 subjects, 14 raters, 5 kinds; how many raters said which.
FLEISS_TABLE = [
    [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
]  # fmt: skip


@given(st.integers(1, 200), st.data())
@settings(max_examples=50)
def test_the_exact_interval_is_that_of_scipy(n: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, n))
    expected = binomtest(correct, n).proportion_ci(0.95, method="exact")
    assert statistics.exact_interval(correct, n) == pytest.approx((expected.low, expected.high))


def test_fleiss_kappa_of_the_textbook() -> None:
    ratings = pd.DataFrame(
        [[kind for kind, count in enumerate(row) for _ in range(count)] for row in FLEISS_TABLE]
    )
    assert statistics.fleiss_of(ratings, kinds=5) == pytest.approx(0.210, abs=0.0005)


def test_cohens_kappa_of_the_textbook() -> None:
    # 50 proposals: both yes 20, both no 15, only the first yes 5, only the second yes 10.
    first = pd.Series([1] * 20 + [1] * 5 + [0] * 10 + [0] * 15)
    second = pd.Series([1] * 20 + [0] * 5 + [1] * 10 + [0] * 15)
    assert statistics.cohen(first, second, labels=[0, 1]) == pytest.approx(0.4)


def test_readers_who_all_say_the_same_have_no_kappa() -> None:
    same = pd.Series([1, 1, 1])
    assert statistics.cohen(same, same, labels=[0, 1]) is None
    assert statistics.fleiss_of(pd.DataFrame({"a": same, "b": same})) is None


def test_two_readers_with_the_same_answers_are_worth_one() -> None:
    correct = np.tile([True, True, False, True], 20)
    share = statistics.clustered_share(correct, np.arange(80).astype(str))
    both = statistics.clustered_share(np.tile(correct, 2), np.tile(np.arange(80), 2).astype(str))
    assert share.ci95 is not None and both.ci95 is not None
    assert both.ci95 == pytest.approx(share.ci95, abs=0.003)
    exact = statistics.exact_share(correct)
    assert exact.ci95 is not None
    assert share.ci95 == pytest.approx(exact.ci95, abs=0.003)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=2, max_size=60))
@settings(max_examples=100)
def test_clusters_never_make_an_interval_narrower(answers: list[tuple[bool, int]]) -> None:
    correct = np.array([right for right, _ in answers])
    clusters = np.array([str(cluster) for _, cluster in answers])
    wide, narrow = (
        statistics.clustered_share(correct, clusters), statistics.exact_share(correct)
    )  # fmt: skip
    assert wide.ci95 is not None and narrow.ci95 is not None and wide.value is not None
    assert wide.ci95[0] <= wide.value <= wide.ci95[1]
    assert wide.ci95[1] - wide.ci95[0] >= narrow.ci95[1] - narrow.ci95[0] - 1e-9


def rating(reader: str, origin: Origin, row: int, decision: Origin, **more: object) -> Rating:
    return Rating.model_validate(
        {"reader": reader, "origin": origin, "row": row, "label": 1, "slice_sha256": f"{row}",
         "decision": decision} | more
    )  # fmt: skip


def test_figures_counted_by_hand() -> None:
    ratings = [
        rating("A", "real", 0, "real", scores={"realism": 5}, artefact_kinds=["blur"]),
        rating("A", "real", 1, "synthetic", scores={"realism": 3}),
        rating("A", "synthetic", 0, "synthetic", scores={"realism": 1}, flagged=True),
        rating("B", "real", 0, "real", scores={"realism": 5}, artefact_kinds=["blur", "noise"]),
        rating("B", "synthetic", 0, "synthetic", scores={"realism": 2}, flagged=True,
               outline_from="blank", outline_dice=0.8),
    ]  # fmt: skip
    clusters = ["patient a", "patient a", "synthetic 0", "patient a", "synthetic 0"]
    figures = statistics.review_figures(ratings, clusters, {"real": 2, "synthetic": 2})
    assert figures.readers["A"].accuracy.value == pytest.approx(2 / 3)
    assert figures.readers["A"].sensitivity.value == 1
    assert figures.readers["A"].specificity.value == 0.5
    assert figures.together.accuracy.value == pytest.approx(4 / 5)
    assert figures.together.accuracy.n == 5
    assert figures.fleiss_slices == 2
    assert figures.fleiss_kappa == pytest.approx(1)
    (pair,) = figures.pairs
    assert (pair.readers, pair.n) == (("A", "B"), 2)
    assert figures.flagged == 1
    assert figures.origins["real"].artefact_kinds == {"blur": 1, "noise": 1}
    assert figures.origins["real"].mean_scores == {"realism": pytest.approx(13 / 3)}
    assert figures.origins["synthetic"].outline_dice == 0.8
    assert figures.origins["synthetic"].corrected == 0


def test_a_study_without_answers_has_no_figures() -> None:
    figures = statistics.review_figures([], [], {"real": 2, "synthetic": 2})
    assert figures.together.accuracy.value is None
    assert figures.readers == {}
