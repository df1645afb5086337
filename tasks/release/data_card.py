"""Render the texts that go with the data: the data card, the tree's README, or the refusal."""

from typing import Any, Final

import jinja2
import pandas as pd

from tasks.common import membership_table
from tasks.common.cohort_counts import CohortCounts
from tasks.common.release_candidate import ReleaseCandidate, describe_patients
from tasks.common.synthetic_marks import UID_ROOT
from tasks.params.release import Release
from tasks.release.patient_counts import partition_counts
from tasks.schemas.lift import Lift

PARTICIPANT_COLUMNS: Final = {
    "participant_id": {
        "Description": "A synthetic subject: one slice, no person; or a patient's pseudonym"
    },
    "origin": {
        "Description": "Where the slices come from",
        "Levels": {"synthetic": "drawn by a generator", "real": "of a patient"},
    },
    "partition": {"Description": "What the slices are for", "Levels": {"train": "training"}},
    "label": {"Description": "What the slice shows", "Levels": {"0": "no tumour", "1": "tumour"}},
    "tumor_area_mm2": {"Description": "Area of the mask", "Units": "mm2"},
    "fold": {"Description": "Fold whose generator drew the slice"},
    "seed": {"Description": "Seed that draws the slice again"},
    "source_row": {"Description": "Row in the generator's output of that fold"},
}
SCAN_COLUMNS: Final = {name: PARTICIPANT_COLUMNS[name] for name in ("label", "tumor_area_mm2")}


def render_data_card(
    *,
    summary: dict[str, Any],
    candidate: ReleaseCandidate,
    lift: Lift,
    table: pd.DataFrame,
    source: str,
    stats: dict[str, Any],
    settings: Release,
    cohort: CohortCounts,
) -> str:
    """Render what the data set is, how it was evaluated, and what it must not be used for."""
    synthetic = table[table["origin"] == "synthetic"]
    with_tumour = synthetic[synthetic["label"] == 1]
    real = table[table["origin"] == "real"]
    return render_template(
        "DATACARD.md.j2",
        summary=summary,
        gates=candidate.gates,
        generated=len(candidate.samples),
        tumour=len(with_tumour),
        unmasked=int((with_tumour["tumor_area_mm2"] == 0).sum()),
        real=real,
        unoutlined=len(real) - int(real["mask_known"].sum()),
        lift=lift,
        source=source,
        stats=stats,
        counts=partition_counts(cohort, list(candidate.gates)),
        membership_heads=membership_table.HEADS,
        membership=membership_table.membership_rows(candidate.gates, cohort),
        uid_root=UID_ROOT,
        whose=describe_patients(patient["batch"] for patient in stats["subjects"].values()),
        settings=settings,
    )


def render_refusal(*, summary: dict[str, Any], candidate: ReleaseCandidate) -> str:
    """Render why nothing was released, and what to do."""
    return render_template("REFUSED.md.j2", summary=summary, gates=candidate.gates)


def render_bids_readme(modalities: list[str], *, augmented: bool) -> str:
    """Render the README that BIDS asks for."""
    return render_template("README.md.j2", modalities=modalities, augmented=augmented)


def format_figure(value: object) -> str:
    """Format three significant digits, or a dash."""
    if isinstance(value, tuple):
        return " to ".join(map(format_figure, value))
    return f"{value:.3g}" if isinstance(value, int | float) else "–"  # noqa: RUF001


def render_template(template: str, **context: Any) -> str:
    """Fill a Markdown template."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tasks.release"),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["figure"] = format_figure
    return environment.get_template(template).render(**context)
