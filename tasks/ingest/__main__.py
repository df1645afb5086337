"""`ingest@BATCH`: what hospitals and archives hold becomes canonical volumes and two tables.

Reads `data/raw/BATCH/`; writes `data/volumes/BATCH/` (NIfTI in RAS+ orientation,
`manifest.parquet`, `rejected.parquet`). Each file of the batch ends as a volume, a mask, known
metadata or a refusal with a code; `.private/` tells which, by its true path.
"""

from functools import partial
from pathlib import Path

from tqdm import tqdm

from tasks import params, stage
from tasks.ingest import tables
from tasks.ingest.account import nothing_read, reject_rows, summary, write_paths
from tasks.ingest.archive import workspace
from tasks.ingest.patient import Converted, Patient, by_patient, convert, given_up
from tasks.ingest.people import read_sites
from tasks.ingest.privacy import Pseudonyms, load_key
from tasks.ingest.survey import survey, take_stock
from tasks.ingest.workers import quiet, run_all
from tasks.params.ingest import Ingest
from tasks.stage import StageError

RAW = Path("data/raw")
VOLUMES = Path("data/volumes")


def main(batch: str) -> None:
    """Ingest one batch."""
    settings = params.read(Ingest)
    folder = RAW / batch
    if not folder.is_dir():
        raise StageError(
            f"{folder} is not there; data.batches in params.yaml lists {batch!r}: put its files"
            " into that folder, or take it out of the list"
        )
    names = Pseudonyms(load_key(settings.key_fingerprint))
    with quiet(), workspace(batch) as unpacked, stage.output(VOLUMES / batch) as volumes:
        kinds, rejected = take_stock(folder, unpacked, settings)
        found, refused = survey(kinds, folder, settings)
        patients = by_patient(found, read_sites(folder), names)
        total = Converted(rejected=rejected + refused)
        total.used += [(source.name, "metadata") for source in kinds["metadata"]]
        total.used += [(source.name, "archive") for source in kinds["archive"]]
        convert_all(patients, volumes, settings, total, label=f"ingest@{batch}")
        write_paths(batch, total, names)
        if not total.rows:
            raise StageError(nothing_read(folder, batch, total))
        tables.write_manifest(volumes / "manifest.parquet", total.rows)
        tables.write_rejected(volumes / "rejected.parquet", reject_rows(total.rejected, names))
    print(f"ingest@{batch}: {summary(total)}")


def convert_all(
    patients: list[Patient], volumes: Path, settings: Ingest, total: Converted, *, label: str
) -> None:
    """Convert patients on all cores; rows come in the order of the patients."""
    if any(found.needs_highdicom for patient in patients for found in patient.all_found):
        import highdicom  # noqa: F401  (once, before the workers fork)
    results = run_all(
        partial(convert, folder=volumes, params=settings),
        patients,
        seconds=settings.max_seconds,
        memory=settings.worker_memory,
    )
    with tqdm(total=len(patients), desc=label, unit="patient", disable=None) as bar:
        for patient, result in zip(patients, results, strict=True):
            one = result if result is not None else given_up(patient, volumes)
            total.rows += one.rows
            total.rejected += one.rejected
            total.used += one.used
            bar.set_postfix(refused=len(total.rejected))
            bar.update()


if __name__ == "__main__":
    stage.run(main)
