"""Who a DICOM file's patient is: Patient ID, name, birth date and sex, without placeholders."""

import re
from dataclasses import dataclass
from functools import lru_cache

from tasks.ingest.core.placeholder_ids import is_placeholder, is_placeholder_birth_date
from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.core.source_file import Source
from tasks.ingest.dicom.attributes import read_attributes
from tasks.ingest.dicom.fast_parser import ENCAPSULATED, Tags
from tasks.ingest.privacy.pseudonyms import strip_sub_prefix

PATIENT = Tags(
    ("SOPClassUID", 0x00080016, "UI"),
    ("PatientName", 0x00100010, "PN"),
    ("PatientID", 0x00100020, "LO"),
    ("PatientBirthDate", 0x00100030, "DA"),
    ("PatientSex", 0x00100040, "CS"),
    stop=0x00100041,
)
STUDY = Tags(
    ("StudyInstanceUID", 0x0020000D, "UI"), ("SeriesInstanceUID", 0x0020000E, "UI"), stop=0x0020000F
)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a file's header says about its patient; a secret.

    `id`, `name` and `birth_date` are empty where the header holds none or a placeholder, `sex` is
    `M`, `F` or empty. `study` is read only where ID and name do not identify the patient.
    `parsed_fast` is whether ingest needs no pydicom for the file. `bare_word` is whether the ID is
    a word that nothing else in the header supports: an anonymiser may have written the same word
    for every patient. `from_files_csv` is whether `files.csv` names the patient.
    """

    id: str
    name: str
    birth_date: str
    study: str
    sop_class: str
    parsed_fast: bool
    sex: str = ""
    bare_word: bool = False
    from_files_csv: bool = False


def read_identity(source: Source) -> Identity:
    """Read a DICOM header as far as the patient's attributes.

    Raises:
        RejectionError: as `read_attributes`; `corrupt` without a SOP Class UID.
    """
    attributes = read_attributes(source, PATIENT)
    if not attributes.text("SOPClassUID"):
        raise RejectionError("corrupt", "no SOP Class UID (0008,0016)")
    words = (strip_sub_prefix(attributes.text("PatientID")), attributes.text("PatientName"))
    patient_id, name = ("" if is_placeholder(word) else word for word in words)
    birth_date = attributes.text("PatientBirthDate")
    birth_date = "" if is_placeholder_birth_date(birth_date) else birth_date
    bare_word = is_bare_word(patient_id, name, birth_date)
    study = ""
    if bare_word or (not patient_id and not name):
        uids = read_attributes(source, STUDY)
        study = uids.text("StudyInstanceUID") or uids.text("SeriesInstanceUID")
    sex = attributes.text("PatientSex")
    return Identity(
        id=patient_id,
        name=name,
        birth_date=birth_date,
        study=study,
        sop_class=attributes.text("SOPClassUID"),
        parsed_fast=attributes.parsed_fast
        and not attributes.transfer_syntax.startswith(ENCAPSULATED),
        sex=sex if sex in ("M", "F") else "",
        bare_word=bare_word,
    )


def identity_from_files_csv(identity: Identity, patient: str) -> Identity:
    """Return the identity of a file whose patient `files.csv` names; the header's is dropped."""
    return Identity(
        id=strip_sub_prefix(patient),
        name="",
        birth_date="",
        study="",
        sop_class=identity.sop_class,
        parsed_fast=identity.parsed_fast,
        from_files_csv=True,
    )


@lru_cache(8192)
def is_bare_word(patient_id: str, name: str, birth_date: str) -> bool:
    """Check whether an ID is letters alone, the name is equal or missing, and no birth date is set.

    Anonymisers write such a word into all fields of all patients, in languages that no list holds.
    """
    letters = {re.sub(r"[\W_]+", "", word).casefold() for word in (patient_id, name) if word}
    return not birth_date and len(letters) == 1 and not any(c.isdigit() for c in letters.pop())
