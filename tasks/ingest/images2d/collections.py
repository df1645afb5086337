"""2D collections: PNG, JPEG and TIFF slices with `_mask` partners or in class folders.

Such files name no geometry: spacing comes from `ingest.pictures`, and each picture is taken as
an axial slice seen from below, the patient's right at the left. Pictures of one patient that
carry slice numbers make one volume; others are a volume of one slice each.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Literal, cast

import numpy as np

from tasks.ingest.core.mr_contrast import Modality, from_name
from tasks.ingest.core.rejection import Rejection, RejectionError
from tasks.ingest.core.scan_record import ScanRecord
from tasks.ingest.core.source_file import Source, content_digest
from tasks.ingest.core.volume import Volume, to_smallest_dtype
from tasks.ingest.filenames.layouts import match_layout, without_ending
from tasks.ingest.filenames.name_parts import MASK_FOLDERS, parent_of
from tasks.ingest.files.list_files import IMAGE_SUFFIXES as SUFFIXES
from tasks.ingest.images2d.class_folders import class_of
from tasks.ingest.images2d.pixel_values import UPRIGHT, read_plane
from tasks.ingest.user_tables.files_csv import EVIDENCE, FilesTable, Row
from tasks.params.ingest import Ingest

MASK_ENDING = re.compile(
    r"[_\- .](masks?|seg|segm|segmentation|labels?|gt|annotation|truth)$", re.IGNORECASE
)
IMAGE_FOLDERS = {"images", "image", "imgs", "img"}


@dataclass(frozen=True, slots=True)
class Slice:
    """What is known of a picture; `patient` is empty where nobody says whose it is.

    `number` is its place in a volume, None where it stands alone. `stem` is what picture and mask
    have in common.
    """

    source: Source
    role: Literal["image", "mask"]
    stem: str
    patient: str = ""
    session: str | None = None
    number: int | None = None
    modality: Modality = "other"
    evidence: str = "file name"
    channel: int | None = None
    label: int | None = None
    labels: str | None = None


def survey(
    sources: list[Source],
    settings: Ingest,
    older: dict[str, tuple[str, int | None]],
    table: FilesTable,
) -> tuple[list[ScanRecord], list[Rejection]]:
    """Images and masks of a batch's pictures; `older` is `pictures.csv`, `table` `files.csv`."""
    rejected: list[Rejection] = []
    slices: list[Slice] = []
    for source in sources:
        row = table.says(source.name) if table else None
        if row is not None and row.role == "skip":
            rejected.append(Rejection((source,), "skipped", "files.csv says so"))
            continue
        slices.append(read_name(source, settings, older, table, row))
    copies, contradicted = copies_of(slices), of_both_classes(slices)
    stacks: dict[tuple[object, ...], list[Slice]] = defaultdict(list)
    for one in slices:
        if one.source.name in contradicted:
            reason = "an equal picture lies in a folder of the other class"
            rejected.append(Rejection((one.source,), "labels-contradict", reason))
        elif one.source.name in copies:
            reason = "a picture of equal name and bytes lies in another folder"
            rejected.append(Rejection((one.source,), "duplicate", reason))
        elif not one.patient and not settings.allow_unknown_patients:
            reason = "a picture without a patient"
            rejected.append(Rejection((one.source,), "patient-unknown", reason))
        else:
            # without a slice number a picture stands alone, under its own stem
            alone = one.stem if one.number is None else ""
            patient = one.patient or one.stem
            key = (patient, bool(one.patient), one.session or "", one.role, alone, one.channel or 0)
            stacks[key].append(one)
    found: list[ScanRecord] = []
    for _, stack in sorted(stacks.items()):
        stack.sort(key=lambda one: (one.number or 0, one.source.name))
        numbers = [one.number for one in stack if one.number is not None]
        if numbers and not even(numbers):
            reason = f"{len(stack)} slice numbers with gaps or repeats"
            rejected.append(Rejection(tuple(one.source for one in stack), "missing-slice", reason))
        elif numbers:
            found.append(as_found(stack))
        else:
            found += [as_found([one]) for one in stack]
    return found, rejected


def as_found(stack: list[Slice]) -> ScanRecord:
    """Slices of one volume, or one picture that stands alone."""
    first = stack[0]
    return ScanRecord(
        role=first.role,
        format="image2d",
        sources=tuple(one.source for one in stack),
        patient=first.patient or first.stem,
        patient_known=bool(first.patient),
        session=first.session,
        when=first.session or "",
        stem=first.stem,
        modality=first.modality,
        evidence=first.evidence,
        # Nothing else says that a mask belongs to one picture of a patient and not to all.
        frame_of_reference=first.stem if first.number is None else "",
        label=first.label,
        first_slice=first.number or 0,
        channel=first.channel,
        label_convention=first.labels if first.role == "mask" else None,
    )


def read_name(
    source: Source,
    settings: Ingest,
    older: dict[str, tuple[str, int | None]],
    table: FilesTable,
    row: Row | None,
) -> Slice:
    """What tables, the pattern in params, and else the layouts say of a picture."""
    plain = without_suffix(source.name)
    bare = MASK_ENDING.sub("", plain)
    *folders, last = bare.split("/")
    in_mask_folder = any(folder.lower() in MASK_FOLDERS for folder in folders[-2:])
    role: Literal["image", "mask"] = "mask" if bare != plain or in_mask_folder else "image"
    kept = [one for one in folders if one.lower() not in MASK_FOLDERS | IMAGE_FOLDERS]
    stem = "/".join([*kept, last])
    one = Slice(
        source, role, stem, modality=from_name(stem) or "other", label=class_of(source.name)
    )
    match = match_layout(without_ending(bare))
    if match is not None and match["patient"]:
        told = match.layout.picture
        one = replace(
            one,
            patient=match["patient"],
            session=match["session"] or None,
            number=int(match["slice"]) if match["slice"] else None,
            modality=told.get("modality", one.modality),
            evidence=match.layout.name if "modality" in told else one.evidence,
            channel=told.get("channel") if settings.pictures.channel is None else None,
            labels=match.labels,
        )
    if settings.pictures.modality is not None:
        one = replace(one, modality=settings.pictures.modality, evidence="ingest.pictures")
    pattern = settings.pictures.pattern
    found = re.search(pattern, bare) if pattern else None
    if found is not None:
        number = found.groupdict().get("slice") or ""
        number_of = int(number) if number.isdigit() else None
        one = replace(one, patient=found["patient"], session=None, number=number_of)
    images = [bare + suffix for suffix in SUFFIXES]
    listed = next((older[key] for key in (source.name, *images) if key in older), None)
    if listed is not None:
        one = replace(one, patient=listed[0], session=None, number=listed[1])
    if row is None and role == "mask" and table:
        row = next((said for said in map(table.says, images) if said is not None), None)
        row = replace(row, role=None) if row is not None else None
    return one if row is None else as_owner_says(one, row)


def as_owner_says(one: Slice, row: Row) -> Slice:
    """A picture with what its row fills in."""
    said: dict[str, object] = {
        "patient": row.patient,
        "session": row.session,
        "number": row.slice,
        "role": row.role,
        "channel": row.channel,
        "label": row.label,
    }
    one = replace(one, **{key: value for key, value in said.items() if value is not None})  # type: ignore[arg-type]
    if row.modality is None or row.modality == one.modality:
        return one
    return replace(one, modality=cast(Modality, row.modality), evidence=EVIDENCE)


def copies_of(slices: list[Slice]) -> set[str]:
    """Pictures of which an equal one, with the same name and of the same patient, comes before.

    Without a patient the picture itself tells, and the mask goes with it: data sets are often
    unpacked with a second copy inside.
    """
    alike: dict[tuple[object, ...], list[Slice]] = defaultdict(list)
    for one in slices:
        last = one.source.name.rpartition("/")[2]
        if one.patient or one.role == "image":
            key = (one.patient, one.session, one.role, one.number, last, one.source.size)
            alike[key].append(one)
    copies: set[str] = set()
    stems: set[str] = set()
    for group in alike.values():
        if len(group) > 1:
            seen: set[bytes] = set()
            for one in sorted(group, key=lambda one: (len(one.source.name), one.source.name)):
                found = content_digest(one.source)
                if found in seen:
                    copies.add(one.source.name)
                    stems.add(one.stem)
                seen.add(found)
    masks = {one.source.name for one in slices if one.role == "mask" and not one.patient
             and one.stem in stems}  # fmt: skip
    return copies | masks


def of_both_classes(slices: list[Slice]) -> set[str]:
    """Pictures of which an equal one, under whatever name, lies in a folder of the other class."""
    sized: dict[int, list[Slice]] = defaultdict(list)
    for one in slices:
        if one.role == "image" and one.label is not None:
            sized[one.source.size].append(one)
    found: set[str] = set()
    for group in sized.values():
        if len({one.label for one in group}) < 2:
            continue
        equal: dict[bytes, list[Slice]] = defaultdict(list)
        for one in group:
            equal[content_digest(one.source)].append(one)
        for same in equal.values():
            if len({one.label for one in same}) > 1:
                found |= {one.source.name for one in same}
    return found


def without_class(found: Sequence[ScanRecord]) -> tuple[int, int]:
    """How many pictures have neither a class nor a mask, and in how many folders they lie."""
    with_masks = {(one.patient, one.frame_of_reference) for one in found if one.role == "mask"}
    lost = [
        one
        for one in found
        if one.format == "image2d" and one.role == "image" and one.label is None
        and (one.patient, one.frame_of_reference) not in with_masks
    ]  # fmt: skip
    return sum(len(one.sources) for one in lost), len({parent_of(one.name) for one in lost})


def without_suffix(name: str) -> str:
    """A path without the ending of its format."""
    return PurePosixPath(name).with_suffix("").as_posix()


def even(numbers: list[int]) -> bool:
    """Whether sorted slice numbers run without gaps and repeats."""
    return len(set(np.diff(numbers).tolist()) | {1}) == 1


def read_pictures(found: ScanRecord, settings: Ingest) -> Volume:
    """Pictures as (columns, rows, slices) with nominal spacing, int16 or float32.

    Raises:
        RefusalError: pictures of different sizes, colours, or more than one page.
    """
    mask = found.role == "mask"
    opened = [read_plane(s, settings, mask=mask, channel=found.channel) for s in found.sources]
    planes = [plane for plane, _ in opened]
    if len({plane.shape for plane in planes}) > 1:
        raise RejectionError("not-a-volume", f"{len(planes)} pictures of different sizes")
    if sum(plane.size for plane in planes) > settings.max_voxels:
        raise RejectionError("too-large", f"more than {settings.max_voxels} voxels")
    x, y, z = settings.pictures.spacing_mm
    data = np.stack([plane.T for plane in planes], axis=-1)  # (columns, rows, slices)
    affine = np.diag([-x, -y, z, 1.0])
    affine[2, 3] = z * found.first_slice  # masks may be there for some of the slices only
    turns = frozenset(turn for _, turn in opened)
    return Volume(to_smallest_dtype(data), affine, exif_turns=turns - {UPRIGHT})
