"""`ingest@BATCH`: what hospitals and archives hold becomes canonical volumes and two tables.

Reads `data/raw/BATCH/`; writes `data/volumes/BATCH/` (NIfTI in RAS+ orientation,
`manifest.parquet`, `rejected.parquet`, `facts.json`). Each file of the batch ends as a volume, a
mask, known metadata or a refusal with a code; `.private/` tells which, by its true path.
"""

import json
import sys
from functools import partial
from pathlib import Path

from tqdm import tqdm

from tasks import params, stage
from tasks.ingest import tables
from tasks.ingest.account import facts, nothing_read, reject_rows, summary, write_paths
from tasks.ingest.archive import workspace
from tasks.ingest.brain import check_installed
from tasks.ingest.convert import Converted, Plan, convert, given_up
from tasks.ingest.identity import persons
from tasks.ingest.overrides import read_overrides
from tasks.ingest.patient import Patient, by_patient
from tasks.ingest.people import read_sites
from tasks.ingest.privacy import Pseudonyms, load_key
from tasks.ingest.survey import identify_all, load_libraries, take_stock, told_by_name
from tasks.ingest.workers import quiet, run_all
from tasks.params.ingest import Ingest
from tasks.stage import StageError

RAW = Path("data/raw")
VOLUMES = Path("data/volumes")
PHANTOM = "phantom"  # the batch that holds nobody's scans
PUBLIC_KEY = (
    "warning: the pseudonyms are made with the public demo key, so anybody who guesses a patient's"
    " id can find the patient; put a secret into the variable AUGLIFT_KEY or the file"
    " .private/pseudonym.key, and its fingerprint into ingest.key_fingerprint"
)


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
    if names.public and batch != PHANTOM:
        print(f"ingest@{batch}: {PUBLIC_KEY}", file=sys.stderr)
    if settings.brain_extraction:
        check_installed()
    with quiet(), workspace(batch) as unpacked, stage.output(VOLUMES / batch) as volumes:
        kinds, rejected = take_stock(folder, unpacked, settings)
        found, unclear = told_by_name(kinds, folder, settings)
        files, unreadable = identify_all(kinds["dicom"], settings)
        people, nobodys = persons(files, allow_unknown=settings.allow_unknown_patients)
        load_libraries(files, settings)
        patients = by_patient(people, found, read_sites(folder), names)
        total = Converted(rejected=[*rejected, *unclear, *unreadable, *nobodys])
        total.used += [(source.name, "metadata") for source in kinds["metadata"]]
        total.used += [(source.name, "archive") for source in kinds["archive"]]
        plan = Plan(volumes, settings, names, read_overrides(folder))
        convert_all(patients, plan, total, label=f"ingest@{batch}")
        write_paths(batch, total, names)
        if not total.rows:
            raise StageError(nothing_read(folder, batch, total))
        tables.write_manifest(volumes / "manifest.parquet", total.rows)
        tables.write_rejected(volumes / "rejected.parquet", reject_rows(total.rejected, names))
        known = facts(total, public_key=names.public)
        (volumes / "facts.json").write_text(json.dumps(known, indent=1) + "\n")
    print(f"ingest@{batch}: {summary(total)}")


def convert_all(patients: list[Patient], plan: Plan, total: Converted, *, label: str) -> None:
    """Convert patients on all cores; rows come in the order of the patients."""
    results = run_all(
        partial(convert, plan=plan),
        patients,
        seconds=plan.settings.max_seconds,
        memory=plan.settings.worker_memory,
    )
    with tqdm(total=len(patients), desc=label, unit="patient", disable=None) as bar:
        for patient, result in zip(patients, results, strict=True):
            one = result if result is not None else given_up(patient, plan.folder)
            total.rows += one.rows
            total.rejected += one.rejected
            total.used += one.used
            bar.set_postfix(rejected=len(total.rejected))
            bar.update()


if __name__ == "__main__":
    stage.run(main)
