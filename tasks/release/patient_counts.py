"""Count the patients behind a release for its data card, without cells so small that they tell."""

from dataclasses import dataclass

from tasks.common.cohort_counts import PARTITIONS, CohortCounts


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


def partition_counts(cohort: CohortCounts, folds: list[str]) -> list[PartitionCounts]:
    """List the patients of each partition and how many of them have a tumour slice."""
    return [
        PartitionCounts(
            fold,
            partition,
            cohort.patients(fold, partition),
            cohort.of_kind(fold, partition, "tumour"),
            cohort.of_kind(fold, partition, "unknown"),
        )
        for fold in folds
        for partition in PARTITIONS
    ]
