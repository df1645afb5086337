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

from tasks import params
from tasks.ingest.conversion.convert_patient import convert_patient, result_after_crash
from tasks.ingest.discover import find_patients
from tasks.ingest.files.dicom_index import DicomFileIndex
from tasks.ingest.files.zip_archives import workspace
from tasks.ingest.output import write_tables
from tasks.ingest.output.batch_report import BatchReport, nothing_read, open_report
from tasks.ingest.patients.batch_context import BatchContext
from tasks.ingest.patients.patient_scans import Patient
from tasks.ingest.preprocessing.brain_extraction import check_installed
from tasks.ingest.privacy.pseudonyms import Pseudonyms, load_key
from tasks.ingest.user_tables.owner_tables import read_owner_tables
from tasks.ingest.worker_pool import map_in_workers, silence_libraries
from tasks.params.ingest import Ingest
from tasks.stage.errors import InputError
from tasks.stage.stage_io import atomic_output
from tasks.stage.stage_runtime import run_stage

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
        raise InputError(
            f"{folder} is not there; data.batches in params.yaml lists {batch!r}: put its files"
            " into that folder, or take it out of the list"
        )
    names = Pseudonyms(load_key(settings.key_fingerprint))
    if names.public and batch != PHANTOM:
        print(f"ingest@{batch}: {PUBLIC_KEY}", file=sys.stderr)
    if settings.brain_extraction:
        check_installed()
    with (
        silence_libraries(),
        atomic_output(VOLUMES / batch) as volumes,
        workspace(batch) as scratch,
    ):
        roll, tables = DicomFileIndex(scratch / "roll"), read_owner_tables(folder)
        plan = BatchContext(volumes, roll, settings, names, tables.series_modalities, tables.files)
        with open_report(batch, names) as account:
            patients = find_patients(folder, scratch, plan, tables, account)
            convert_all(patients, plan, account, label=f"ingest@{batch}")
        if not account.volumes:
            raise InputError(nothing_read(folder, batch, account))
        write_tables.write_manifest(volumes / "manifest.parquet", account.volumes)
        write_tables.write_rejected(volumes / "rejected.parquet", account.rejected)
        (volumes / "facts.json").write_text(json.dumps(account.facts(), indent=1) + "\n")
    print(f"ingest@{batch}: {account.summary()}")


def convert_all(
    patients: list[Patient], plan: BatchContext, account: BatchReport, *, label: str
) -> None:
    """Convert patients on all cores; they are entered in their order, whoever is done first."""
    results = map_in_workers(
        partial(convert_patient, plan=plan),
        patients,
        seconds=plan.settings.max_seconds,
        memory=plan.settings.worker_memory,
    )
    with tqdm(total=len(patients), desc=label, unit="patient", disable=None) as bar:
        for patient, result in results:
            account.enter(result if result is not None else result_after_crash(patient, plan))
            bar.set_postfix(rejected=len(account.rejected))
            bar.update()


if __name__ == "__main__":
    run_stage(main)
