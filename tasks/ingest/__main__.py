"""Convert one batch of scans to NIfTI volumes and two tables: `python -m tasks.ingest BATCH`.

Reads `data/raw/BATCH/`; writes `data/volumes/BATCH/` (NIfTI in RAS+ orientation,
`manifest.parquet`, `rejected.parquet`, `facts.json`). Each file of the batch ends as a volume, a
mask, known metadata or a rejection with a code; `.private/` lists which, by the file's true path.
"""

import json
import os
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

from tqdm import tqdm

from tasks import params
from tasks.ingest.conversion.convert_patient import convert_patient, result_after_crash
from tasks.ingest.discover import find_patients
from tasks.ingest.files.batch_files import list_batch_files
from tasks.ingest.files.dicom_index import DicomFileIndex
from tasks.ingest.files.zip_archives import scratch_folder
from tasks.ingest.output import write_tables
from tasks.ingest.output.batch_report import BatchReport, no_volume_message, open_report
from tasks.ingest.patients.batch_context import BatchContext
from tasks.ingest.patients.group_by_patient import Patient
from tasks.ingest.preprocessing.brain_extraction import check_installed
from tasks.ingest.privacy.pseudonyms import Pseudonyms, load_key
from tasks.ingest.user_tables.owner_tables import read_owner_tables
from tasks.ingest.worker_pool import map_in_workers, silence_libraries
from tasks.params.ingest import Ingest
from tasks.stage.errors import InputError
from tasks.stage.processes import PROGRESS
from tasks.stage.stage_io import atomic_output
from tasks.stage.stage_runtime import run_stage

RAW = Path("data/raw")
VOLUMES = Path("data/volumes")
PHANTOM = "phantom"  # the batch that holds no patient's scans
PUBLIC_KEY = (
    "warning: the pseudonyms are made with the public demo key, so anybody who guesses a patient's"
    " id can find the patient; put a secret into the variable AUGLIFT_KEY or the file"
    " .private/pseudonym.key, and its fingerprint into ingest.key_fingerprint"
)


def main(batch: str) -> None:
    """Ingest one batch: list files, find patients, convert each of them, write the tables.

    Raises:
        InputError: no folder for the batch, a wrong table or key, or no volume that can be read.
    """
    settings = params.read_section(Ingest)
    folder = RAW / batch
    if not folder.is_dir():
        raise InputError(
            f"{folder} is not there; data.batches in params.yaml lists {batch!r}: put its files"
            " into that folder, or take it out of the list"
        )
    pseudonyms = Pseudonyms(load_key(settings.key_fingerprint))
    if pseudonyms.public and batch != PHANTOM:
        print(f"ingest@{batch}: {PUBLIC_KEY}", file=sys.stderr)
    if settings.brain_extraction:
        check_installed()
    with (
        silence_libraries(),
        atomic_output(VOLUMES / batch) as volumes,
        scratch_folder(batch) as scratch,
    ):
        tables = read_owner_tables(folder)
        dicom_files = DicomFileIndex(scratch / "dicom_files")
        context = BatchContext(
            volumes, dicom_files, settings, pseudonyms, tables.series_modalities, tables.files
        )
        with open_report(batch, pseudonyms) as report:
            files = list_batch_files(folder, scratch, dicom_files, settings, report.reject)
            patients = find_patients(files, tables, context, report)
            convert_patients(patients, context, report, label=f"ingest@{batch}")
        if not report.volumes:
            raise InputError(no_volume_message(folder, batch, report))
        write_tables.write_manifest(volumes / "manifest.parquet", report.volumes)
        write_tables.write_rejected(volumes / "rejected.parquet", report.rejected)
        (volumes / "facts.json").write_text(json.dumps(report.facts(), indent=1) + "\n")
    print(f"ingest@{batch}: {report.summary()}")


def convert_patients(
    patients: list[Patient], context: BatchContext, report: BatchReport, *, label: str
) -> None:
    """Convert patients on all cores; enter the results in the order of the patients."""
    converted = map_in_workers(
        partial(convert_patient, context=context),
        patients,
        seconds=context.settings.max_seconds,
        memory=context.settings.worker_memory,
    )
    hidden = False if PROGRESS in os.environ else None  # None: without a terminal
    with (
        closing(converted) as results,  # an interrupted stage removes its output after the workers
        tqdm(total=len(patients), desc=label, unit="patient", disable=hidden) as bar,
    ):
        for patient, result in results:
            report.add_patient(
                result if result is not None else result_after_crash(patient, context)
            )
            bar.set_postfix(rejected=len(report.rejected))
            bar.update()


if __name__ == "__main__":
    run_stage(main)
