"""Whose DICOM files are whose: by Patient ID, unless it is a placeholder or names two people.

Files without a person are refused, or, where `ingest.allow_unknown_patients` says so, each study
(or, where a Patient ID stands for several people, each of these) counts as a patient of its own,
marked as unknown. Two people under one id are never merged.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from tasks.ingest.elements import ENCAPSULATED, Tags
from tasks.ingest.fields import read_fields
from tasks.ingest.found import Rejection
from tasks.ingest.inventory import Source
from tasks.ingest.privacy import bare_id
from tasks.ingest.refusal import RefusalError
from tasks.ingest.roll import Entries, Roll

PERSON = Tags(
    ("SOPClassUID", 0x00080016, "UI"),
    ("PatientName", 0x00100010, "PN"),
    ("PatientID", 0x00100020, "LO"),
    ("PatientBirthDate", 0x00100030, "DA"),
    stop=0x00100031,
)
STUDY = Tags(
    ("StudyInstanceUID", 0x0020000D, "UI"), ("SeriesInstanceUID", 0x0020000E, "UI"), stop=0x0020000F
)
PLACEHOLDER = re.compile(
    r"(anon(ymous|ymi[sz]ed)?|deidentified|unknown|unnamed|none|null|nil|na|noname|noid|first|last"
    r"|patient|name|subject|test|removed|deleted|blank)*|0+|x+"
)
MOST_SPELLINGS = 100  # of one person


@dataclass(frozen=True, slots=True)
class Identity:
    """What a file says of its person; a secret. `study` is read only where it is needed.

    `quick` is whether ingest needs no pydicom for the file, `kind` its SOP class.
    """

    id: str
    name: str
    birth: str
    study: str
    kind: str
    quick: bool


def identify(source: Source) -> Identity:
    """Read as far as the person.

    Raises:
        RefusalError: see `read_fields`.
    """
    fields = read_fields(source, PERSON)
    if not fields.text("SOPClassUID"):
        raise RefusalError("corrupt", "no SOP Class UID (0008,0016)")
    words = (bare_id(fields.text("PatientID")), fields.text("PatientName"))
    number, name, birth = (
        "" if is_placeholder(word) else word for word in (*words, fields.text("PatientBirthDate"))
    )
    study = ""
    if not number and not name:
        more = read_fields(source, STUDY)
        study = more.text("StudyInstanceUID") or more.text("SeriesInstanceUID")
    quick = fields.quick and not fields.transfer_syntax.startswith(ENCAPSULATED)
    return Identity(number, name, birth, study, fields.text("SOPClassUID"), quick)


def is_placeholder(word: str) -> bool:
    """Whether an id or a name stands for nobody: empty, `ANON`, `0000`, `xx`, `Name^Unknown`."""
    return bool(PLACEHOLDER.fullmatch(re.sub(r"[\W_]+", "", word).lower()))


@dataclass(slots=True)
class Person:
    """One person's DICOM files; `known` is whether they say who it is."""

    known: bool
    files: Entries


@dataclass(frozen=True)
class Nobody:
    """Files of nobody, or of somebody undecided."""

    files: Entries
    code: str
    reason: str

    def rejections(self, roll: Roll) -> Iterator[Rejection]:
        """One a file."""
        for source in roll.read(self.files):
            yield Rejection((source,), self.code, self.reason)


def persons(
    files: Mapping[Identity, Entries], *, allow_unknown: bool
) -> tuple[dict[str, Person], list[Nobody]]:
    """Patients by raw id, and the files that are no patient's."""
    by_id: dict[str, list[Identity]] = defaultdict(list)
    for identity in files:
        by_id[identity.id or identity.name].append(identity)
    people: dict[str, Person] = {}
    nobodys: list[Nobody] = []

    def add(key: str, identity: Identity, *, known: bool) -> None:
        people.setdefault(key, Person(known, Entries())).files.update(files[identity])

    for key, group in by_id.items():
        several = bool(key) and are_several(group)
        for identity in group:
            if key and not several:
                add(key, identity, known=True)
            elif allow_unknown:
                own = f"{key}|{identity.name}|{identity.birth}|{identity.study}"
                add(own, identity, known=False)
            else:
                code = "patient-ambiguous" if several else "patient-unknown"
                reason = (
                    "one Patient ID bears different names or birth dates"
                    if several
                    else "neither Patient ID nor Patient's Name, or placeholders"
                )
                nobodys.append(Nobody(files[identity], code, reason))
    return people, nobodys


def are_several(bearers: Sequence[Identity]) -> bool:
    """Whether the bearers of one id cannot all be one person."""
    if len(bearers) > MOST_SPELLINGS:
        return True
    return not all(may_be_one(one, other) for one, other in combinations(bearers, 2))


def may_be_one(one: Identity, other: Identity) -> bool:
    """Equal birth dates where both have one; else names that share a word, or one without."""
    if one.birth and other.birth:
        return one.birth == other.birth
    names = [set(re.findall(r"\w+", person.name.casefold())) for person in (one, other)]
    return not all(names) or bool(names[0] & names[1])
