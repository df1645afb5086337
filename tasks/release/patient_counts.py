"""Count the patients behind a release for its data card, without cells so small that they tell.

A count from 1 to `release.smallest_cell` - 1 is shown as `<5` only; so is a count from which such
a one could be computed (19 of 20 patients with tumour means one without).
"""

from dataclasses import dataclass

import pandas as pd

from tasks.release.release_contents import read_patients


@dataclass(frozen=True)
class PartitionCounts:
    """Patients of one partition of a fold, as they may be shown."""

    fold: str
    partition: str
    patients: str
    with_tumour: str


def count_patients(folds: list[str], smallest_cell: int) -> list[PartitionCounts]:
    """Count the patients of each partition and how many of them have a tumour slice."""
    return [
        PartitionCounts(fold, partition, *show_counts(rows, smallest_cell))
        for fold in folds
        for patients in [read_patients(fold)]
        for partition in ("train", "val", "test")
        for rows in [patients[patients["partition"] == partition]]
    ]


def show_counts(patients: pd.DataFrame, smallest_cell: int) -> tuple[str, str]:
    """Return the number of patients, and of those with a tumour slice, or words instead."""
    total = len(patients)
    tumour = int((patients["tumor_slices"] > 0).sum())
    if is_small(total, smallest_cell):
        return f"<{smallest_cell}", "not shown"
    if is_small(total - tumour, smallest_cell):
        return str(total), "not shown"
    return str(total), f"<{smallest_cell}" if is_small(tumour, smallest_cell) else str(tumour)


def is_small(count: int, smallest_cell: int) -> bool:
    """Check whether a count of patients is too small to be shown; 0 tells of nobody."""
    return 0 < count < smallest_cell
