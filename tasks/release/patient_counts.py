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
        PartitionCounts(fold, partition, *texts)
        for fold in folds
        for partition, texts in show_partitions(read_patients(fold), smallest_cell).items()
    ]


def show_partitions(patients: pd.DataFrame, smallest_cell: int) -> dict[str, tuple[str, str, str]]:
    """Return the texts of each partition: patients, with a tumour slice, with unknown labels.

    Another fold may tell the patients of all partitions together, so they are hidden together.
    """
    cells = {
        partition: split_patients(patients[patients["partition"] == partition])
        for partition in ("train", "val", "test")
    }
    totals = small_cells.show_counts([[sum(row)] for row in cells.values()], smallest_cell)
    shown = small_cells.show_counts(list(cells.values()), smallest_cell)
    return {
        partition: (total, tumour, unknown)
        if total.isdecimal()
        else (total, small_cells.HIDDEN, small_cells.HIDDEN)
        for partition, (total,), (tumour, unknown, _) in zip(cells, totals, shown, strict=True)
    }


def split_patients(patients: pd.DataFrame) -> list[int]:
    """Count patients with a tumour slice, with unknown labels, and without tumour.

    Patients whose labels are hidden (`slices.unlabelled_patients`) are not without tumour.
    """
    tumour = int((patients["tumor_slices"] > 0).sum())
    unlabelled = patients.get("unlabelled_slices", pd.Series(0, index=patients.index))
    unknown = int(((patients["tumor_slices"] == 0) & (unlabelled > 0)).sum())
    return [tumour, unknown, len(patients) - tumour - unknown]
