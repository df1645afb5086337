"""Parse the names of a batch's NIfTI files and 2D images: patient, visit, role, contrast.

The layouts of known data sets come first, then the Patient ID of a dcm2niix sidecar, then folders
and flat names. `files.csv` wins over all of them later, in `nifti_scans` and `image2d_scans`.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import Any

from tasks.ingest.core.mr_contrast import Modality, contrast_from_name
from tasks.ingest.core.placeholder_ids import is_placeholder
from tasks.ingest.filenames.id_patterns import parse_ids
from tasks.ingest.filenames.layouts import (
    LayoutMatch,
    Role,
    match_layout,
    read_layouts,
    strip_format_suffix,
)
from tasks.ingest.filenames.name_parts import (
    is_content_folder,
    is_visit,
    modality_of,
    role_of,
    split_stem,
    strip_mask_words,
)
from tasks.ingest.filenames.patient_folders import AMBIGUOUS_ID, assign_patients

MAX_SIDECAR = 2**20
MOST_ENTITIES = 7  # in a name whose inherited sidecars are looked up: each subset is a name
FOLDER_LAYOUT = "folders and names"  # the layout's name where no data set's layout matches
ALL_VISITS_LAYOUT = "bids"  # its derivatives without a visit belong to the only visit
BASE_SESSION = "0"  # of scans without a visit beside scans of the same patient with one


@dataclass(frozen=True, slots=True)
class ParsedFilename:
    """The content of a path; `patient` and `session` are secrets.

    `channels` are indices along the fourth axis with their contrasts, where the file holds several.
    `rejection` is a code and a reason where the patient is not known; `patient` then only separates
    files that may belong to different patients. `labels` names the convention of a mask's values.
    """

    patient: str
    session: str | None
    role: Role
    stem: str
    modality: Modality
    layout: str
    evidence: str = "none"
    labels: str | None = None
    rank: int = 0
    channels: tuple[tuple[int, Modality], ...] = ()
    slice: int | None = None
    rejection: tuple[str, str] | None = None


class Sidecars:
    """JSON files of a batch by name, read at most once each."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = paths
        self._read: dict[str, dict[str, Any]] = {}
        self._folders = {PurePosixPath(name).parent for name in paths}

    def read(self, name: str) -> dict[str, Any]:
        """Read a JSON file's object; empty where there is none."""
        if name not in self._paths:
            return {}
        if name not in self._read:
            self._read[name] = read_json_object(self._paths[name])
        return self._read[name]

    def of_image(self, name: str) -> dict[str, Any]:
        """Read the sidecar of an image: `X.json` for `X.nii.gz`."""
        return self.read(name.removesuffix(".gz").removesuffix(".nii") + ".json")

    def for_image(self, name: str) -> Iterator[dict[str, Any]]:
        """Yield the JSON objects that BIDS applies to an image, and `dataset_description.json`.

        These are its sidecar, and inherited ones: in a folder above, of the same suffix, with some
        of the image's entities in their order (BIDS, inheritance principle).
        """
        yield self.of_image(name)
        *entities, suffix = strip_format_suffix(name).rpartition("/")[2].split("_")
        stems = ["dataset_description"]
        if len(entities) <= MOST_ENTITIES:
            stems += [
                "_".join([*some, suffix])
                for count in range(len(entities) + 1)
                for some in combinations(entities, count)
            ]
        for folder in PurePosixPath(name).parents:
            if folder in self._folders:
                for stem in stems:
                    yield self.read((folder / f"{stem}.json").as_posix())

    def dataset_json(self, name: str) -> dict[str, Any]:
        """Read the `dataset.json` of the nearest folder above a file."""
        for folder in PurePosixPath(name).parents:
            content = self.read((folder / "dataset.json").as_posix())
            if content:
                return content
        return {}


def read_json_object(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file of reasonable size; empty where the file holds no object."""
    try:
        if path.stat().st_size > MAX_SIDECAR:
            return {}
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def parse_filenames(paths: Sequence[str], sidecars: Sidecars) -> dict[str, ParsedFilename]:
    """Parse every path of a batch; paths are compared with each other."""
    plain = {path: strip_format_suffix(path) for path in paths}
    matches = {path: match_layout(plain[path]) for path in paths}
    matches |= match_nnunet_cases(plain)
    names: dict[str, ParsedFilename] = {}
    cases: dict[str, str] = {}
    unmatched: dict[str, str] = {}  # path to the name in which an ID may stand
    for path, match in matches.items():
        last = plain[path].rpartition("/")[2]
        if match is not None and match["patient"]:
            session = match["session"] or visit_in_path(plain[path], match["patient"])
            names[path] = build_parsed_filename(path, match, match["patient"], session, sidecars)
        elif match is not None and match["case"]:
            cases[path] = match["case"]
        elif patient := patient_in_sidecar(sidecars.of_image(path)):
            session = (match["session"] if match else "") or visit_in_path(plain[path], "")
            name = build_parsed_filename(path, match, patient, session, sidecars)
            names[path] = replace(name, layout="sidecar")
        else:
            unmatched[path] = last if match is None else strip_protocol(match, sidecars, path)
    parsed_ids = parse_ids(set(cases.values()), cases=True)
    for path, case in cases.items():
        parsed_id = parsed_ids[case]
        name = build_parsed_filename(
            path, matches[path], parsed_id.patient, parsed_id.session, sidecars
        )
        names[path] = replace(name, rejection=AMBIGUOUS_ID) if parsed_id.ambiguous else name
    for path, assignment in assign_patients(
        {path: plain[path] for path in unmatched}, unmatched
    ).items():
        match = matches[path]
        session = "_".join(filter(None, (assignment.session, match["session"] if match else "")))
        name = build_parsed_filename(path, match, assignment.id, session or None, sidecars)
        if assignment.rejection:
            stem = split_stem(unmatched[path])
            key = (
                stem.id if stem.has_contrast or stem.has_mask else strip_mask_words(unmatched[path])
            )
            name = replace(name, patient=f"{PurePosixPath(path).parent}|{key}")
        names[path] = replace(name, rejection=assignment.rejection)
    return add_base_sessions({path: names[path] for path in paths})


def match_nnunet_cases(plain: Mapping[str, str]) -> dict[str, LayoutMatch]:
    """Match nnU-Net's names without its folders: images `X_0000`, `X_0001` and their mask `X`."""
    lasts = {path: name.rpartition("/")[2] for path, name in plain.items()}
    cases = {last.removesuffix("_0000") for last in lasts.values() if last.endswith("_0000")}
    if not cases:
        return {}
    matches: dict[str, LayoutMatch] = {}
    layout = next(layout for layout in read_layouts()[0] if layout.name == "nnunet")
    for path, last in lasts.items():
        case, _, channel = last.rpartition("_")
        if case in cases and re.fullmatch(r"\d{4}", channel):
            matches[path] = LayoutMatch(layout, {"case": case, "channel": channel}, "image")
        elif last in cases:
            matches[path] = LayoutMatch(layout, {"case": last}, "mask")
    return matches


def build_parsed_filename(
    path: str, match: LayoutMatch | None, patient: str, session: str | None, sidecars: Sidecars
) -> ParsedFilename:
    """Parse the words of a path whose patient is known."""
    plain = strip_format_suffix(path)
    last = plain.rpartition("/")[2]
    role = (match.role if match else None) or role_of(plain)
    modality, channels, evidence = contrasts_of(path, plain, match, role, sidecars)
    labels = match.labels if match and role == "mask" else None
    if role == "mask" and labels is None and match is not None and match["case"]:
        labels = "binary" if has_one_label(sidecars.dataset_json(path)) else None
    number = match["slice"] if match else ""
    return ParsedFilename(
        patient=patient,
        session=session or None,
        role=role,
        stem=strip_mask_words(last) if role != "image" else last,
        modality=modality,
        layout=match.layout.name if match else FOLDER_LAYOUT,
        evidence=evidence,
        labels=labels,
        rank=match.rank if match else 0,
        channels=channels,
        slice=int(number) if number else None,
    )


def contrasts_of(
    path: str, plain: str, match: LayoutMatch | None, role: Role, sidecars: Sidecars
) -> tuple[Modality, tuple[tuple[int, Modality], ...], str]:
    """Return the contrast of a file, or of each of its channels, and the evidence."""
    if match is not None and role == "image":
        may_be_listed = bool(match["case"] or match.layout.channels)
        listed = channel_names(sidecars.dataset_json(path)) if may_be_listed else {}
        if match["channel"]:
            number = int(match["channel"])
            modality = contrast_from_name(listed.get(number, "")) or "other"
            return modality, (), "dataset.json" if modality != "other" else "none"
        if match.layout.channels and not listed:
            listed = dict(enumerate(match.layout.channels))
        if len(listed) > 1:
            channels = tuple(
                (n, contrast_from_name(word) or "other") for n, word in sorted(listed.items())
            )
            return "other", channels, "dataset.json"
        if len(listed) == 1:
            return contrast_from_name(next(iter(listed.values()))) or "other", (), "dataset.json"
        if match["modality"]:
            word = match["modality"]
            by_table = match.layout.modalities.get(word.upper())
            modality = by_table or contrast_from_name(word) or "other"
            return modality, (), "file name" if modality != "other" else "none"
    modality = modality_of(plain)
    return modality, (), "file name" if modality != "other" else "none"


def channel_names(dataset: Mapping[str, Any]) -> dict[int, str]:
    """Return contrasts by channel from nnU-Net's `channel_names` or MSD's `modality`."""
    listed = dataset.get("channel_names") or dataset.get("modality")
    if not isinstance(listed, dict):
        return {}
    pairs = [(str(key), str(word)) for key, word in listed.items()]
    return {int(key): word for key, word in pairs if key.isdigit()}


def has_one_label(dataset: Mapping[str, Any]) -> bool:
    """Check whether `dataset.json` lists one label beside the background."""
    labels = dataset.get("labels")
    return isinstance(labels, dict) and len(labels) == 2


def patient_in_sidecar(sidecar: Mapping[str, Any]) -> str:
    """Return the Patient ID that dcm2niix writes into a sidecar when it does not anonymise."""
    patient = sidecar.get("PatientID")
    return patient.strip() if isinstance(patient, str) and not is_placeholder(patient) else ""


def strip_protocol(match: LayoutMatch, sidecars: Sidecars, path: str) -> str:
    """Return the folder's part of a dcm2niix name, or the whole name without a known protocol."""
    converted = match["converted"]
    protocol = str(sidecars.of_image(path).get("ProtocolName", "")).replace(" ", "_")
    if not protocol or not converted.lower().endswith("_" + protocol.lower()):
        return converted
    folder = converted[: -len(protocol) - 1]
    content = protocol if split_stem(protocol).has_contrast else f"{protocol}_flair"
    return f"{folder}_{content}"


def visit_in_path(plain: str, patient: str) -> str | None:
    """Join the visit folders below the patient's and the text behind the ID in the file's name."""
    *folders, last = plain.split("/")
    patient_level = max(
        (i for i, folder in enumerate(folders) if patient and patient in folder), default=-1
    )
    visits = [
        word
        for word in folders[patient_level + 1 :]
        if is_visit(word) and not is_content_folder(word)
    ]
    stem_id = split_stem(last).id
    if patient and stem_id.startswith(patient):
        visits.append(stem_id.removeprefix(patient).strip("_-. "))
    return "_".join(filter(None, visits)) or None


def add_base_sessions(names: dict[str, ParsedFilename]) -> dict[str, ParsedFilename]:
    """Give a visit to scans without one where the same patient has scans with one.

    Otherwise a mask of the first scan, which names no visit, would be laid on all of them.
    """
    visits: dict[str, set[str | None]] = defaultdict(set)
    for name in names.values():
        if name.role == "image":
            visits[name.patient].add(name.session)

    def changed(name: ParsedFilename) -> ParsedFilename:
        several = visits[name.patient] - ({None} if name.layout == ALL_VISITS_LAYOUT else set())
        if name.session is None and len(several) > 1:
            return replace(name, session=BASE_SESSION)
        return name

    return {path: changed(name) for path, name in names.items()}


def best_mask_ranks(names: Iterable[ParsedFilename]) -> dict[tuple[str, str | None], int]:
    """Return the lowest rank among the masks of each patient's visit."""
    best: dict[tuple[str, str | None], int] = {}
    for name in names:
        if name.role == "mask":
            key = name.patient, name.session
            best[key] = min(name.rank, best.get(key, name.rank))
    return best
