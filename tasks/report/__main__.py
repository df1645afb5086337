"""Stage `report`: everything the run found, as one page that needs nothing else.

Reads the volumes' tables, `data/slices`, `data/gan`, `data/synthetic`, `data/gate` and
`data/lift.json`; writes `data/report.html`.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd

from tasks import params
from tasks.common.release_candidate import SIMULATED, read_candidate, whose_slices
from tasks.common.slice_set import read_slice_set
from tasks.params.data import Data
from tasks.params.report import Report
from tasks.report import cohort_tables, image_panels, report_page, wording
from tasks.schemas.lift import Lift
from tasks.schemas.metrics import read_metrics
from tasks.stage.stage_io import atomic_output
from tasks.stage.stage_runtime import run_stage

VOLUMES, SLICES, GAN = Path("data/volumes"), Path("data/slices"), Path("data/gan")
# Of every stage before this one: they belong to the page's provenance.
SECTIONS = (
    "data", "phantom", "ingest", "slices", "synthetic", "train_gan", "generate", "gate", "pool",
    "downstream", "lift",
)  # fmt: skip


def main() -> None:
    """Write `data/report.html`."""
    settings = params.read_section(Report)
    tree = params.load_params()
    folds = [str(fold) for fold in params.read_key("slices.folds")]
    batches = params.read_section(Data).batches
    candidate = read_candidate(folds)
    real = read_slice_set(SLICES, "slices.parquet")
    stats = json.loads((SLICES / "stats.json").read_text())
    lift = read_metrics(Lift, Path("data/lift.json"))
    manifests = read_tables(batches, "manifest.parquet")
    rejected = read_tables(batches, "rejected.parquet")
    text = report_page.render(
        candidate=candidate,
        counts=report_page.counts(candidate),
        tasks=report_page.lift(lift),
        lift=lift,
        gates=report_page.gate(candidate.gates),
        reasons=report_page.reasons(candidate.gates),
        missing=report_page.missing(candidate.gates),
        bounds={fold: gate.bounds for fold, gate in candidate.gates.items()},
        detectors=wording.DETECTORS,
        sheets=[
            image_panels.side_by_side(real, candidate, label=label, tiles=settings.tiles)
            for label in (1, 0)
        ],
        refused=image_panels.refused(candidate, tiles=8),
        closest=image_panels.pairs(real, candidate, copies=False, count=settings.pairs),
        copies=image_panels.pairs(real, candidate, copies=True, count=settings.pairs),
        trainings=[read_training(fold) for fold in folds],
        source=params.read_key("synthetic.source"),
        batches=cohort_tables.batches(manifests),
        matching=cohort_tables.matching(stats.get("matching", {})),
        cohort=[
            table
            for fold in folds
            for table in (
                cohort_tables.partitions(
                    real.table, fold, stats.get("unused_patients", {}).get(fold, 0)
                ),
                cohort_tables.sites(real.table, fold),
            )
        ],
        left_out=cohort_tables.left_out(stats.get("skipped", [])),
        rejected=cohort_tables.refused(rejected),
        stats=stats,
        whose=whose_slices(real.table["batch"]),
        simulated=SIMULATED,
        parameters=report_page.as_text({name: tree[name] for name in SECTIONS if name in tree}),
        hashes=hashes(manifests, candidate.digest),
    )
    with atomic_output(Path("data/report.html")) as path:
        path.write_text(text)


def read_tables(batches: list[str], name: str) -> dict[str, pd.DataFrame]:
    """One table of every batch."""
    return {batch: pd.read_parquet(VOLUMES / batch / name) for batch in batches}


def read_training(fold: str) -> report_page.FoldTraining:
    """What `train_gan` wrote of a fold; a source from elsewhere leaves an empty history."""
    config: dict[str, Any] = json.loads((GAN / fold / "config.json").read_text())
    path = GAN / fold / "history.csv"
    empty = not path.exists() or not path.read_text().strip()
    history = pd.DataFrame() if empty else pd.read_csv(path)
    return report_page.training(fold, config, history)


def hashes(manifests: dict[str, pd.DataFrame], digest: str) -> dict[str, str]:
    """What names the inputs: a digest of each batch's source files, and of the candidate."""
    found = {
        f"source files of batch {batch}": hashlib.sha256(
            "".join(sorted(manifest["source_sha256"])).encode()
        ).hexdigest()
        for batch, manifest in manifests.items()
    }
    return {**found, "synthetic slices with their judgement": digest}


if __name__ == "__main__":
    run_stage(main)
