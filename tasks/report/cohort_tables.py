"""Tabulate the cohort: patients, slices, sites and rejected files."""

from collections import Counter
from dataclasses import dataclass

import pandas as pd

from tasks.common import membership_table as attacks
from tasks.common import small_cells
from tasks.common.cohort_counts import CohortCounts
from tasks.report import wording
from tasks.schemas.metrics import GateMetrics

PARTITIONS = {"train": "training", "val": "validation", "test": "test"}
LEFT_OUT = {
    "missing-modality": "a patient's visit lacks one of the modalities asked for",
    "repeated-modality": "a further volume of a modality; one a visit is used, outlined ones first",
    "no-brain": "nothing in the volume stands out from its background",
    "no-overlap": "the modalities of a visit show different places",
}


@dataclass(frozen=True)
class PageTable:
    """A table of the page: a caption, column heads, and rows whose first cell is their head."""

    caption: str
    heads: list[str]
    rows: list[list[str]]

    def aligned(self, column: int) -> str:
        """Return how a column is set: words from the left, figures from the right."""
        wordy = any(cell[:1].isalpha() for row in self.rows for cell in row[column : column + 1])
        return "words" if wordy else "figures"


def partition_table(
    slices: pd.DataFrame, fold: str, cohort: CohortCounts, smallest_cell: int
) -> PageTable:
    """Count patients and slices of each partition of a fold, and patients who were not drawn.

    What was synthetic at its source is no patient's and has a row of its own. Of fewer patients
    than `smallest_cell` neither they nor their slices are counted, and no single slice of a kind,
    which is one patient's.
    """
    heads = ["", "patients", "slices", "with tumour", "without", "unlabelled"]
    synthetic = slices.get("marked_synthetic", pd.Series(False, index=slices.index)).astype(bool)
    rows = []
    for partition, word in PARTITIONS.items():
        part = slices[(slices[f"partition_{fold}"] == partition) & ~synthetic]
        total, *kinds = slice_counts(part)
        if "1" in kinds and smallest_cell > 1:
            kinds = [small_cells.HIDDEN] * len(kinds)
        patients = cohort.patients(fold, partition)
        rows.append([word, patients, *hide_with(patients, [total, *kinds])])
    if cohort.not_drawn(fold) != "0":
        rows.append(["not drawn, unseen", cohort.not_drawn(fold), "0", "0", "0", "0"])
    train = slices[(slices[f"partition_{fold}"] == "train") & synthetic]
    if len(train):
        rows.append(["synthetic at source, training", "0", *slice_counts(train)])
    return PageTable(f"Partitions of fold {fold}", heads, rows)


def slice_counts(part: pd.DataFrame) -> list[str]:
    """Count slices: all, with tumour, without, unlabelled."""
    return [str(len(part)), *(str(int((part["label"] == label).sum())) for label in (1, 0, -1))]


def hide_with(patients: str, counts: list[str]) -> list[str]:
    """Hide what belongs to patients whose number is hidden."""
    return counts if patients.isdecimal() else [small_cells.HIDDEN] * len(counts)


def site_table(fold: str, cohort: CohortCounts) -> PageTable:
    """Count the patients of each site in each partition of a fold."""
    rows = [
        [site, *(cohort.of_site(fold, site, partition) for partition in PARTITIONS)]
        for site in cohort.sites(fold)
    ]
    return PageTable(f"Patients per site, fold {fold}", ["site", *PARTITIONS.values()], rows)


def batch_table(
    manifests: dict[str, pd.DataFrame],
    smallest_cell: int = 1,
    cohort: CohortCounts | None = None,
) -> PageTable:
    """Summarise what was read of each batch; of a small one, only that there was something.

    Batches may be partitions (`slices.test_batches`), so their patients are hidden with those.
    """
    heads = ["batch", "patients", "volumes", "modality", "format", "masks"]
    counts = [[manifest["subject"].nunique()] for manifest in manifests.values()]
    shown = small_cells.show_counts(counts, smallest_cell)
    if len(counts) > 1 and cohort is not None and not cohort.all_partitions_shown:
        shown = [[small_cells.HIDDEN]] * len(counts)
    rows = [
        [
            batch, patients,
            *hide_with(patients, [
                str(len(manifest)), count_values(manifest["modality"]),
                count_values(manifest["source_format"]), count_values(manifest["mask_status"]),
            ]),
        ]
        for (batch, manifest), (patients,) in zip(manifests.items(), shown, strict=True)
    ]  # fmt: skip
    return PageTable("What was read", heads, rows)


def matching_table(auroc_by_stage: dict[str, dict[str, float | None]]) -> PageTable:
    """Show how well a slice's position alone predicts its label, before and after matching."""
    covariates = {"position_mm": "slice position", "brain_area_mm2": "brain area"}
    rows = [
        [
            word,
            *(
                wording.format_number(auroc_by_stage.get(when, {}).get(name))
                for when in ("before", "after")
            ),
        ]
        for name, word in covariates.items()
    ]
    caption = "How well a slice's place alone tells its label (AUROC; 0.5: not at all)"
    return PageTable(caption, ["", "all slices", "slices used"], rows)


def skipped_table(skipped: list[dict[str, str]]) -> PageTable:
    """Count what was read but not sliced, by code."""
    counts = Counter(one["code"] for one in skipped)
    rows = [[code, str(n), LEFT_OUT.get(code, "")] for code, n in sorted(counts.items())]
    return PageTable("Read, but not cut into slices", ["code", "count", "why"], rows)


def rejected_table(rejected: dict[str, pd.DataFrame]) -> PageTable:
    """Count files and series that could not be read, by code; tokens stand for their paths."""
    rows = [
        [str(code), batch, str(len(group)), str(group["remedy"].iloc[0])]
        for batch, table in rejected.items()
        for code, group in table.groupby("code", sort=True)
    ]
    return PageTable("Refused files and series", ["code", "batch", "count", "remedy"], rows)


def membership_table(gates: dict[str, GateMetrics], cohort: CohortCounts) -> PageTable:
    """Tabulate the attacks that try to tell who trained."""
    rows = attacks.membership_rows(gates, cohort)
    return PageTable("Attacks by fold (AUROC of patients)", list(attacks.HEADS), rows)


def count_values(column: pd.Series) -> str:
    """List values with their counts, most frequent first."""
    counts = column.value_counts().sort_index(kind="stable").sort_values(
        ascending=False, kind="stable"
    )  # fmt: skip
    return ", ".join(f"{value} {count}" for value, count in counts.items())
