"""The patients of a batch, before any pixel is read: what ingest and `auglift scan` begin with."""

import sys
from collections.abc import Sequence
from pathlib import Path

from tasks.ingest.core.scan_record import ScanRecord
from tasks.ingest.images2d.collections import without_class
from tasks.ingest.output.batch_report import BatchReport
from tasks.ingest.patients.batch_context import BatchContext
from tasks.ingest.patients.patient_id import group_by_patient
from tasks.ingest.patients.patient_scans import Patient, largest_first
from tasks.ingest.survey import (
    identify_all,
    list_batch_files,
    list_nifti_and_2d_scans,
    load_libraries,
)
from tasks.ingest.user_tables.files_csv import FilesTable
from tasks.ingest.user_tables.owner_tables import OwnerTables


def find_patients(
    folder: Path,
    scratch: Path,
    plan: BatchContext,
    tables: OwnerTables,
    account: BatchReport,
) -> list[Patient]:
    """The patients of a batch; what is no patient's is accounted for."""
    roll, settings = plan.roll, plan.settings
    kinds = list_batch_files(folder, scratch, roll, settings, account.refuse)
    account.use(kinds["metadata"], "metadata")
    account.use(kinds["archive"], "archive")
    found, unclear = list_nifti_and_2d_scans(kinds, settings, tables)
    account.refuse(unclear)
    note_on_classes(found)
    files = identify_all(roll, settings, tables.files, account.refuse)
    note_on_table(tables.files)
    people, nobodys = group_by_patient(files, allow_unknown=settings.allow_unknown_patients)
    for nobody in nobodys:
        account.refuse(nobody.rejections(roll))
    load_libraries(files, settings)
    return largest_first(people, found, tables.sites, plan.names)


def note_on_classes(found: Sequence[ScanRecord]) -> None:
    """Say that pictures have neither a known class nor a mask; their folders' names stay here."""
    pictures, folders = without_class(found)
    if pictures:
        print(
            f"ingest: {pictures} pictures in {folders} folders have no mask, and no folder's name"
            " is a known class such as yes, no, glioma or healthy: they count as unlabelled;"
            " `auglift scan` names the folders, the column label in files.csv tells their class",
            file=sys.stderr,
        )


def note_on_table(table: FilesTable) -> None:
    """Say which rows of `files.csv` are about no file."""
    if lines := table.unused_lines():
        shown = ", ".join(map(str, lines[:10])) + (", ..." if len(lines) > 10 else "")
        print(f"ingest: files.csv has rows for no file of the batch: line {shown}", file=sys.stderr)
