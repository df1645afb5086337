"""Whose NIfTI files and pictures are, and what they show, by the names of the whole batch.

First the layouts of known data sets, then the Patient ID of a dcm2niix sidecar, then folders and
flat names; `files.csv` wins over all of it where the scans are listed (`nifti`, `pictures`).
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from tasks.ingest.core.mr_contrast import Modality, from_name
from tasks.ingest.core.placeholder_ids import is_placeholder
from tasks.ingest.filenames.id_patterns import judge
from tasks.ingest.filenames.layouts import Match, Role, match_layout, read_table, without_ending
from tasks.ingest.filenames.name_parts import (
    is_structure,
    is_visit,
    modality_of,
    role_of,
    take_apart,
    without_mask_words,
)
from tasks.ingest.filenames.patient_folders import OPEN_NUMBER, place

MAX_SIDECAR = 2**20
FOLDERS = "folders and names"  # the layout's name where no data set's fits
OF_ALL_VISITS = "bids"  # what its derivatives say without a visit holds for the only one
BASE_SESSION = "0"  # of scans without a visit beside scans of the same person with one


@dataclass(frozen=True, slots=True)
class ParsedFilename:
    """What a path says; `patient` and `session` are secrets.

    `channels` are numbers along the fourth axis with their contrasts, where the file holds
    several. `trouble` is a code and a reason where nobody knows whose the file is; `patient` then
    tells files of presumably one person from others. `labels` names a mask's values.
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
    trouble: tuple[str, str] | None = None


class Sidecars:
    """JSON files of a batch by name, read at most once each."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = paths
        self._read: dict[str, dict[str, Any]] = {}

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file's object; empty where there is none."""
        if name not in self._paths:
            return {}
        if name not in self._read:
            self._read[name] = read_json(self._paths[name])
        return self._read[name]

    def beside(self, name: str) -> dict[str, Any]:
        """The sidecar of an image: `X.json` for `X.nii.gz`."""
        return self.read(name.removesuffix(".gz").removesuffix(".nii") + ".json")

    def dataset(self, name: str) -> dict[str, Any]:
        """The `dataset.json` of the nearest folder above a file."""
        for folder in PurePosixPath(name).parents:
            found = self.read((folder / "dataset.json").as_posix())
            if found:
                return found
        return {}


def read_json(path: Path) -> dict[str, Any]:
    """An object in a JSON file of reasonable size; empty where it holds something else."""
    try:
        if path.stat().st_size > MAX_SIDECAR:
            return {}
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def recognise(paths: Sequence[str], sidecars: Sidecars) -> dict[str, ParsedFilename]:
    """What every path says, judged together."""
    plain = {path: without_ending(path) for path in paths}
    matches = {path: match_layout(plain[path]) for path in paths}
    matches |= cases_with_channels(plain)
    names: dict[str, ParsedFilename] = {}
    cases: dict[str, str] = {}
    others: dict[str, str] = {}  # path to the name in which an ID may stand
    for path, match in matches.items():
        last = plain[path].rpartition("/")[2]
        if match is not None and match["patient"]:
            session = match["session"] or visit_below(plain[path], match["patient"])
            names[path] = as_name(path, match, match["patient"], session, sidecars)
        elif match is not None and match["case"]:
            cases[path] = match["case"]
        elif patient := patient_in_sidecar(sidecars.beside(path)):
            session = (match["session"] if match else "") or visit_below(plain[path], "")
            name = as_name(path, match, patient, session, sidecars)
            names[path] = replace(name, layout="sidecar")
        else:
            others[path] = last if match is None else without_protocol(match, sidecars, path)
    judged = judge(set(cases.values()), cases=True)
    for path, case in cases.items():
        one = judged[case]
        name = as_name(path, matches[path], one.patient, one.session, sidecars)
        names[path] = replace(name, trouble=OPEN_NUMBER) if one.ambiguous else name
    for path, placed in place({path: plain[path] for path in others}, others).items():
        found = matches[path]
        session = "_".join(filter(None, (placed.session, found["session"] if found else "")))
        name = as_name(path, found, placed.id, session or None, sidecars)
        if placed.trouble:
            own = take_apart(others[path])
            key = own.id if own.contrast or own.mask else without_mask_words(others[path])
            name = replace(name, patient=f"{PurePosixPath(path).parent}|{key}")
        names[path] = replace(name, trouble=placed.trouble)
    return with_base_sessions({path: names[path] for path in paths})


def cases_with_channels(plain: Mapping[str, str]) -> dict[str, Match]:
    """nnU-Net's names without its folders: `X_0000`, `X_0001` are images, `X` is their mask."""
    lasts = {path: name.rpartition("/")[2] for path, name in plain.items()}
    cases = {last.removesuffix("_0000") for last in lasts.values() if last.endswith("_0000")}
    if not cases:
        return {}
    found: dict[str, Match] = {}
    layout = next(one for one in read_table()[0] if one.name == "nnunet")
    for path, last in lasts.items():
        case, _, channel = last.rpartition("_")
        if case in cases and re.fullmatch(r"\d{4}", channel):
            found[path] = Match(layout, {"case": case, "channel": channel}, "image")
        elif last in cases:
            found[path] = Match(layout, {"case": last}, "mask")
    return found


def as_name(
    path: str, match: Match | None, patient: str, session: str | None, sidecars: Sidecars
) -> ParsedFilename:
    """A path's words beside its patient."""
    plain = without_ending(path)
    last = plain.rpartition("/")[2]
    role = (match.role if match else None) or role_of(plain)
    modality, channels, evidence = contrasts_of(path, plain, match, role, sidecars)
    labels = match.labels if match and role == "mask" else None
    if role == "mask" and labels is None and match is not None and match["case"]:
        labels = "binary" if is_binary(sidecars.dataset(path)) else None
    number = match["slice"] if match else ""
    return ParsedFilename(
        patient=patient,
        session=session or None,
        role=role,
        stem=without_mask_words(last) if role != "image" else last,
        modality=modality,
        layout=match.layout.name if match else FOLDERS,
        evidence=evidence,
        labels=labels,
        rank=match.rank if match else 0,
        channels=channels,
        slice=int(number) if number else None,
    )


def contrasts_of(
    path: str, plain: str, match: Match | None, role: Role, sidecars: Sidecars
) -> tuple[Modality, tuple[tuple[int, Modality], ...], str]:
    """The contrast of a file, or of each of its channels, and what says so."""
    if match is not None and role == "image":
        told = bool(match["case"] or match.layout.channels)
        listed = channel_names(sidecars.dataset(path)) if told else {}
        if match["channel"]:
            number = int(match["channel"])
            found = from_name(listed.get(number, "")) or "other"
            return found, (), "dataset.json" if found != "other" else "none"
        if match.layout.channels and not listed:
            listed = dict(enumerate(match.layout.channels))
        if len(listed) > 1:
            channels = tuple((n, from_name(word) or "other") for n, word in sorted(listed.items()))
            return "other", channels, "dataset.json"
        if len(listed) == 1:
            return from_name(next(iter(listed.values()))) or "other", (), "dataset.json"
        if match["modality"]:
            word = match["modality"]
            own = match.layout.modalities.get(word.upper())
            modality = own or from_name(word) or "other"
            return modality, (), "file name" if modality != "other" else "none"
    modality = modality_of(plain)
    return modality, (), "file name" if modality != "other" else "none"


def channel_names(dataset: Mapping[str, Any]) -> dict[int, str]:
    """Contrasts by channel as nnU-Net (`channel_names`) and MSD (`modality`) write them down."""
    listed = dataset.get("channel_names") or dataset.get("modality")
    if not isinstance(listed, dict):
        return {}
    pairs = [(str(key), str(word)) for key, word in listed.items()]
    return {int(key): word for key, word in pairs if key.isdigit()}


def is_binary(dataset: Mapping[str, Any]) -> bool:
    """Whether `dataset.json` lists one label beside the background."""
    labels = dataset.get("labels")
    return isinstance(labels, dict) and len(labels) == 2


def patient_in_sidecar(sidecar: Mapping[str, Any]) -> str:
    """The Patient ID that dcm2niix writes into a sidecar when it is told not to anonymise."""
    patient = sidecar.get("PatientID")
    return patient.strip() if isinstance(patient, str) and not is_placeholder(patient) else ""


def without_protocol(match: Match, sidecars: Sidecars, path: str) -> str:
    """The folder's part of a name made by dcm2niix, or, where the protocol is unknown, both."""
    converted = match["converted"]
    protocol = str(sidecars.beside(path).get("ProtocolName", "")).replace(" ", "_")
    if not protocol or not converted.lower().endswith("_" + protocol.lower()):
        return converted
    folder = converted[: -len(protocol) - 1]
    words = protocol if take_apart(protocol).contrast else f"{protocol}_flair"
    return f"{folder}_{words}"


def visit_below(plain: str, patient: str) -> str | None:
    """The folders below the patient's that tell a visit, and what follows the ID in the name."""
    *folders, last = plain.split("/")
    at = max((i for i, folder in enumerate(folders) if patient and patient in folder), default=-1)
    visits = [word for word in folders[at + 1 :] if is_visit(word) and not is_structure(word)]
    own = take_apart(last).id
    if patient and own.startswith(patient):
        visits.append(own.removeprefix(patient).strip("_-. "))
    return "_".join(filter(None, visits)) or None


def with_base_sessions(names: dict[str, ParsedFilename]) -> dict[str, ParsedFilename]:
    """Give a visit to scans without one where the same person has scans with one.

    Otherwise a mask of the first scan, which names no visit, would be laid on all of them.
    """
    visits: dict[str, set[str | None]] = defaultdict(set)
    for name in names.values():
        if name.role == "image":
            visits[name.patient].add(name.session)

    def changed(name: ParsedFilename) -> ParsedFilename:
        several = visits[name.patient] - ({None} if name.layout == OF_ALL_VISITS else set())
        if name.session is None and len(several) > 1:
            return replace(name, session=BASE_SESSION)
        return name

    return {path: changed(name) for path, name in names.items()}


def best_masks(names: Iterable[ParsedFilename]) -> dict[tuple[str, str | None], int]:
    """The lowest rank among the masks of each patient's visit."""
    best: dict[tuple[str, str | None], int] = {}
    for name in names:
        if name.role == "mask":
            key = name.patient, name.session
            best[key] = min(name.rank, best.get(key, name.rank))
    return best
