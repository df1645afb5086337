"""Count the patients behind a release for its data card, without cells so small that they tell."""

from dataclasses import dataclass

import pandas as pd

from tasks.common import small_cells
from tasks.release.release_contents import read_patients


@dataclass(frozen=True)
class PartitionCounts:
    """Patients of one partition of a fold, as they may be shown.

    `unknown` are those without a tumour slice of whose slices some have no label.
    """

    fold: str
    partition: str
    patients: str
    with_tumour: str
    unknown: str


def count_patients(folds: list[str], smallest_cell: int) -> list[PartitionCounts]:
    """Count the patients of each partition and how many of them have a tumour slice."""
    return [
        PartitionCounts(fold, partition, *show_counts(rows, smallest_cell))
        for fold in folds
        for patients in [read_patients(fold)]
        for partition in ("train", "val", "test")
        for rows in [patients[patients["partition"] == partition]]
    ]


def show_counts(patients: pd.DataFrame, smallest_cell: int) -> tuple[str, str, str]:
    """Return the number of patients, with a tumour slice, and with unknown labels, or words.

    Patients whose labels are hidden (`slices.unlabelled_patients`) are not without tumour.
    """
    total = len(patients)
    tumour = int((patients["tumor_slices"] > 0).sum())
    unlabelled = patients.get("unlabelled_slices", pd.Series(0, index=patients.index))
    unknown = int(((patients["tumor_slices"] == 0) & (unlabelled > 0)).sum())
    if small_cells.is_small(total, smallest_cell):
        return f"<{smallest_cell}", small_cells.HIDDEN, small_cells.HIDDEN
    ((shown_tumour, shown_unknown, _),) = small_cells.show_counts(
        [[tumour, unknown, total - tumour - unknown]], smallest_cell
    )
    return str(total), shown_tumour, shown_unknown
