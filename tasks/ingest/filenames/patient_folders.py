"""Assign files to patients by folder or by flat name, where no known layout explains them.

A folder belongs to a patient when its name is a word for a patient with a number (`P1`,
`patient_003`), or when its files are named by contrast alone (`flair`, `t1_seg`) or repeat its
name. Folders such as `anat`, `FLAIR`, `train` or `week-044` do not belong to a patient. Otherwise
the ID is the text before the contrast or the mask word of a flat name, if the IDs of the batch are
alike. All files are compared, and a file that stays open is rejected: the rest of a name is never
taken for a patient.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from tasks.ingest.filenames.id_patterns import MANY_PATIENTS, parse_ids
from tasks.ingest.filenames.layouts import word_list
from tasks.ingest.filenames.name_parts import (
    StemParts,
    is_collection_folder,
    is_content_folder,
    is_numbered,
    is_numbered_patient,
    is_partition_folder,
    is_visit,
    modality_of,
    role_of,
    split_stem,
)

UNKNOWN_LAYOUT = (
    "patient-unknown",
    "no layout explains the name: neither the file nor a folder says whose it is",
)
NESTED_FOLDERS = (
    "patient-ambiguous",
    "two folders could be the patient's: one is a visit, a site or both",
)
AMBIGUOUS_ID = (
    "patient-ambiguous",
    "the ID may be a person, a visit or another spelling: its number or ending leaves it open",
)
REPEATED_NAME = (
    "patient-ambiguous",
    "files of one name in several folders: one patient or several",
)
SHORT = 3  # digits: shorter numbers without a word may count the series of one patient


@dataclass(slots=True)
class PatientAssignment:
    """A file's patient and visit, or the code and reason for which the patient is not known."""

    id: str = ""
    session: str | None = None
    rejection: tuple[str, str] | None = None


@dataclass(slots=True)
class PathParts:
    """A path split by what its folders can be: patients, visits; and the words of the name.

    `patient_candidates` are folders that may be a patient's. `patient` is the folder that is named
    as a numbered patient, empty where there is none.
    """

    path: str
    plain: str
    stem: StemParts
    is_image: bool
    patient_candidates: list[str] = field(default_factory=list)
    visits: list[str] = field(default_factory=list)
    patient: str = ""


def assign_patients(
    paths: Mapping[str, str], stems: Mapping[str, str]
) -> dict[str, PatientAssignment]:
    """Assign every path, given with its form without suffix, to a patient and a visit.

    `stems` holds the names, without suffix, that may contain an ID.
    """
    files = [parse_path(path, plain, stems[path]) for path, plain in paths.items()]
    strip_common_folders(files)
    assigned: dict[str, PatientAssignment] = {}
    groups: dict[str, list[PathParts]] = defaultdict(list)
    flat: list[PathParts] = []
    for file in files:
        if file.patient:
            assigned[file.path] = PatientAssignment(file.patient, visit_of(file, file.patient))
        elif file.patient_candidates:
            groups[file.patient_candidates[0]].append(file)
        else:
            flat.append(file)
    above = folders_above(files)
    for folder, group in groups.items():
        direct = [file for file in group if len(file.patient_candidates) == 1]
        inner = [file for file in group if len(file.patient_candidates) > 1]
        nested = len({tuple(file.patient_candidates) for file in group}) > 1 or any(
            len(above[tuple(file.patient_candidates[1:])]) > 1 for file in inner
        )
        repeated = all(repeats_name(file.stem.id, folder) for file in inner if file.is_image)
        if not nested or (repeated and inner) or is_patient_folder(folder, direct):
            if is_patient_folder(folder, group if not direct or not nested else direct):
                for file in group:
                    assigned[file.path] = PatientAssignment(folder, visit_of(file, folder))
            else:
                flat += group
        else:
            flat += direct
            assigned |= {file.path: PatientAssignment(rejection=NESTED_FOLDERS) for file in inner}
    assigned |= assign_by_flat_name(flat)
    split_off_visits(assigned)
    return {path: assigned[path] for path in paths}


def parse_path(path: str, plain: str, stem: str) -> PathParts:
    """Sort the folders of a path by what their names can be."""
    file = PathParts(path, plain, split_stem(stem), role_of(plain) == "image")
    for folder in plain.split("/")[:-1]:
        if is_numbered_patient(folder) and not file.patient:
            file.patient = folder
        elif is_visit(folder) and not is_content_folder(folder):
            file.visits.append(folder)
        elif not is_content_folder(folder) and not is_partition_folder(folder):
            if not file.patient:
                file.patient_candidates.append(folder)
            else:
                file.visits.append(folder)
    return file


def strip_common_folders(files: Collection[PathParts]) -> None:
    """Drop the folders above all files, as far as they cannot belong to a patient.

    A single folder above others may be a collection of patients or one patient with visits: its
    content or its name must show that it is a collection.
    """
    undecided = [file for file in files if not file.patient]
    candidate_lists = {tuple(file.patient_candidates) for file in undecided}
    if not candidate_lists:
        return
    common = 0
    while len({candidates[: common + 1] for candidates in candidate_lists}) == 1 and common < max(
        map(len, candidate_lists)
    ):
        common += 1
    if len(candidate_lists) == 1:
        common = max(common - 1, 0)
    elif common:
        shared = next(iter(candidate_lists))[:common]
        direct = [file for file in undecided if tuple(file.patient_candidates) == shared]
        if is_patient_folder(shared[-1], direct) or not holds_patients(
            shared[-1], undecided, common
        ):
            common -= 1
    for file in undecided:
        file.patient_candidates = file.patient_candidates[common:]


def holds_patients(folder: str, files: Iterable[PathParts], depth: int) -> bool:
    """Check whether a folder is a collection, by its name, the inner names or their number."""
    if is_collection_folder(folder):
        return True
    inner: dict[str, bool] = {}
    for file in files:
        if len(file.patient_candidates) > depth and file.is_image:
            name = file.patient_candidates[depth]
            inner[name] = inner.get(name, False) or repeats_name(file.stem.id, name)
    return len(inner) >= MANY_PATIENTS or (bool(inner) and all(inner.values()))


def folders_above(files: Iterable[PathParts]) -> dict[tuple[str, ...], set[str]]:
    """Return the first folders above each inner path: for `1` in `Doe/1`, `Roe/1` both patients."""
    above: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for file in files:
        if len(file.patient_candidates) > 1:
            above[tuple(file.patient_candidates[1:])].add(file.patient_candidates[0])
    return above


def visit_of(file: PathParts, patient: str = "") -> str | None:
    """Join the folders that name a visit, or may do so because they lie below the patient's.

    The text that follows the patient's own name in the file's name belongs to the visit too:
    `001/001_02_flair`.
    """
    file_id = file.stem.id
    rest = (
        file_id[len(patient) :]
        if patient and file_id.casefold().startswith(patient.casefold())
        else ""
    )
    parts = [*file.patient_candidates[1:], *file.visits, rest.strip("_-. ")]
    return "_".join(dict.fromkeys(filter(None, parts))) or None


def is_patient_folder(folder: str, files: Iterable[PathParts]) -> bool:
    """Check whether a folder belongs to one patient, by the names of its files."""
    evidence = False
    for file in files:
        repeats = repeats_name(file.stem.id, folder)
        names_contrast = file.stem.has_contrast or modality_of(file.plain) != "other"
        if file.is_image and (repeats or (not file.stem.id and names_contrast)):
            evidence = True
        elif file.is_image and file.stem.is_clean and file.stem.has_contrast:
            return False  # the ID of another patient
    return evidence


def repeats_name(stem_id: str, folder: str) -> bool:
    """Check whether a name's ID repeats the folder's: `P3/P3_flair`, `P3_v1/P3_flair`."""
    short, long = sorted((stem_id.casefold(), folder.casefold()), key=len)
    return bool(short) and long.startswith(short) and long[len(short) :][:1] in ("", *"_-. ")


def split_off_visits(assigned: dict[str, PatientAssignment]) -> None:
    """Split visits off the IDs, and reject IDs that leave the patient open."""
    parsed = parse_ids({assignment.id for assignment in assigned.values() if assignment.id})
    for assignment in assigned.values():
        if assignment.id:
            parsed_id = parsed[assignment.id]
            assignment.rejection = AMBIGUOUS_ID if parsed_id.ambiguous else None
            assignment.session = (
                "_".join(filter(None, (parsed_id.session, assignment.session))) or None
            )
            assignment.id = parsed_id.patient


def assign_by_flat_name(files: list[PathParts]) -> dict[str, PatientAssignment]:
    """Assign files with flat names to patients."""
    ids = accepted_ids(files)
    accepted = similar_ids(ids, others=any(file.stem.id not in ids for file in files))
    repeated = ids_with_repeated_names(files)
    assigned: dict[str, PatientAssignment] = {}
    for file in files:
        file_id = file.stem.id
        if file_id in repeated:
            assigned[file.path] = PatientAssignment(rejection=REPEATED_NAME)
        elif file_id not in accepted:
            assigned[file.path] = PatientAssignment(rejection=UNKNOWN_LAYOUT)
        else:
            assigned[file.path] = PatientAssignment(file_id, visit_of(file))
    return assigned


def accepted_ids(files: Iterable[PathParts]) -> set[str]:
    """Return the beginnings of flat names that are IDs: the names hold more, or have masks."""
    images: dict[str, set[str]] = defaultdict(set)
    masks: set[str] = set()
    for file in files:
        if not is_id_candidate(file.stem):
            continue
        if file.is_image:
            images[file.stem.id].add(modality_of(file.plain) if file.stem.has_contrast else "")
        else:
            masks.add(file.stem.id)
    paired = {file_id for file_id in masks & set(images) if has_patient_number(file_id)}
    patterns = {number_pattern(file_id) for file_id in paired}
    accepted: set[str] = set()
    for file_id, contrasts in images.items():
        if may_be_series_number(file_id):
            enough = file_id in paired or len(contrasts) > 1
        else:
            enough = (
                contrasts != {""}
                or is_numbered_patient(file_id)
                or number_pattern(file_id) in patterns
            )
        if enough:
            accepted.add(file_id)
    return accepted | {file_id for file_id in masks if is_numbered_patient(file_id)}


def is_id_candidate(stem: StemParts) -> bool:
    """Check whether the first part of a name could be an ID at all."""
    return stem.is_clean and stem.id.lower() not in word_list("patient") | word_list("visit")


def may_be_series_number(file_id: str) -> bool:
    """Check for a number that may count one patient's series: `5`, `S05`, `series_5`."""
    return file_id.isdigit() or (
        is_numbered(file_id, "unspecific") and not is_numbered_patient(file_id)
    )


def has_patient_number(file_id: str) -> bool:
    """Check whether an ID holds a number that does not count one patient's series."""
    return any(letter.isdigit() for letter in file_id) and (
        not file_id.isdigit() or len(file_id) >= SHORT
    )


def similar_ids(ids: set[str], *, others: bool) -> set[str]:
    """Return the IDs with numbers; where there are none, single letters, or the only ID.

    `others` is whether names without an ID stand beside them: the only ID may then be a common
    word, as `mean` in `mean_dwi` is.
    """
    numbered = {file_id for file_id in ids if any(letter.isdigit() for letter in file_id)}
    if numbered or (len(ids) == 1 and not others):
        return numbered or ids
    return ids if all(len(file_id) == 1 for file_id in ids) else set()


def number_pattern(file_id: str) -> str:
    """Return an ID with every number replaced by one mark."""
    marked = "".join("#" if letter.isdigit() else letter for letter in file_id)
    while "##" in marked:
        marked = marked.replace("##", "#")
    return marked


def ids_with_repeated_names(files: Iterable[PathParts]) -> set[str]:
    """Return the IDs of which an image of the same name lies in several folders."""
    counts: dict[tuple[str, str, str], int] = defaultdict(int)
    for file in files:
        if file.is_image and is_id_candidate(file.stem):
            counts[file.stem.id, visit_of(file) or "", file.path.rpartition("/")[2]] += 1
    return {file_id for (file_id, _, _), count in counts.items() if count > 1}
