"""Whose DICOM files are whose: by Patient ID, unless it is a placeholder or names two people.

Files without a person are refused, or, where `ingest.allow_unknown_patients` says so, each study
(or, where a Patient ID stands for several people, each of these) counts as a patient of its own,
marked as unknown. Two people under one id are never merged.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

from tasks.ingest.core.placeholder_ids import is_no_birth_date, is_placeholder
from tasks.ingest.core.rejection import Rejection, RejectionError
from tasks.ingest.core.source_file import Source
from tasks.ingest.dicom.attributes import read_attributes
from tasks.ingest.dicom.fast_parser import ENCAPSULATED, Tags
from tasks.ingest.files.dicom_index import DicomFileIndex, Entries
from tasks.ingest.privacy.pseudonyms import bare_id

PERSON = Tags(
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
MOST_SPELLINGS = 100  # of one person


@dataclass(frozen=True, slots=True)
class Identity:
    """What a file says of its person; a secret. `study` is read only where it is needed.

    `quick` is whether ingest needs no pydicom for the file, `kind` its SOP class; `by_owner` is
    whether `files.csv` names the person, and `word` whether the ID is a word that nothing else in
    the header supports: an anonymiser may have written it for everybody.
    """

    id: str
    name: str
    birth: str
    study: str
    kind: str
    quick: bool
    sex: str = ""
    word: bool = False
    by_owner: bool = False


def identify(source: Source) -> Identity:
    """Read as far as the person.

    Raises:
        RefusalError: see `read_fields`.
    """
    fields = read_attributes(source, PERSON)
    if not fields.text("SOPClassUID"):
        raise RejectionError("corrupt", "no SOP Class UID (0008,0016)")
    words = (bare_id(fields.text("PatientID")), fields.text("PatientName"))
    number, name = ("" if is_placeholder(word) else word for word in words)
    birth = fields.text("PatientBirthDate")
    birth = "" if is_no_birth_date(birth) else birth
    word = is_bare_word(number, name, birth)
    study = ""
    if word or (not number and not name):
        more = read_attributes(source, STUDY)
        study = more.text("StudyInstanceUID") or more.text("SeriesInstanceUID")
    quick = fields.quick and not fields.transfer_syntax.startswith(ENCAPSULATED)
    sex = fields.text("PatientSex")
    sex = sex if sex in ("M", "F") else ""
    kind = fields.text("SOPClassUID")
    return Identity(number, name, birth, study, kind, quick, sex=sex, word=word)


def named_by_owner(identity: Identity, patient: str) -> Identity:
    """The identity of a file whose person `files.csv` names: the header's is no longer asked."""
    return Identity(bare_id(patient), "", "", "", identity.kind, identity.quick, by_owner=True)


@lru_cache(8192)
def is_bare_word(number: str, name: str, birth: str) -> bool:
    """Whether an ID is letters alone, and the name repeats it or is missing, and no birth date.

    Anonymisers write such a word, in a language that no list holds, into all fields of everybody.
    """
    letters = {re.sub(r"[\W_]+", "", word).casefold() for word in (number, name) if word}
    return not birth and len(letters) == 1 and not any(c.isdigit() for c in letters.pop())


@dataclass(slots=True)
class PatientFiles:
    """One person's DICOM files; `known` is whether they say who it is."""

    known: bool
    files: Entries


@dataclass(frozen=True)
class UnidentifiedFiles:
    """Files of nobody, or of somebody undecided."""

    files: Entries
    code: str
    reason: str

    def rejections(self, roll: DicomFileIndex) -> Iterator[Rejection]:
        """One a file."""
        for source in roll.read(self.files):
            yield Rejection((source,), self.code, self.reason)


def group_by_patient(
    files: Mapping[Identity, Entries], *, allow_unknown: bool
) -> tuple[dict[str, PatientFiles], list[UnidentifiedFiles]]:
    """Patients by raw id, and the files that are no patient's."""
    by_id: dict[str, list[Identity]] = defaultdict(list)
    for identity in files:
        if not identity.by_owner:
            by_id[identity.id or identity.name].append(identity)
    people: dict[str, PatientFiles] = {}
    nobodys: list[UnidentifiedFiles] = []

    def add(key: str, identity: Identity, *, known: bool) -> None:
        people.setdefault(key, PatientFiles(known, Entries())).files.update(files[identity])

    for identity in files:
        if identity.by_owner:
            add(identity.id, identity, known=True)
    for key, group in by_id.items():
        code, reason = trouble(key, group)
        for identity in group:
            if not code:
                add(key, identity, known=True)
            elif allow_unknown:
                own = f"{key}|{identity.name}|{identity.birth}|{identity.sex}|{identity.study}"
                add(own, identity, known=False)
            else:
                nobodys.append(UnidentifiedFiles(files[identity], code, reason))
    return people, nobodys


def trouble(key: str, bearers: Sequence[Identity]) -> tuple[str, str]:
    """The code and reason for which the bearers of one id are no known person; else empty."""
    if not key:
        return "patient-unknown", "neither Patient ID nor Patient's Name, or placeholders"
    if is_shared_by_several_patients(bearers):
        return "patient-ambiguous", "one Patient ID bears different names, birth dates or sexes"
    if all(one.word for one in bearers) and len({one.study for one in bearers}) > 1:
        reason = "one word stands as ID and name in several studies, without a birth date"
        return "patient-unknown", reason
    return "", ""


def is_shared_by_several_patients(bearers: Sequence[Identity]) -> bool:
    """Whether the bearers of one id cannot all be one person."""
    if len(bearers) > MOST_SPELLINGS:
        return True
    return not all(may_be_one(one, other) for one, other in combinations(bearers, 2))


def may_be_one(one: Identity, other: Identity) -> bool:
    """Equal birth dates where both have one; else names that share a word, or one without.

    Two sexes are two people in any case.
    """
    if one.sex and other.sex and one.sex != other.sex:
        return False
    if one.birth and other.birth:
        return one.birth == other.birth
    names = [set(re.findall(r"\w+", person.name.casefold())) for person in (one, other)]
    return not all(names) or bool(names[0] & names[1])
