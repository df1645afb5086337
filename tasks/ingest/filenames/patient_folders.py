"""Patients by folder or by flat name, where no layout of a known data set explains a file.

A folder is a patient's when its name is a word for a person with a number (`P1`, `patient_003`),
or when its files are named by contrast alone (`flair`, `t1_seg`) or repeat its name. Folders such
as `anat`, `FLAIR`, `train` or `week-044` are no patients. Else the ID is what stands before the
contrast or the mask word of a flat name, if the IDs of the batch are alike. All files are judged
together, and what stays open is refused: what is left of a name is never a patient.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from tasks.ingest.filenames.id_patterns import MANY, judge
from tasks.ingest.filenames.layouts import words
from tasks.ingest.filenames.name_parts import (
    Stem,
    is_collection,
    is_numbered,
    is_partition,
    is_person,
    is_structure,
    is_visit,
    modality_of,
    role_of,
    take_apart,
)

UNKNOWN = (
    "patient-unknown",
    "no layout explains the name: neither the file nor a folder says whose it is",
)
NESTED = ("patient-ambiguous", "two folders could be the patient's: one is a visit, a site or both")
OPEN_NUMBER = (
    "patient-ambiguous",
    "the ID may be a person, a visit or another spelling: its number or ending leaves it open",
)
NAMESAKES = (
    "patient-ambiguous",
    "files of one name in several folders: one patient or several",
)
SHORT = 3  # digits: shorter numbers without a word may count the series of one person


@dataclass(slots=True)
class Placed:
    """Whose a file is: an ID and a visit, or why nobody knows."""

    id: str = ""
    session: str | None = None
    trouble: tuple[str, str] | None = None


@dataclass(slots=True)
class File:
    """A path taken apart: folders that may be a patient's, visits, the words of the name."""

    path: str
    plain: str
    stem: Stem
    image: bool
    names: list[str] = field(default_factory=list)
    visits: list[str] = field(default_factory=list)
    person: str = ""


def place(paths: Mapping[str, str], stems: Mapping[str, str]) -> dict[str, Placed]:
    """Patient and visit of every path, given with its form without ending.

    `stems` holds the names, without ending, in which an ID is to be looked for.
    """
    files = [as_file(path, plain, stems[path]) for path, plain in paths.items()]
    strip_common_folders(files)
    placed: dict[str, Placed] = {}
    groups: dict[str, list[File]] = defaultdict(list)
    flat: list[File] = []
    for file in files:
        if file.person:
            placed[file.path] = Placed(file.person, visit_of(file, file.person))
        elif file.names:
            groups[file.names[0]].append(file)
        else:
            flat.append(file)
    leaves = folders_above(files)
    for folder, group in groups.items():
        top = [file for file in group if len(file.names) == 1]
        deep = [file for file in group if len(file.names) > 1]
        nested = len({tuple(file.names) for file in group}) > 1 or any(
            len(leaves[tuple(file.names[1:])]) > 1 for file in deep
        )
        repeated = all(belongs(file.stem.id, folder) for file in deep if file.image)
        if not nested or (repeated and deep) or is_patients(folder, top):
            if is_patients(folder, group if not top or not nested else top):
                for file in group:
                    placed[file.path] = Placed(folder, visit_of(file, folder))
            else:
                flat += group
        else:
            flat += top
            placed |= {file.path: Placed(trouble=NESTED) for file in deep}
    placed |= by_name(flat)
    judge_ids(placed)
    return {path: placed[path] for path in paths}


def as_file(path: str, plain: str, stem: str) -> File:
    """Sort the folders of a path by what their names can be."""
    file = File(path, plain, take_apart(stem), role_of(plain) == "image")
    for folder in plain.split("/")[:-1]:
        if is_person(folder) and not file.person:
            file.person = folder
        elif is_visit(folder) and not is_structure(folder):
            file.visits.append(folder)
        elif not is_structure(folder) and not is_partition(folder):
            if not file.person:
                file.names.append(folder)
            else:
                file.visits.append(folder)
    return file


def strip_common_folders(files: Collection[File]) -> None:
    """Drop the folders that stand above all files, as far as they can be no patient's.

    A single folder above others may be a collection of people or one person with visits: what lies
    in it, or its name, must say that it is a collection.
    """
    unclear = [file for file in files if not file.person]
    lists = {tuple(file.names) for file in unclear}
    if not lists:
        return
    common = 0
    while len({names[: common + 1] for names in lists}) == 1 and common < max(map(len, lists)):
        common += 1
    if len(lists) == 1:
        common = max(common - 1, 0)
    elif common:
        shared = next(iter(lists))[:common]
        direct = [file for file in unclear if tuple(file.names) == shared]
        if is_patients(shared[-1], direct) or not holds_people(shared[-1], unclear, common):
            common -= 1
    for file in unclear:
        file.names = file.names[common:]


def holds_people(folder: str, files: Iterable[File], depth: int) -> bool:
    """Whether a folder above others is a collection: by its name, by theirs, or by their number."""
    if is_collection(folder):
        return True
    inner: dict[str, bool] = {}
    for file in files:
        if len(file.names) > depth and file.image:
            name = file.names[depth]
            inner[name] = inner.get(name, False) or belongs(file.stem.id, name)
    return len(inner) >= MANY or (bool(inner) and all(inner.values()))


def folders_above(files: Iterable[File]) -> dict[tuple[str, ...], set[str]]:
    """The first folders above each path of inner ones: of `1` in `Doe/1`, `Roe/1` both people."""
    above: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for file in files:
        if len(file.names) > 1:
            above[tuple(file.names[1:])].add(file.names[0])
    return above


def visit_of(file: File, patient: str = "") -> str | None:
    """The folders that tell a visit, or may do so because they lie below the patient's.

    So does what follows the patient's own name in the file's: `001/001_02_flair`.
    """
    one = file.stem.id
    rest = one[len(patient) :] if patient and one.casefold().startswith(patient.casefold()) else ""
    parts = [*file.names[1:], *file.visits, rest.strip("_-. ")]
    return "_".join(dict.fromkeys(filter(None, parts))) or None


def is_patients(folder: str, files: Iterable[File]) -> bool:
    """Whether a folder is one patient's, by how its files are named."""
    evidence = False
    for file in files:
        own = belongs(file.stem.id, folder)
        told = file.stem.contrast or modality_of(file.plain) != "other"
        if file.image and (own or (not file.stem.id and told)):
            evidence = True
        elif file.image and file.stem.clean and file.stem.contrast:
            return False  # an ID of somebody else
    return evidence


def belongs(one: str, other: str) -> bool:
    """Whether a name's ID repeats the folder's: `P3/P3_flair`, `P3_v1/P3_flair`."""
    short, long = sorted((one.casefold(), other.casefold()), key=len)
    return bool(short) and long.startswith(short) and long[len(short) :][:1] in ("", *"_-. ")


def judge_ids(placed: dict[str, Placed]) -> None:
    """Take visits off the IDs, and refuse those that leave the patient open."""
    judged = judge({one.id for one in placed.values() if one.id})
    for one in placed.values():
        if one.id:
            verdict = judged[one.id]
            one.trouble = OPEN_NUMBER if verdict.ambiguous else None
            one.session = "_".join(filter(None, (verdict.session, one.session))) or None
            one.id = verdict.patient


def by_name(files: list[File]) -> dict[str, Placed]:
    """Patients of flat names."""
    ids = accepted_ids(files)
    accepted = alike(ids, others=any(file.stem.id not in ids for file in files))
    twice = namesakes(files)
    placed: dict[str, Placed] = {}
    for file in files:
        one = file.stem.id
        if one in twice:
            placed[file.path] = Placed(trouble=NAMESAKES)
        elif one not in accepted:
            placed[file.path] = Placed(trouble=UNKNOWN)
        else:
            placed[file.path] = Placed(one, visit_of(file))
    return placed


def accepted_ids(files: Iterable[File]) -> set[str]:
    """What stands first in flat names and is an ID: the names say more than that, or have masks."""
    images: dict[str, set[str]] = defaultdict(set)
    masks: set[str] = set()
    for file in files:
        if not is_candidate(file.stem):
            continue
        if file.image:
            images[file.stem.id].add(modality_of(file.plain) if file.stem.contrast else "")
        else:
            masks.add(file.stem.id)
    paired = {one for one in masks & set(images) if has_number_of_people(one)}
    shapes = {shape(one) for one in paired}
    accepted: set[str] = set()
    for one, contrasts in images.items():
        if may_be_a_series(one):
            enough = one in paired or len(contrasts) > 1
        else:
            enough = contrasts != {""} or is_person(one) or shape(one) in shapes
        if enough:
            accepted.add(one)
    return accepted | {one for one in masks if is_person(one)}


def is_candidate(stem: Stem) -> bool:
    """Whether what stands first in a name could be an ID at all."""
    return stem.clean and stem.id.lower() not in words("person") | words("visit")


def may_be_a_series(one: str) -> bool:
    """`5`, `S05`, `series_5`: a number that may count what one person was scanned with."""
    return one.isdigit() or (is_numbered(one, "nobody") and not is_person(one))


def has_number_of_people(one: str) -> bool:
    """Whether an ID holds a number that is no count of one person's series."""
    return any(letter.isdigit() for letter in one) and (not one.isdigit() or len(one) >= SHORT)


def alike(ids: set[str], *, others: bool) -> set[str]:
    """Numbered IDs; where there are none, single letters, or the only ID.

    `others` is whether names stand beside them that hold no ID: the only one may then be a word
    like any of theirs, as `mean` in `mean_dwi` is.
    """
    numbered = {one for one in ids if any(letter.isdigit() for letter in one)}
    if numbered or (len(ids) == 1 and not others):
        return numbered or ids
    return ids if all(len(one) == 1 for one in ids) else set()


def shape(one: str) -> str:
    """An ID with every number as one mark."""
    marked = "".join("#" if letter.isdigit() else letter for letter in one)
    while "##" in marked:
        marked = marked.replace("##", "#")
    return marked


def namesakes(files: Iterable[File]) -> set[str]:
    """IDs of which an image of the same name lies in several folders."""
    seen: dict[tuple[str, str, str], int] = defaultdict(int)
    for file in files:
        if file.image and is_candidate(file.stem):
            seen[file.stem.id, visit_of(file) or "", file.path.rpartition("/")[2]] += 1
    return {one for (one, _, _), count in seen.items() if count > 1}
