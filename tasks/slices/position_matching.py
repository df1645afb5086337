"""Negatives that look like positives in everything but the tumour: where and how large."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.stats import rankdata

COVARIATES = ["position_mm", "brain_area_mm2"]
MOST = 2000  # tumour slices matched at once: the assignment's time grows with their cube


def match_in_blocks(
    table: pd.DataFrame,
    *,
    ratio: float,
    caliper: float,
    keep_unmatched: bool,
    most: int = MOST,
) -> NDArray[np.bool_]:
    """Match as `match_negatives` does, in blocks of whole patients where there are very many."""
    tumors = (table["label"] == 1).astype(int).groupby(table["subject"], sort=True).sum()
    block_of = (tumors.cumsum() - tumors) // most
    blocks = table["subject"].map(block_of).to_numpy()
    keep = np.zeros(len(table), dtype=bool)
    for block in np.unique(blocks):
        rows = np.flatnonzero(blocks == block)
        keep[rows] = match_negatives(
            table.iloc[rows], ratio=ratio, caliper=caliper, keep_unmatched=keep_unmatched
        )
    return keep


def match_negatives(
    table: pd.DataFrame, *, ratio: float, caliper: float, keep_unmatched: bool
) -> NDArray[np.bool_]:
    """Choose which slices to keep so that neither position nor brain area tells the label.

    Optimal pair matching within a caliper (Rosenbaum & Rubin 1985): every tumour slice gets
    up to `ratio` tumour-free slices, the assignment with the smallest total distance; pairs
    farther apart than `caliper` standard deviations of the tumour slices are not made.
    Unlabelled slices are kept where some tumour slice lies within the caliper.

    Args:
        table: slices of patients that always move together; `label` and the covariates.
        ratio: tumour-free slices a tumour slice; below 1 every tumour slice still counts as
            matched when a free partner was in reach.
        caliper: in standard deviations.
        keep_unmatched: keep tumour slices that got no partner, although their position tells.

    Returns:
        (N,) which rows stay.
    """
    label = table["label"].to_numpy()
    positives = np.flatnonzero(label == 1)
    keep = np.zeros(len(label), dtype=bool)
    if len(positives) == 0:
        return keep
    covariates = table[COVARIATES].to_numpy(dtype=float)  # (N, 2)
    scale = np.maximum(covariates[positives].std(axis=0), 1e-6)
    standard = covariates / scale

    negatives = np.flatnonzero(label == 0)
    rounds = np.tile(positives, int(np.ceil(ratio)))
    distance = pairwise(standard[rounds], standard[negatives])
    # A pair beyond the caliper costs more than all others together, so it is made last.
    cost = np.where(distance <= caliper, distance, 1e6)
    rows, columns = linear_sum_assignment(cost)
    made = distance[rows, columns] <= caliper
    matched = np.unique(rounds[rows[made]])
    wanted = round(ratio * len(matched))
    closest = np.argsort(distance[rows, columns][made], kind="stable")[:wanted]
    keep[negatives[columns[made][closest]]] = True
    keep[positives if keep_unmatched else matched] = True

    unlabelled = np.flatnonzero(label == -1)
    if len(unlabelled):
        near = pairwise(standard[unlabelled], standard[positives]).min(axis=1) <= caliper
        keep[unlabelled[near]] = True
    return keep


def in_range(table: pd.DataFrame, tumors: pd.DataFrame, *, caliper: float) -> NDArray[np.bool_]:
    """Keep all tumour slices, and others only where position and brain area are like theirs.

    Weaker than matching, for few patients: no tumour slice is lost, but position may still tell.

    Args:
        table: slices to choose from; `label` and the covariates.
        tumors: the tumour slices whose range counts.
        caliper: how far beyond that range, in their standard deviations.

    Returns:
        (N,) which rows stay.
    """
    theirs = tumors[COVARIATES]
    margin = caliper * theirs.std(ddof=0)
    low, high = theirs.min() - margin, theirs.max() + margin
    near = ((table[COVARIATES] >= low) & (table[COVARIATES] <= high)).all(axis=1)
    keep: NDArray[np.bool_] = ((table["label"] == 1) | near).to_numpy()
    return keep


def pairwise(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Euclidean distances (len(a), len(b))."""
    distance: NDArray[np.float64] = np.linalg.norm(a[:, None, :] - b[None, :, :], axis=2)
    return distance


def auroc(score: NDArray[np.float64], label: NDArray[np.int_]) -> float | None:
    """How well a covariate alone tells the label (.5: not at all), by the rank-sum identity."""
    positive = label == 1
    n1, n0 = int(positive.sum()), int((label == 0).sum())
    if n1 == 0 or n0 == 0:
        return None
    known = label >= 0
    ranks = rankdata(score[known])
    u = ranks[positive[known]].sum() - n1 * (n1 + 1) / 2
    return round(float(u / (n1 * n0)), 4)
