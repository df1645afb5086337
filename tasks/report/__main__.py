"""Stage `report`: everything the run found, as one page that needs nothing else.

Reads the volumes' tables, `data/slices`, `data/gan`, `data/synthetic`, `data/gate` and
`data/lift.json`; writes `data/report.html`.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd

from tasks import params, stage
from tasks.arrays import load_set
from tasks.candidate import SIMULATED, read_candidate, whose_slices
from tasks.params.data import Data
from tasks.params.report import Report
from tasks.report import cohort, page, pictures, words
from tasks.tables.lift import Lift
from tasks.tables.metrics import read_metrics

VOLUMES, SLICES, GAN = Path("data/volumes"), Path("data/slices"), Path("data/gan")
# Of every stage before this one: they belong to the page's provenance.
SECTIONS = (
    "data", "phantom", "ingest", "slices", "synthetic", "train_gan", "generate", "gate", "pool",
    "downstream", "lift",
)  # fmt: skip


def main() -> None:
    """Write `data/report.html`."""
    settings = params.read(Report)
    tree = params.load()
    folds = [str(fold) for fold in params.read_key("slices.folds")]
    batches = params.read(Data).batches
    candidate = read_candidate(folds)
    real = load_set(SLICES, "slices.parquet")
    stats = json.loads((SLICES / "stats.json").read_text())
    lift = read_metrics(Lift, Path("data/lift.json"))
    manifests = read_tables(batches, "manifest.parquet")
    rejected = read_tables(batches, "rejected.parquet")
    text = page.render(
        candidate=candidate,
        counts=page.counts(candidate),
        tasks=page.lift(lift),
        lift=lift,
        gates=page.gate(candidate.gates),
        reasons=page.reasons(candidate.gates),
        bounds={fold: gate.bounds for fold, gate in candidate.gates.items()},
        detectors=words.DETECTORS,
        sheets=[
            pictures.side_by_side(real, candidate, label=label, tiles=settings.tiles)
            for label in (1, 0)
        ],
        refused=pictures.refused(candidate, tiles=8),
        closest=pictures.pairs(real, candidate, copies=False, count=settings.pairs),
        copies=pictures.pairs(real, candidate, copies=True, count=settings.pairs),
        trainings=[read_training(fold) for fold in folds],
        source=params.read_key("synthetic.source"),
        batches=cohort.batches(manifests),
        matching=cohort.matching(stats.get("matching", {})),
        cohort=[
            table
            for fold in folds
            for table in (
                cohort.partitions(real.table, fold, stats.get("unused_patients", {}).get(fold, 0)),
                cohort.sites(real.table, fold),
            )
        ],
        left_out=cohort.left_out(stats.get("skipped", [])),
        rejected=cohort.refused(rejected),
        stats=stats,
        whose=whose_slices(real.table["batch"]),
        simulated=SIMULATED,
        parameters=page.as_text({name: tree[name] for name in SECTIONS if name in tree}),
        hashes=hashes(manifests, candidate.digest),
    )
    with stage.output(Path("data/report.html")) as path:
        path.write_text(text)


def read_tables(batches: list[str], name: str) -> dict[str, pd.DataFrame]:
    """One table of every batch."""
    return {batch: pd.read_parquet(VOLUMES / batch / name) for batch in batches}


def read_training(fold: str) -> page.FoldTraining:
    """What `train_gan` wrote of a fold; a source from elsewhere leaves an empty history."""
    config: dict[str, Any] = json.loads((GAN / fold / "config.json").read_text())
    path = GAN / fold / "history.csv"
    empty = not path.exists() or not path.read_text().strip()
    history = pd.DataFrame() if empty else pd.read_csv(path)
    return page.training(fold, config, history)


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
    stage.run(main)
