"""Read the headers of one patient's DICOM files and list all images and masks of the patient."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tasks.ingest.core.rejection import Rejection, RejectionError
from tasks.ingest.core.scan_record import ScanRecord
from tasks.ingest.core.source_file import Source
from tasks.ingest.dicom.dicom_scans import find_dicom_scans
from tasks.ingest.dicom.header import Header, read_header
from tasks.ingest.patients.batch_context import BatchContext
from tasks.ingest.patients.group_by_patient import Patient
from tasks.ingest.user_tables.files_csv import OWNER_SKIPS, FilesTable, apply_modality
from tasks.ingest.user_tables.older_tables import apply_series_modalities
from tasks.ingest.user_tables.participants_tsv import site_label


@dataclass(frozen=True)
class PatientScans:
    """Images and masks of a patient, sorted by name; `subject` and `site` may be written."""

    subject: str
    site: str
    images: tuple[ScanRecord, ...]
    masks: tuple[ScanRecord, ...]

    @property
    def all_scans(self) -> tuple[ScanRecord, ...]:
        """Images and masks."""
        return (*self.images, *self.masks)


def read_patient_scans(
    patient: Patient, context: BatchContext
) -> tuple[PatientScans, list[Rejection]]:
    """Read the headers of a patient's DICOM files; return all images and masks, and rejections."""
    sources = sorted(
        context.dicom_files.read_sources(patient.dicom_files), key=lambda source: source.name
    )
    sources, skipped = drop_skipped(sources, context.files_table)
    headers, unreadable = read_headers(sources)
    dicom_scans, rejected = find_dicom_scans(
        headers, patient=patient.id, known=patient.known, settings=context.settings
    )
    dicom_scans = [apply_files_table(scan, context.files_table) for scan in dicom_scans]
    scans, skipped_series = apply_series_modalities(
        [*dicom_scans, *patient.named_scans], context.series_modalities
    )
    scans.sort(key=lambda scan: (scan.name, scan.channel or 0))
    equipment = next((scan.equipment for scan in scans if scan.equipment.strip("|")), "")
    patient_scans = PatientScans(
        subject=patient.subject,
        site=site_label(patient.site_in_table, equipment, context.pseudonyms),
        images=tuple(scan for scan in scans if scan.role == "image"),
        masks=tuple(scan for scan in scans if scan.role == "mask"),
    )
    return patient_scans, [*unreadable, *rejected, *skipped, *skipped_series]


def drop_skipped(
    sources: list[Source], files_table: FilesTable
) -> tuple[list[Source], list[Rejection]]:
    """Separate the DICOM files that `files.csv` skips; they are one rejection for each row."""
    if not files_table:
        return sources, []
    taken: list[Source] = []
    skipped: dict[str, list[Source]] = defaultdict(list)
    for source in sources:
        row = files_table.row_of(source.name)
        if row is not None and row.role == "skip":
            skipped[row.path].append(source)
        else:
            taken.append(source)
    return taken, [Rejection(tuple(group), *OWNER_SKIPS) for group in skipped.values()]


def read_headers(sources: Sequence[Source]) -> tuple[list[Header], list[Rejection]]:
    """Read the headers of DICOM files; files whose header is unreadable are rejections."""
    headers: list[Header] = []
    rejected: list[Rejection] = []
    for source in sources:
        try:
            headers.append(read_header(source))
        except RejectionError as error:
            rejected.append(Rejection((source,), error.code, error.reason))
    return headers, rejected


def apply_files_table(scan: ScanRecord, files_table: FilesTable) -> ScanRecord:
    """Set session, role and contrast of a DICOM series from the row of its first file."""
    row = files_table.row_of(scan.sources[0].name) if files_table else None
    if row is None:
        return scan
    if row.session is not None:
        scan = replace(scan, session=row.session)
    if row.role in ("image", "mask"):
        scan = replace(scan, role="mask" if row.role == "mask" else "image")
    return apply_modality(scan, row.modality) if scan.role == "image" else scan


def session_label(scans: PatientScans, image: ScanRecord) -> str | None:
    """Return `ses-01`, `ses-02` in order of time, without dates; None where no session is known."""
    if image.session is None:
        return None
    times: dict[str, str] = {}
    for scan in scans.all_scans:
        if scan.session is not None:
            times[scan.session] = min(
                scan.session_order, times.get(scan.session, scan.session_order)
            )
    sessions = sorted(times, key=lambda session: (times[session], session))
    return f"ses-{sessions.index(image.session) + 1:02d}"
