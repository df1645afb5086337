"""A patient's files, and what they show once their headers are read."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tasks.ingest.core.rejection import Rejection, RejectionError
from tasks.ingest.core.scan_record import ScanRecord
from tasks.ingest.core.source_file import Source
from tasks.ingest.dicom import series_grouping
from tasks.ingest.dicom.header import Header, read_header
from tasks.ingest.files.dicom_index import Entries
from tasks.ingest.nifti.nifti_scans import OWNER_SKIPS, with_modality
from tasks.ingest.patients.batch_context import BatchContext
from tasks.ingest.patients.patient_id import PatientFiles
from tasks.ingest.privacy.pseudonyms import Pseudonyms, bare_id
from tasks.ingest.user_tables.files_csv import FilesTable
from tasks.ingest.user_tables.older_tables import apply_series_modalities
from tasks.ingest.user_tables.participants_tsv import site_of


@dataclass(frozen=True, slots=True)
class Patient:
    """Files of one patient, headers unread; `subject` is safe to write, `id` is a secret.

    `files` are DICOM; `found` are images and masks told by their names; `size` is the bytes of
    all. `owner_site` is what the batch's owner wrote down.
    """

    subject: str
    id: str
    known: bool
    owner_site: str
    files: Entries
    found: tuple[ScanRecord, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return self.files.size + sum(s.size for one in self.found for s in one.sources)


@dataclass(frozen=True)
class Scans:
    """Images and masks of a patient, by name; `subject` and `site` are safe to write."""

    subject: str
    site: str
    images: tuple[ScanRecord, ...]
    masks: tuple[ScanRecord, ...]

    @property
    def all_found(self) -> tuple[ScanRecord, ...]:
        """Images and masks."""
        return (*self.images, *self.masks)


def largest_first(
    people: Mapping[str, PatientFiles],
    found: Sequence[ScanRecord],
    sites: dict[str, str],
    names: Pseudonyms,
) -> list[Patient]:
    """Patients, those with most bytes first; one with DICOM and NIfTI files is one.

    So the largest volumes of a batch are held together at its start, not by chance at any time,
    and no core waits at its end for another's large one.
    """
    ids: dict[str, str] = {}
    files: dict[str, Entries] = defaultdict(Entries)
    others: dict[str, list[ScanRecord]] = defaultdict(list)
    known: dict[str, bool] = defaultdict(lambda: True)
    for person_id, person in people.items():
        subject = names.subject(person_id)
        ids[subject] = person_id
        files[subject].update(person.files)
        known[subject] &= person.known
    for one in found:
        subject = names.subject(one.patient)
        ids.setdefault(subject, one.patient)
        others[subject].append(one)
    patients = [
        Patient(
            subject=subject,
            id=ids[subject],
            known=known[subject],
            owner_site=sites.get(bare_id(ids[subject]), ""),
            files=files[subject],
            found=tuple(others[subject]),
        )
        for subject in ids
    ]
    return sorted(patients, key=lambda patient: (-patient.size, patient.subject))


def read_patient_scans(patient: Patient, plan: BatchContext) -> tuple[Scans, list[Rejection]]:
    """Read the headers of a patient's DICOM files and sort all that is there."""
    settings = plan.settings
    files, skipped = without_skipped(
        sorted(plan.roll.read(patient.files), key=lambda source: source.name), plan.table
    )
    headers, rejected = read_headers(files)
    of_dicom, refused = series_grouping.survey(
        headers, patient=patient.id, known=patient.known, settings=settings
    )
    of_dicom = [as_owner_says(one, plan.table) for one in of_dicom]
    found, also_skipped = apply_series_modalities([*of_dicom, *patient.found], plan.overrides)
    found.sort(key=lambda one: (one.name, one.channel or 0))
    equipment = next((one.equipment for one in found if one.equipment.strip("|")), "")
    scans = Scans(
        subject=patient.subject,
        site=site_of(patient.owner_site, equipment, plan.names),
        images=tuple(one for one in found if one.role == "image"),
        masks=tuple(one for one in found if one.role == "mask"),
    )
    return scans, [*rejected, *refused, *skipped, *also_skipped]


def without_skipped(files: list[Source], table: FilesTable) -> tuple[list[Source], list[Rejection]]:
    """DICOM files but for those that `files.csv` skips, which are one rejection a row."""
    if not table:
        return files, []
    kept: list[Source] = []
    skipped: dict[str, list[Source]] = defaultdict(list)
    for source in files:
        said = table.says(source.name)
        if said is not None and said.role == "skip":
            skipped[said.path].append(source)
        else:
            kept.append(source)
    return kept, [Rejection(tuple(some), *OWNER_SKIPS) for some in skipped.values()]


def as_owner_says(one: ScanRecord, table: FilesTable) -> ScanRecord:
    """A DICOM series with the session, contrast and role of its first file's row."""
    said = table.says(one.sources[0].name) if table else None
    if said is None:
        return one
    if said.session is not None:
        one = replace(one, session=said.session)
    if said.role in ("image", "mask"):
        one = replace(one, role="mask" if said.role == "mask" else "image")
    return with_modality(one, said.modality) if one.role == "image" else one


def read_headers(sources: Sequence[Source]) -> tuple[list[Header], list[Rejection]]:
    """The headers of DICOM files, and those that have none."""
    headers: list[Header] = []
    rejected: list[Rejection] = []
    for source in sources:
        try:
            headers.append(read_header(source))
        except RejectionError as refusal:
            rejected.append(Rejection((source,), refusal.code, refusal.reason))
    return headers, rejected
