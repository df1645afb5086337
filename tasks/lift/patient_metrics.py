"""Express every metric as a ratio of sums over patients, so that reweighting patients is cheap."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]


class PatientMetric(Protocol):
    """A metric whose value is a numerator over a denominator, both sums over patients."""

    def weighted_sums(self, weights: Array) -> tuple[Array, Array]:
        """Compute numerators and denominators (B,R) of R runs under patient weights (B,P)."""

    def count_patients(self) -> int:
        """Count the patients that the metric rests on; where it needs two kinds, the rarer one."""

    def restricted_to(self, members: NDArray[np.bool_]) -> "PatientMetric":
        """Restrict the metric to some of the patients (P,)."""


@dataclass(frozen=True)
class MeanMetric:
    """A mean over patients' slices or values: `total` and `count` are (R,P)."""

    total: Array
    count: Array

    def weighted_sums(self, weights: Array) -> tuple[Array, Array]:
        """Compute weighted totals and counts."""
        return weights @ self.total.T, weights @ self.count.T

    def count_patients(self) -> int:
        """Count the patients with at least one slice or value."""
        return int((self.count.sum(axis=0) > 0).sum())

    def restricted_to(self, members: NDArray[np.bool_]) -> "MeanMetric":
        """Set the sums of all other patients to 0."""
        return MeanMetric(self.total * members, self.count * members)


@dataclass(frozen=True)
class AurocPairs:
    """AUROC as the share of (tumour, none) slice pairs in the right order (Mann-Whitney).

    `right` and `pairs` are (R,P,P): pairs of a tumour slice of one patient with another slice
    of the same or of another patient. Slices of different runs are never compared, since two
    networks' probabilities share no scale.
    """

    right: Array
    pairs: Array

    def weighted_sums(self, weights: Array) -> tuple[Array, Array]:
        """Weigh each pair by the product of its two patients' weights."""
        right, pairs = (
            np.stack([((weights @ run) * weights).sum(axis=1) for run in counts], axis=1)
            for counts in (self.right, self.pairs)
        )
        return right, pairs

    def count_patients(self) -> int:
        """Count the patients with tumour slices or those with others, whichever are fewer.

        Twelve patients of whom one has a tumour say no more of AUROC than that one.
        """
        paired = self.pairs.sum(axis=0)  # (P,P): tumour slices of p, others of q
        return int(min((paired.sum(axis=1) > 0).sum(), (paired.sum(axis=0) > 0).sum()))

    def restricted_to(self, members: NDArray[np.bool_]) -> "AurocPairs":
        """Keep the pairs of two members."""
        both = np.outer(members, members)
        return AurocPairs(self.right * both, self.pairs * both)


@dataclass(frozen=True)
class CalibrationError:
    """Expected calibration error of a classifier (Naeini 2015) over equal bins of probability.

    `gap` (R,P,K) sums probability less label over the slices of each bin, `count` (R,P) counts
    slices.
    """

    gap: Array
    count: Array

    def weighted_sums(self, weights: Array) -> tuple[Array, Array]:
        """Sum the absolute gaps of the bins, each over the slices of all patients."""
        gaps = np.einsum("bp,rpk->brk", weights, self.gap, optimize=True)
        return np.abs(gaps).sum(axis=2), weights @ self.count.T

    def count_patients(self) -> int:
        """Count the patients with at least one slice."""
        return int((self.count.sum(axis=0) > 0).sum())

    def restricted_to(self, members: NDArray[np.bool_]) -> "CalibrationError":
        """Set the sums of all other patients to 0."""
        return CalibrationError(self.gap * members[:, None], self.count * members)


@dataclass(frozen=True)
class RunPatientAxes:
    """The runs (fold, seed) and test patients that all arms share."""

    runs: list[tuple[str, int]]
    patients: list[str]

    @classmethod
    def from_table(cls, table: pd.DataFrame) -> "RunPatientAxes":
        """Collect the runs and patients of one arm's table."""
        runs = table[["fold", "seed"]].drop_duplicates().sort_values(["fold", "seed"])
        return cls(
            [(str(fold), int(seed)) for fold, seed in runs.itertuples(index=False)],
            sorted(table["subject"].unique()),
        )

    def locate_rows(self, table: pd.DataFrame) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the positions of each row's run and patient."""
        run_of = {run: position for position, run in enumerate(self.runs)}
        runs = [run_of[run] for run in zip(table["fold"], table["seed"], strict=True)]
        return np.asarray(runs, dtype=np.intp), np.searchsorted(self.patients, table["subject"])

    def sum_values(self, table: pd.DataFrame, values: NDArray[np.generic]) -> Array:
        """Sum (R,P) a value of each row."""
        sums = np.zeros((len(self.runs), len(self.patients)))
        np.add.at(sums, self.locate_rows(table), values.astype(float))
        return sums


def classification_metrics(
    predictions: pd.DataFrame, axes: RunPatientAxes
) -> dict[str, PatientMetric]:
    """Compute the metrics of slice classification: all slices of the test patients together."""
    label = predictions["label"].to_numpy() == 1
    probability = predictions["probability"].to_numpy(dtype=float)
    right = (probability >= predictions["threshold"].to_numpy()) == label

    def mean_where(condition: NDArray[np.bool_], slices: NDArray[np.bool_]) -> PatientMetric:
        return MeanMetric(
            axes.sum_values(predictions, condition & slices), axes.sum_values(predictions, slices)
        )

    all_slices = np.ones_like(label)
    return {
        "auroc": count_auroc_pairs(predictions, axes),
        "auroc_patient": count_auroc_pairs(highest_slice_per_patient(predictions), axes),
        "accuracy": mean_where(right, all_slices),
        "sensitivity": mean_where(right, label),
        "specificity": mean_where(right, ~label),
        "brier": MeanMetric(
            axes.sum_values(predictions, (probability - label) ** 2),
            axes.sum_values(predictions, all_slices),
        ),
        "ece": calibration_error(predictions, axes),
    }


def calibration_error(
    predictions: pd.DataFrame, axes: RunPatientAxes, *, bins: int = 15
) -> CalibrationError:
    """Sum the gaps between probability and label in each bin, with the bins of torchmetrics."""
    probability = predictions["probability"].to_numpy(dtype=float)
    edges = np.linspace(0, 1, bins + 1)
    bin_of = np.clip(np.searchsorted(edges, probability, side="right") - 1, 0, bins - 1)
    gap = probability - (predictions["label"].to_numpy() == 1)
    sums = [
        axes.sum_values(predictions, gap * (bin_of == bin_number)) for bin_number in range(bins)
    ]
    return CalibrationError(np.stack(sums, axis=2), axes.sum_values(predictions, np.ones_like(gap)))


def highest_slice_per_patient(predictions: pd.DataFrame) -> pd.DataFrame:
    """Reduce to one row a patient and run: whether there is a tumour, and the top probability."""
    return predictions.groupby(["fold", "seed", "subject"], as_index=False).agg(
        label=("label", "max"), probability=("probability", "max")
    )


def count_auroc_pairs(predictions: pd.DataFrame, axes: RunPatientAxes) -> AurocPairs:
    """Count the pairs in the right order, ties by half, for each run and pair of patients."""
    runs, patients = axes.locate_rows(predictions)
    label = predictions["label"].to_numpy() == 1
    probability = predictions["probability"].to_numpy(dtype=float)
    shape = (len(axes.runs), len(axes.patients), len(axes.patients))
    right, pairs = np.zeros(shape), np.zeros(shape)
    patient_one_hot = np.eye(len(axes.patients))
    for run in range(len(axes.runs)):
        tumor, none = (runs == run) & label, (runs == run) & ~label
        of_tumor, of_none = (
            patient_one_hot[patients[tumor]],
            patient_one_hot[patients[none]],
        )  # (slices, P)
        difference = probability[tumor][:, None] - probability[none]
        right[run] = of_tumor.T @ ((np.sign(difference) + 1) / 2) @ of_none  # (P,P)
        pairs[run] = np.outer(of_tumor.sum(axis=0), of_none.sum(axis=0))
    return AurocPairs(right, pairs)


def segmentation_metrics(
    patients: pd.DataFrame, axes: RunPatientAxes, predictions: pd.DataFrame | None = None
) -> dict[str, PatientMetric]:
    """Compute the metrics of segmentation: the mean over test patients of each patient's score.

    `slice_auroc` says how well the highest probability of a slice tells whether it shows a tumour.
    A segmenter has seen masks, which a classifier has not: where it does as well, what synthetic
    slices add to a classifier may be the knowledge of their masks.
    """
    metrics: dict[str, PatientMetric] = {}
    for metric, rows in patients.groupby("metric", sort=False):
        defined = rows["value"].notna().to_numpy()
        metrics[str(metric)] = MeanMetric(
            axes.sum_values(rows, rows["value"].fillna(0.0).to_numpy()),
            axes.sum_values(rows, defined),
        )
    if predictions is not None and "probability" in predictions:
        metrics["slice_auroc"] = count_auroc_pairs(predictions, axes)
    return metrics
