"""Every metric as a ratio of sums over patients, so that any reweighting of patients is cheap."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Measure(Protocol):
    """A metric whose value is a numerator over a denominator, both sums over patients."""

    def sums(self, weights: Array) -> tuple[Array, Array]:
        """Numerators and denominators (B,R) of R runs under patient weights (B,P)."""

    def patients(self) -> int:
        """How many patients the metric rests on: where it needs two kinds, of the rarer one."""

    def among(self, members: NDArray[np.bool_]) -> "Measure":
        """The same metric over some of the patients (P,)."""


@dataclass(frozen=True)
class Mean:
    """A mean over patients' slices or values: `total` and `count` are (R,P)."""

    total: Array
    count: Array

    def sums(self, weights: Array) -> tuple[Array, Array]:
        """Weighted totals and counts."""
        return weights @ self.total.T, weights @ self.count.T

    def patients(self) -> int:
        """Patients with at least one slice or value."""
        return int((self.count.sum(axis=0) > 0).sum())

    def among(self, members: NDArray[np.bool_]) -> "Mean":
        """Others count nothing."""
        return Mean(self.total * members, self.count * members)


@dataclass(frozen=True)
class AurocPairs:
    """AUROC as the share of (tumour, none) slice pairs in the right order (Mann-Whitney).

    `right` and `pairs` are (R,P,P): pairs of a tumour slice of one patient with another slice
    of the same or of another patient. Slices of different runs are never compared, since two
    networks' probabilities share no scale.
    """

    right: Array
    pairs: Array

    def sums(self, weights: Array) -> tuple[Array, Array]:
        """A pair weighs the product of its two patients' weights."""
        right, pairs = (
            np.stack([((weights @ run) * weights).sum(axis=1) for run in counts], axis=1)
            for counts in (self.right, self.pairs)
        )
        return right, pairs

    def patients(self) -> int:
        """Patients with tumour slices or patients with others, whichever are fewer.

        Twelve patients of whom one has a tumour tell no more of AUROC than that one.
        """
        paired = self.pairs.sum(axis=0)  # (P,P): tumour slices of p, others of q
        return int(min((paired.sum(axis=1) > 0).sum(), (paired.sum(axis=0) > 0).sum()))

    def among(self, members: NDArray[np.bool_]) -> "AurocPairs":
        """Pairs of two members."""
        both = np.outer(members, members)
        return AurocPairs(self.right * both, self.pairs * both)


@dataclass(frozen=True)
class Calibration:
    """Expected calibration error of a classifier (Naeini 2015) over equal bins of probability.

    `gap` (R,P,K) sums probability less label over the slices of each bin, `count` (R,P) counts
    slices.
    """

    gap: Array
    count: Array

    def sums(self, weights: Array) -> tuple[Array, Array]:
        """A bin adds its gap's absolute value, whoever's slices made it up."""
        gaps = np.einsum("bp,rpk->brk", weights, self.gap, optimize=True)
        return np.abs(gaps).sum(axis=2), weights @ self.count.T

    def patients(self) -> int:
        """Patients with at least one slice."""
        return int((self.count.sum(axis=0) > 0).sum())

    def among(self, members: NDArray[np.bool_]) -> "Calibration":
        """Others count nothing."""
        return Calibration(self.gap * members[:, None], self.count * members)


@dataclass(frozen=True)
class Axes:
    """The runs (fold, seed) and test patients that all arms share."""

    runs: list[tuple[str, int]]
    patients: list[str]

    @classmethod
    def of(cls, table: pd.DataFrame) -> "Axes":
        """Those of one arm's table."""
        runs = table[["fold", "seed"]].drop_duplicates().sort_values(["fold", "seed"])
        return cls(
            [(str(fold), int(seed)) for fold, seed in runs.itertuples(index=False)],
            sorted(table["subject"].unique()),
        )

    def place(self, table: pd.DataFrame) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Positions of each row's run and patient."""
        run_of = {run: place for place, run in enumerate(self.runs)}
        runs = [run_of[run] for run in zip(table["fold"], table["seed"], strict=True)]
        return np.asarray(runs, dtype=np.intp), np.searchsorted(self.patients, table["subject"])

    def total(self, table: pd.DataFrame, values: NDArray[np.generic]) -> Array:
        """Sums (R,P) of a value for each row."""
        sums = np.zeros((len(self.runs), len(self.patients)))
        np.add.at(sums, self.place(table), values.astype(float))
        return sums


def classify(predictions: pd.DataFrame, axes: Axes) -> dict[str, Measure]:
    """Slice classification: all slices of the test patients together."""
    label = predictions["label"].to_numpy() == 1
    probability = predictions["probability"].to_numpy(dtype=float)
    right = (probability >= predictions["threshold"].to_numpy()) == label

    def share(of: NDArray[np.bool_], among: NDArray[np.bool_]) -> Measure:
        return Mean(axes.total(predictions, of & among), axes.total(predictions, among))

    every = np.ones_like(label)
    return {
        "auroc": concordance(predictions, axes),
        "auroc_patient": concordance(of_patients(predictions), axes),
        "accuracy": share(right, every),
        "sensitivity": share(right, label),
        "specificity": share(right, ~label),
        "brier": Mean(
            axes.total(predictions, (probability - label) ** 2), axes.total(predictions, every)
        ),
        "ece": calibration(predictions, axes),
    }


def calibration(predictions: pd.DataFrame, axes: Axes, *, bins: int = 15) -> Calibration:
    """The gaps between probability and label in each bin, as torchmetrics draws the bins."""
    probability = predictions["probability"].to_numpy(dtype=float)
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, probability, side="right") - 1, 0, bins - 1)
    gap = probability - (predictions["label"].to_numpy() == 1)
    sums = [axes.total(predictions, gap * (place == one)) for one in range(bins)]
    return Calibration(np.stack(sums, axis=2), axes.total(predictions, np.ones_like(gap)))


def of_patients(predictions: pd.DataFrame) -> pd.DataFrame:
    """One row a patient and run: has the patient a tumour, and the most suspicious slice."""
    return predictions.groupby(["fold", "seed", "subject"], as_index=False).agg(
        label=("label", "max"), probability=("probability", "max")
    )


def concordance(predictions: pd.DataFrame, axes: Axes) -> AurocPairs:
    """Count the pairs in the right order, ties by half, for each run and pair of patients."""
    runs, patients = axes.place(predictions)
    label = predictions["label"].to_numpy() == 1
    probability = predictions["probability"].to_numpy(dtype=float)
    shape = (len(axes.runs), len(axes.patients), len(axes.patients))
    right, pairs = np.zeros(shape), np.zeros(shape)
    one_of = np.eye(len(axes.patients))
    for run in range(len(axes.runs)):
        tumor, none = (runs == run) & label, (runs == run) & ~label
        of_tumor, of_none = one_of[patients[tumor]], one_of[patients[none]]  # (slices, P)
        difference = probability[tumor][:, None] - probability[none]
        right[run] = of_tumor.T @ ((np.sign(difference) + 1) / 2) @ of_none  # (P,P)
        pairs[run] = np.outer(of_tumor.sum(axis=0), of_none.sum(axis=0))
    return AurocPairs(right, pairs)


def segment(patients: pd.DataFrame, axes: Axes) -> dict[str, Measure]:
    """Segmentation: the mean over test patients of what each patient scored."""
    measures: dict[str, Measure] = {}
    for metric, rows in patients.groupby("metric", sort=False):
        defined = rows["value"].notna().to_numpy()
        measures[str(metric)] = Mean(
            axes.total(rows, rows["value"].fillna(0.0).to_numpy()), axes.total(rows, defined)
        )
    return measures
