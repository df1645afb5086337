"""Group files by patient: DICOM files by the identity in their headers, other scans by their names.

DICOM files without an identified patient are rejected. Where `ingest.allow_unknown_patients` is
set, each study counts instead as a patient of its own, marked as unknown; so does each of several
patients who share one Patient ID. Two patients under one ID are never merged.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from tasks.ingest.core.rejection import Rejection
from tasks.ingest.core.scan_record import ScanRecord
from tasks.ingest.files.dicom_index import DicomFileIndex, RecordRanges
from tasks.ingest.patients.patient_id import Identity
from tasks.ingest.privacy.pseudonyms import Pseudonyms, strip_sub_prefix

MOST_SPELLINGS = 100  # of one patient's identity


@dataclass(slots=True)
class PatientFiles:
    """One patient's DICOM files; `known` is whether their headers identify the patient."""

    known: bool
    files: RecordRanges


@dataclass(frozen=True)
class UnidentifiedFiles:
    """DICOM files without an identified patient, with the code and reason of their rejection."""

    files: RecordRanges
    code: str
    reason: str

    def rejections(self, dicom_files: DicomFileIndex) -> Iterator[Rejection]:
        """Yield one rejection for each file."""
        for source in dicom_files.read_sources(self.files):
            yield Rejection((source,), self.code, self.reason)


@dataclass(frozen=True, slots=True)
class Patient:
    """One patient's files before their headers are read; `subject` may be written, `id` is secret.

    `named_scans` are the images and masks in NIfTI and 2D image files, which are recognised by
    their names. `site_in_table` is the site in `participants.tsv`, or empty.
    """

    subject: str
    id: str
    known: bool
    site_in_table: str
    dicom_files: RecordRanges
    named_scans: tuple[ScanRecord, ...]

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return self.dicom_files.size + sum(s.size for one in self.named_scans for s in one.sources)


def group_by_patient(
    identities: Mapping[Identity, RecordRanges], *, allow_unknown: bool
) -> tuple[dict[str, PatientFiles], list[UnidentifiedFiles]]:
    """Group DICOM files by raw patient ID; return the files of no known patient beside them."""
    by_id: dict[str, list[Identity]] = defaultdict(list)
    for identity in identities:
        if not identity.from_files_csv:
            by_id[identity.id or identity.name].append(identity)
    patients: dict[str, PatientFiles] = {}
    unidentified: list[UnidentifiedFiles] = []

    def add(patient_id: str, identity: Identity, *, known: bool) -> None:
        files = patients.setdefault(patient_id, PatientFiles(known, RecordRanges())).files
        files.update(identities[identity])

    for identity in identities:
        if identity.from_files_csv:
            add(identity.id, identity, known=True)
    for patient_id, group in by_id.items():
        code, reason = why_unidentified(patient_id, group)
        for identity in group:
            if not code:
                add(patient_id, identity, known=True)
            elif allow_unknown:
                fields = (identity.name, identity.birth_date, identity.sex, identity.study)
                add("|".join((patient_id, *fields)), identity, known=False)
            else:
                unidentified.append(UnidentifiedFiles(identities[identity], code, reason))
    return patients, unidentified


def why_unidentified(patient_id: str, group: Sequence[Identity]) -> tuple[str, str]:
    """Return the rejection code and reason if one ID's identities are no known patient, else ""."""
    if not patient_id:
        return "patient-unknown", "neither Patient ID nor Patient's Name, or placeholders"
    if is_shared_by_several_patients(group):
        return "patient-ambiguous", "one Patient ID bears different names, birth dates or sexes"
    if all(one.bare_word for one in group) and len({one.study for one in group}) > 1:
        reason = "one word stands as ID and name in several studies, without a birth date"
        return "patient-unknown", reason
    return "", ""


def is_shared_by_several_patients(group: Sequence[Identity]) -> bool:
    """Check whether the identities with one ID cannot all be the same patient."""
    if len(group) > MOST_SPELLINGS:
        return True
    return not all(may_be_same_patient(one, other) for one, other in combinations(group, 2))


def may_be_same_patient(one: Identity, other: Identity) -> bool:
    """Compare birth dates if both have one, else check that names share a word or one is empty.

    Two sexes are two patients in any case.
    """
    if one.sex and other.sex and one.sex != other.sex:
        return False
    if one.birth_date and other.birth_date:
        return one.birth_date == other.birth_date
    names = [set(re.findall(r"\w+", identity.name.casefold())) for identity in (one, other)]
    return not all(names) or bool(names[0] & names[1])


def list_patients(
    dicom_patients: Mapping[str, PatientFiles],
    named_scans: Sequence[ScanRecord],
    sites: Mapping[str, str],
    pseudonyms: Pseudonyms,
) -> list[Patient]:
    """List patients, those with most bytes first; a patient's DICOM, NIfTI and 2D files are merged.

    The largest volumes are thus in memory together at the start of a batch, so peak memory is seen
    early, and no worker still converts a large patient when the others have finished.
    """
    ids: dict[str, str] = {}
    dicom_files: dict[str, RecordRanges] = defaultdict(RecordRanges)
    scans: dict[str, list[ScanRecord]] = defaultdict(list)
    known: dict[str, bool] = defaultdict(lambda: True)
    for patient_id, patient_files in dicom_patients.items():
        subject = pseudonyms.subject(patient_id)
        ids[subject] = patient_id
        dicom_files[subject].update(patient_files.files)
        known[subject] &= patient_files.known
    for scan in named_scans:
        subject = pseudonyms.subject(scan.patient)
        ids.setdefault(subject, scan.patient)
        scans[subject].append(scan)
    patients = [
        Patient(
            subject=subject,
            id=ids[subject],
            known=known[subject],
            site_in_table=sites.get(strip_sub_prefix(ids[subject]), ""),
            dicom_files=dicom_files[subject],
            named_scans=tuple(scans[subject]),
        )
        for subject in ids
    ]
    return sorted(patients, key=lambda patient: (-patient.size, patient.subject))
