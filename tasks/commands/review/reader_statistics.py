"""Compute how well readers told real from synthetic slices, and how far they agree.

The positive class is `synthetic`: sensitivity is the share of synthetic slices that were called
synthetic, specificity the share of real slices that were called real.
"""

from collections.abc import Sequence
from itertools import combinations
from statistics import fmean

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import beta, t
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

from tasks.schemas.review import (
    ARTEFACT_KINDS,
    CRITERIA,
    ORIGINS,
    Accuracy,
    Criterion,
    Interval,
    Origin,
    OriginFigures,
    Rating,
    ReaderPair,
    ReviewFigures,
    Share,
)

LEVEL = 0.95
SCORES = [1, 2, 3, 4, 5]


def exact_interval(successes: float, n: float) -> Interval:
    """Return the 95 % interval of a share by Clopper and Pearson (Biometrika 1934).

    Args:
        successes: may be no whole number, as an effective number is.
        n: the number of answers, above 0.
    """
    tail = (1 - LEVEL) / 2
    low = beta.ppf(tail, successes, n - successes + 1) if successes > 0 else 0.0
    high = beta.ppf(1 - tail, successes + 1, n - successes) if successes < n else 1.0
    return float(low), float(high)


def exact_share(correct: NDArray[np.bool_]) -> Share:
    """Return the share of independent answers that are correct, with its exact interval."""
    n = len(correct)
    if not n:
        return Share(value=None, ci95=None, n=0)
    return Share(value=float(correct.mean()), ci95=exact_interval(int(correct.sum()), n), n=n)


def clustered_share(correct: NDArray[np.bool_], clusters: NDArray[np.str_]) -> Share:
    """Return the share of correct answers, with an interval that allows for clusters.

    The exact interval is taken at the effective number of answers: the number of independent
    answers that would have the variance which the clusters show, at most the true number (Korn
    and Graubard, Survey Methodology 1998). Answers of several readers on one slice, and on slices
    of one patient, are a cluster.
    """
    n = len(correct)
    if not n:
        return Share(value=None, ci95=None, n=0)
    share = float(correct.mean())
    residuals = pd.Series(correct - share).groupby(clusters).sum().to_numpy()
    n_clusters = len(residuals)
    effective = float(n_clusters)  # also where all answers are alike, and the variance says nothing
    if 0 < share < 1 and n_clusters > 1:
        variance = n_clusters / (n_clusters - 1) * float((residuals**2).sum()) / n**2
        tail = (1 + LEVEL) / 2
        few_clusters = (t.ppf(tail, n - 1) / t.ppf(tail, n_clusters - 1)) ** 2 if n > 1 else 1.0
        effective = min(float(n), share * (1 - share) / variance * few_clusters)
    return Share(value=share, ci95=exact_interval(share * effective, effective), n=n)


def review_figures(
    ratings: Sequence[Rating], clusters: Sequence[str], slices: dict[Origin, int]
) -> ReviewFigures:
    """Compute all figures of one fold's study.

    Args:
        ratings: the readers' answers.
        clusters: of each answer: its slice's patient, or the slice itself where it is synthetic.
        slices: how many slices of each origin the study has.
    """
    table = pd.DataFrame([rating.model_dump() for rating in ratings])
    if table.empty:
        nobody = Share(value=None, ci95=None, n=0)
        nothing = Accuracy(accuracy=nobody, sensitivity=nobody, specificity=nobody)
        return ReviewFigures(readers={}, together=nothing)
    table["cluster"] = list(clusters)
    table["correct"] = table["decision"] == table["origin"]
    decisions = pivot_by_reader(table.assign(value=(table["decision"] == "synthetic").astype(int)))
    complete = decisions.dropna()
    readers = list(dict.fromkeys(table["reader"]))
    several = len(readers) > 1
    return ReviewFigures(
        readers={
            reader: accuracy_of(own, clustered=False)
            for reader, own in table.groupby("reader", sort=False)
        },
        together=accuracy_of(table, clustered=True),
        fleiss_kappa=fleiss_of(complete) if several and len(complete) else None,
        fleiss_slices=len(complete) if several else 0,
        pairs=[
            cohen_of_pair(decisions, first, second) for first, second in combinations(readers, 2)
        ],
        score_kappa=score_kappas(table, readers),
        origins={
            origin: origin_figures(table[table["origin"] == origin], slices.get(origin, 0))
            for origin in ORIGINS
        },
        flagged=int(
            table.loc[table["flagged"] & (table["origin"] == "synthetic"), "row"].nunique()
        ),
    )


def accuracy_of(table: pd.DataFrame, *, clustered: bool) -> Accuracy:
    """Return accuracy, sensitivity and specificity of answers."""

    def share(rows: pd.DataFrame) -> Share:
        correct = rows["correct"].to_numpy(dtype=bool)
        if clustered:
            return clustered_share(correct, rows["cluster"].to_numpy(dtype=str))
        return exact_share(correct)

    return Accuracy(
        accuracy=share(table),
        sensitivity=share(table[table["origin"] == "synthetic"]),
        specificity=share(table[table["origin"] == "real"]),
    )


def pivot_by_reader(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row a slice and a column a reader of the column `value`; NaN where unanswered."""
    wide: pd.DataFrame = table.pivot(index=["origin", "row"], columns="reader", values="value")
    return wide


def fleiss_of(decisions: pd.DataFrame, kinds: int = 2) -> float | None:
    """Return Fleiss' kappa (Psychological Bulletin 1971) of slices that all readers answered.

    Args:
        decisions: (slices, readers) of 0 to `kinds` - 1.
        kinds: how many answers there are to choose from.

    Returns:
        None where every answer is the same, which leaves nothing to agree on.
    """
    counts, _ = aggregate_raters(decisions.to_numpy(dtype=int), n_cat=kinds)
    if (counts.sum(axis=0) > 0).sum() < 2:
        return None
    return float(fleiss_kappa(counts, method="fleiss"))


def cohen_of_pair(decisions: pd.DataFrame, first: str, second: str) -> ReaderPair:
    """Return Cohen's kappa of two readers' decisions on the slices that both answered."""
    both = decisions[[first, second]].dropna().astype(int)
    kappa = cohen(both[first], both[second], labels=[0, 1])
    return ReaderPair(readers=(first, second), kappa=kappa, n=len(both))


def cohen(
    first: "pd.Series[int]", second: "pd.Series[int]", *, labels: list[int],
    weights: str | None = None,
) -> float | None:  # fmt: skip
    """Return Cohen's kappa; None where there is no answer, or only one kind of answer."""
    if not len(first) or pd.concat([first, second]).nunique() < 2:
        return None
    return float(cohen_kappa_score(first, second, labels=labels, weights=weights))


def score_kappas(table: pd.DataFrame, readers: list[str]) -> dict[Criterion, float]:
    """Return the mean quadratically weighted kappa over all pairs of readers, by criterion."""
    kappas: dict[Criterion, float] = {}
    for criterion in CRITERIA:
        wide = pivot_by_reader(
            table.assign(value=[scores.get(criterion) for scores in table["scores"]])
        )
        found = []
        for first, second in combinations(readers, 2):
            both = wide[[first, second]].dropna().astype(int)
            kappa = cohen(both[first], both[second], labels=SCORES, weights="quadratic")
            found += [] if kappa is None else [kappa]
        if found:
            kappas[criterion] = fmean(found)
    return kappas


def origin_figures(table: pd.DataFrame, slices: int) -> OriginFigures:
    """Summarise scores, artefacts and outlines of the real or of the synthetic slices."""
    means = {
        criterion: [scores[criterion] for scores in table["scores"] if criterion in scores]
        for criterion in CRITERIA
    }
    seen = table[["row", "artefact_kinds"]].explode("artefact_kinds").dropna().drop_duplicates()
    counts = seen["artefact_kinds"].value_counts()
    drawn = table.loc[table["outline_from"] == "blank", "outline_dice"].dropna()
    corrected = table.loc[table["outline_from"] == "mask", "outline_dice"].dropna()
    return OriginFigures(
        slices=slices,
        mean_scores={name: fmean(values) for name, values in means.items() if values},
        artefact_kinds={kind: int(counts[kind]) for kind in ARTEFACT_KINDS if kind in counts},
        outlines=len(drawn),
        outline_dice=float(drawn.median()) if len(drawn) else None,
        corrected=len(corrected),
        corrected_dice=float(corrected.median()) if len(corrected) else None,
    )
