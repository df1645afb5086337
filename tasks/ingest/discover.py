"""Find the patients of a batch by headers and names, before any pixel is read.

Both `ingest` and `auglift scan` start here.
"""

import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence

from tasks.ingest.core.scan_record import ScanRecord
from tasks.ingest.core.source_file import Source
from tasks.ingest.dicom.sop_classes import READ_BY_PYDICOM
from tasks.ingest.files.list_files import FileKind
from tasks.ingest.images2d import image2d_scans
from tasks.ingest.nifti import nifti_scans
from tasks.ingest.output.batch_report import BatchReport
from tasks.ingest.patients.batch_context import BatchContext
from tasks.ingest.patients.group_by_patient import Patient, group_by_patient, list_patients
from tasks.ingest.patients.identify_files import identify_dicom_files
from tasks.ingest.patients.patient_id import Identity
from tasks.ingest.user_tables.files_csv import FilesTable
from tasks.ingest.user_tables.owner_tables import OwnerTables
from tasks.params.ingest import Ingest


def find_patients(
    files: Mapping[FileKind, list[Source]],
    tables: OwnerTables,
    context: BatchContext,
    report: BatchReport,
) -> list[Patient]:
    """Group the files of a batch by patient; enter those that belong to none in the report.

    DICOM files are grouped by their headers, NIfTI and 2D image files by their names; the owner's
    tables win over both.
    """
    dicom_files, settings = context.dicom_files, context.settings
    report.record_outcome(files["metadata"], "metadata")
    report.record_outcome(files["archive"], "archive")
    named_scans = find_named_scans(files, tables, settings, report)
    identities = identify_dicom_files(dicom_files, settings, tables.files, report.reject)
    warn_of_unused_rows(tables.files)
    by_id, unidentified = group_by_patient(
        identities, allow_unknown=settings.allow_unknown_patients
    )
    for group in unidentified:
        report.reject(group.rejections(dicom_files))
    load_libraries(identities, settings)
    return list_patients(by_id, named_scans, tables.sites, context.pseudonyms)


def find_named_scans(
    files: Mapping[FileKind, list[Source]],
    tables: OwnerTables,
    settings: Ingest,
    report: BatchReport,
) -> list[ScanRecord]:
    """Find the images and masks in NIfTI and 2D image files, whose names tell the patient."""
    of_nifti, rejected_nifti = nifti_scans.find_nifti_scans(
        files["nifti"],
        files["metadata"],
        tables.files,
        allow_unknown=settings.allow_unknown_patients,
        allow_synthetic=settings.allow_synthetic,
    )
    of_2d, rejected_2d = image2d_scans.find_image2d_scans(
        files["image2d"], settings, tables.images2d, tables.files
    )
    scans = [*of_nifti, *of_2d]
    report.reject([*rejected_nifti, *rejected_2d])
    warn_of_unlabelled_images(scans)
    return scans


def load_libraries(identities: Iterable[Identity], settings: Ingest) -> None:
    """Import the libraries that workers will need once, before the workers are forked."""
    if not all(one.parsed_fast and one.sop_class not in READ_BY_PYDICOM for one in identities):
        importlib.import_module("pydicom")
    if settings.brain_extraction:
        importlib.import_module("torch")


def warn_of_unlabelled_images(scans: Sequence[ScanRecord]) -> None:
    """Warn of 2D images with neither a known class nor a mask, without their folders' names."""
    images, folders = image2d_scans.count_unlabelled(scans)
    if images:
        print(
            f"ingest: {images} pictures in {folders} folders have no mask, and no folder's name"
            " is a known class such as yes, no, glioma or healthy: they count as unlabelled;"
            " `auglift scan` names the folders, the column label in files.csv tells their class",
            file=sys.stderr,
        )


def warn_of_unused_rows(files_table: FilesTable) -> None:
    """Warn of rows of `files.csv` that match no file of the batch."""
    if lines := files_table.unused_lines():
        shown = ", ".join(map(str, lines[:10])) + (", ..." if len(lines) > 10 else "")
        print(f"ingest: files.csv has rows for no file of the batch: line {shown}", file=sys.stderr)
