"""Stage `report`: write all results of the run as one self-contained page.

Reads the volumes' tables, `data/slices`, `data/gan`, `data/synthetic`, `data/gate`,
`data/lift.json` and `data/review.json`; writes `data/report.html`.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd

from tasks import params
from tasks.common.cohort_counts import count_cohort
from tasks.common.few_patients import hide_few_patients
from tasks.common.flagged_slices import exclude_flagged
from tasks.common.release_candidate import SIMULATED, describe_patients, read_candidate
from tasks.common.slice_set import map_slice_set
from tasks.params.data import Data
from tasks.params.release import read_smallest_cell
from tasks.params.report import Report
from tasks.params.train_gan import TrainGan
from tasks.report import (
    cohort_tables,
    headline,
    image_panels,
    reader_section,
    remedies,
    report_page,
    wording,
)
from tasks.schemas.lift import Lift
from tasks.schemas.metrics import read_metrics
from tasks.schemas.review import read_review
from tasks.stage.stage_io import atomic_output
from tasks.stage.stage_runtime import run_stage

VOLUMES, SLICES, GAN = Path("data/volumes"), Path("data/slices"), Path("data/gan")
# The params of every stage before this one belong to the page's provenance.
SECTIONS = (
    "data", "phantom", "ingest", "slices", "synthetic", "train_gan", "generate", "gate", "teacher",
    "implant", "pool", "downstream", "lift",
)  # fmt: skip


def main() -> None:
    """Write `data/report.html`."""
    settings = params.read_section(Report)
    tree = params.load_params()
    folds = [str(fold) for fold in params.read_key("slices.folds")]
    batches = params.read_section(Data).batches
    smallest_cell = read_smallest_cell()
    review = read_review()
    candidate = exclude_flagged(read_candidate(folds), review)
    real = map_slice_set(SLICES, "slices.parquet")  # of which a few slices are shown
    stats = json.loads((SLICES / "stats.json").read_text())
    cohort = count_cohort(
        real.table, candidate.gates, smallest_cell, stats.get("unused_patients", {})
    )
    candidate, lift = hide_few_patients(
        candidate, read_metrics(Lift, Path("data/lift.json")), cohort, smallest_cell
    )
    manifests = read_tables(batches, "manifest.parquet")
    rejected = read_tables(batches, "rejected.parquet")
    histories = {fold: read_history(fold) for fold in folds}
    text = report_page.render_page(
        candidate=candidate,
        counts=report_page.count_slices(candidate),
        headline=headline.write_headline(
            candidate.accepted, lift, describe_patients(real.table["batch"])
        ),
        tasks=report_page.lift_sections(lift, smallest_cell, cohort),
        lift=lift,
        gates=report_page.gate_sections(candidate.gates, smallest_cell, cohort),
        reasons=report_page.rejection_reasons(candidate.gates),
        remedies=remedies.remedies(
            candidate.gates, params.read_section(TrainGan), histories.values()
        ),
        missing=report_page.missing_measures(candidate.gates),
        uncertain=report_page.uncertain_measures(candidate.gates),
        bounds={fold: gate.bounds for fold, gate in candidate.gates.items()},
        detectors=wording.DETECTORS,
        sheets=[
            image_panels.real_beside_synthetic(real, candidate, label=label, tiles=settings.tiles)
            for label in (1, 0)
        ],
        refused=image_panels.rejected_montages(candidate, tiles=8),
        closest=image_panels.closest_pairs(real, candidate, copies=False, count=settings.pairs),
        copies=image_panels.closest_pairs(real, candidate, copies=True, count=settings.pairs),
        readers=reader_section.reader_sections(review, candidate),
        trainings=[
            report_page.training_section(fold, read_config(fold), history)
            for fold, history in histories.items()
        ],
        source=params.read_key("synthetic.source"),
        batches=cohort_tables.batch_table(manifests, smallest_cell, cohort),
        matching=cohort_tables.matching_table(stats.get("matching", {})),
        cohort=[
            table
            for fold in folds
            for table in (
                cohort_tables.partition_table(real.table, fold, cohort, smallest_cell),
                cohort_tables.site_table(fold, cohort),
            )
        ],
        smallest_cell=smallest_cell,
        membership=cohort_tables.membership_table(candidate.gates, cohort),
        left_out=cohort_tables.skipped_table(stats.get("skipped", [])),
        rejected=cohort_tables.rejected_table(rejected),
        stats=stats,
        whose=describe_patients(real.table["batch"]),
        simulated=SIMULATED,
        parameters=report_page.parameters_as_yaml(
            {name: tree[name] for name in SECTIONS if name in tree}
        ),
        hashes=provenance_hashes(manifests, candidate.digest),
    )
    with atomic_output(Path("data/report.html")) as path:
        path.write_text(text)


def read_tables(batches: list[str], name: str) -> dict[str, pd.DataFrame]:
    """Read one table of every batch."""
    return {batch: pd.read_parquet(VOLUMES / batch / name) for batch in batches}


def read_config(fold: str) -> dict[str, Any]:
    """Read what `train_gan` wrote of a fold's generator."""
    config: dict[str, Any] = json.loads((GAN / fold / "config.json").read_text())
    return config


def read_history(fold: str) -> pd.DataFrame:
    """Read the history of a fold's training, empty where the source is from elsewhere."""
    path = GAN / fold / "history.csv"
    empty = not path.exists() or not path.read_text().strip()
    return pd.DataFrame() if empty else pd.read_csv(path)


def provenance_hashes(manifests: dict[str, pd.DataFrame], digest: str) -> dict[str, str]:
    """Compute what identifies the inputs: a digest of each batch's sources, the candidate's."""
    sources = {
        f"source files of batch {batch}": hashlib.sha256(
            "".join(sorted(manifest["source_sha256"])).encode()
        ).hexdigest()
        for batch, manifest in manifests.items()
    }
    return {**sources, "synthetic slices with their judgement": digest}


if __name__ == "__main__":
    run_stage(main)
