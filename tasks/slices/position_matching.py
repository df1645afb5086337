"""Choose tumour-free slices that resemble tumour slices in position and brain area."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from tasks.measures.rank_auroc import auroc

Floats = NDArray[np.float64]

COVARIATES = ["position_mm", "brain_area_mm2"]
MAX_TUMOR_SLICES = 2000  # matched at once: the assignment's time grows with their cube


def match_in_blocks(
    table: pd.DataFrame,
    *,
    ratio: float,
    caliper: float,
    keep_unmatched: bool,
    max_tumor_slices: int = MAX_TUMOR_SLICES,
) -> NDArray[np.bool_]:
    """Match as `match_negatives` does, in blocks of whole patients where slices are very many."""
    is_tumor = table["label"] == 1
    if is_tumor.sum() < max_tumor_slices:  # one block
        return match_negatives(table, ratio=ratio, caliper=caliper, keep_unmatched=keep_unmatched)
    tumors = is_tumor.astype(int).groupby(table["subject"], sort=True).sum()
    block_of = (tumors.cumsum() - tumors) // max_tumor_slices
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
    """Choose which slices to keep so that neither position nor brain area reveals the label.

    Optimal pair matching within a caliper (Rosenbaum & Rubin 1985): every tumour slice gets
    up to `ratio` tumour-free slices, by the assignment with the smallest total distance; pairs
    farther apart than `caliper` standard deviations of the tumour slices are not made.
    Unlabelled slices are kept where some tumour slice lies within the caliper.

    Args:
        table: slices of patients that always move together; `label` and the covariates.
        ratio: tumour-free slices a tumour slice; below 1 every tumour slice still counts as
            matched when a free partner was within the caliper.
        caliper: in standard deviations.
        keep_unmatched: keep tumour slices without a partner, although their position reveals the
            label.

    Returns:
        (N,) bool, the rows to keep.
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
    distance = pairwise_distances(standard[rounds], standard[negatives])
    # A pair beyond the caliper costs more than all others together, so it is made last.
    cost = np.where(distance <= caliper, distance, 1e6)
    rows, columns = linear_sum_assignment(cost)
    within_caliper = distance[rows, columns] <= caliper
    matched = np.unique(rounds[rows[within_caliper]])
    wanted = round(ratio * len(matched))
    closest = np.argsort(distance[rows, columns][within_caliper], kind="stable")[:wanted]
    keep[negatives[columns[within_caliper][closest]]] = True
    keep[positives if keep_unmatched else matched] = True

    unlabelled = np.flatnonzero(label == -1)
    if len(unlabelled):
        near = pairwise_distances(standard[unlabelled], standard[positives]).min(axis=1) <= caliper
        keep[unlabelled[near]] = True
    return keep


@dataclass(frozen=True)
class TumorRange:
    """Lowest and highest covariates (2,) of tumour slices, and their standard deviations."""

    low: Floats
    high: Floats
    deviation: Floats


def tumor_range(tumors: pd.DataFrame) -> TumorRange:
    """Compute the range of the covariates of tumour slices."""
    covariates = tumors[COVARIATES]
    statistics = (covariates.min(), covariates.max(), covariates.std(ddof=0))
    return TumorRange(*(values.to_numpy(dtype=float) for values in statistics))


def keep_in_tumor_range(
    table: pd.DataFrame, tumors: TumorRange, *, caliper: float
) -> NDArray[np.bool_]:
    """Keep all tumour slices, and others only where position and brain area are in their range.

    This is weaker than matching, for few patients: no tumour slice is lost, but position may still
    reveal the label.

    Args:
        table: slices to choose from; `label` and the covariates.
        tumors: the range of the tumour slices.
        caliper: how far beyond that range, in their standard deviations.

    Returns:
        (N,) bool, the rows to keep.
    """
    margin = caliper * tumors.deviation
    covariates = table[COVARIATES].to_numpy()  # (N, 2)
    in_range = (covariates >= tumors.low - margin) & (covariates <= tumors.high + margin)
    keep: NDArray[np.bool_] = (table["label"] == 1).to_numpy() | in_range.all(axis=1)
    return keep


def pairwise_distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute Euclidean distances (len(a), len(b))."""
    distance: NDArray[np.float64] = np.linalg.norm(a[:, None, :] - b[None, :, :], axis=2)
    return distance


def covariate_auroc(score: Floats, label: NDArray[np.int_]) -> float | None:
    """Compute the AUROC of a covariate for the label (.5: uninformative); None without both."""
    value = auroc(score[label == 1], score[label == 0])
    return None if np.isnan(value) else round(value, 4)
