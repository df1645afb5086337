"""Describe PNG, JPEG and TIFF files as images and masks of patients, by names and tables.

Masks are named `X_mask` beside `X` or lie in a folder of masks; folders may name the class. 2D
images of one patient with slice numbers make one volume; others are a volume of one slice each.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Literal, cast

import numpy as np

from tasks.common.synthetic_marks import is_marked_name
from tasks.ingest.core.mr_contrast import Modality, contrast_from_name
from tasks.ingest.core.rejection import Rejection
from tasks.ingest.core.scan_record import ScanRecord
from tasks.ingest.core.source_file import Source, content_digest
from tasks.ingest.filenames.layouts import match_layout, strip_format_suffix
from tasks.ingest.filenames.name_parts import MASK_FOLDERS, parent_folder
from tasks.ingest.files.list_files import IMAGE_SUFFIXES as SUFFIXES
from tasks.ingest.images2d.class_folders import class_from_path
from tasks.ingest.user_tables.files_csv import OWNER_EVIDENCE, OWNER_SKIPS, FilesRow, FilesTable
from tasks.params.ingest import Ingest

MASK_ENDING = re.compile(
    r"[_\- .](masks?|seg|segm|segmentation|labels?|gt|annotation|truth)$", re.IGNORECASE
)
IMAGE_FOLDERS = {"images", "image", "imgs", "img"}


@dataclass(frozen=True, slots=True)
class Image2D:
    """A 2D image by its names and tables; `patient` is empty where it is not known.

    `slice_number` is its place in a volume, None where it stands alone. `stem` is the part of the
    path that an image and its mask share.
    """

    source: Source
    role: Literal["image", "mask"]
    stem: str
    patient: str = ""
    session: str | None = None
    slice_number: int | None = None
    modality: Modality = "other"
    evidence: str = "file name"
    channel: int | None = None
    label: int | None = None
    label_convention: str | None = None


def find_image2d_scans(
    sources: list[Source],
    settings: Ingest,
    images2d_table: dict[str, tuple[str, int | None]],
    table: FilesTable,
) -> tuple[list[ScanRecord], list[Rejection]]:
    """Return the scans and the rejections of a batch's 2D images; each file is in one of them.

    `images2d_table` is `pictures.csv`, `table` is `files.csv`.
    """
    rejected: list[Rejection] = []
    images: list[Image2D] = []
    for source in sources:
        row = table.row_of(source.name) if table else None
        if row is not None and row.role == "skip":
            rejected.append(Rejection((source,), *OWNER_SKIPS))
            continue
        images.append(parse_image2d(source, settings, images2d_table, table, row))
    duplicates, contradicted = find_duplicates(images), find_class_contradictions(images)
    stacks: dict[tuple[object, ...], list[Image2D]] = defaultdict(list)
    for image in images:
        if image.source.name in contradicted:
            reason = "an equal picture lies in a folder of the other class"
            rejected.append(Rejection((image.source,), "labels-contradict", reason))
        elif image.source.name in duplicates:
            reason = "a picture of equal name and bytes lies in another folder"
            rejected.append(Rejection((image.source,), "duplicate", reason))
        elif is_marked_name(image.source.name) and not settings.allow_synthetic:
            rejected.append(Rejection((image.source,), "synthetic", "marked by its name"))
        elif not image.patient and not settings.allow_unknown_patients:
            reason = "a picture without a patient"
            rejected.append(Rejection((image.source,), "patient-unknown", reason))
        else:
            # without a slice number an image stands alone, under its own stem
            alone = image.stem if image.slice_number is None else ""
            patient = image.patient or image.stem
            key = (
                patient,
                bool(image.patient),
                image.session or "",
                image.role,
                alone,
                image.channel or 0,
            )
            stacks[key].append(image)
    scans: list[ScanRecord] = []
    for _, stack in sorted(stacks.items()):
        stack.sort(key=lambda image: (image.slice_number or 0, image.source.name))
        numbers = [image.slice_number for image in stack if image.slice_number is not None]
        if numbers and not is_consecutive(numbers):
            reason = f"{len(stack)} slice numbers with gaps or repeats"
            rejected.append(
                Rejection(tuple(image.source for image in stack), "missing-slice", reason)
            )
        elif numbers:
            scans.append(make_scan_record(stack))
        else:
            scans += [make_scan_record([image]) for image in stack]
    return scans, rejected


def make_scan_record(stack: list[Image2D]) -> ScanRecord:
    """Describe the slices of one volume, or one image that stands alone."""
    first = stack[0]
    return ScanRecord(
        role=first.role,
        format="image2d",
        sources=tuple(image.source for image in stack),
        patient=first.patient or first.stem,
        patient_known=bool(first.patient),
        session=first.session,
        session_order=first.session or "",
        stem=first.stem,
        modality=first.modality,
        evidence=first.evidence,
        # Only the stem says that a mask belongs to this image and not to all of the patient's.
        frame_of_reference=first.stem if first.slice_number is None else "",
        label=first.label,
        synthetic=any(is_marked_name(image.source.name) for image in stack),
        first_slice=first.slice_number or 0,
        channel=first.channel,
        label_convention=first.label_convention if first.role == "mask" else None,
    )


def parse_image2d(
    source: Source,
    settings: Ingest,
    images2d_table: dict[str, tuple[str, int | None]],
    table: FilesTable,
    row: FilesRow | None,
) -> Image2D:
    """Parse a file's name by the layouts, the pattern in params and the owner's tables.

    The later of these wins: layout, `ingest.pictures`, `pictures.csv`, `files.csv`.
    """
    path = strip_suffix(source.name)
    stem_path = MASK_ENDING.sub("", path)
    *folders, last = stem_path.split("/")
    in_mask_folder = any(folder.lower() in MASK_FOLDERS for folder in folders[-2:])
    role: Literal["image", "mask"] = "mask" if stem_path != path or in_mask_folder else "image"
    content_folders = [
        folder for folder in folders if folder.lower() not in MASK_FOLDERS | IMAGE_FOLDERS
    ]
    stem = "/".join([*content_folders, last])
    image = Image2D(
        source,
        role,
        stem,
        modality=contrast_from_name(stem) or "other",
        label=class_from_path(source.name),
    )
    match = match_layout(strip_format_suffix(stem_path))
    if match is not None and match["patient"]:
        layout_values = match.layout.image2d
        image = replace(
            image,
            patient=match["patient"],
            session=match["session"] or None,
            slice_number=int(match["slice"]) if match["slice"] else None,
            modality=layout_values.get("modality", image.modality),
            evidence=match.layout.name if "modality" in layout_values else image.evidence,
            channel=layout_values.get("channel") if settings.pictures.channel is None else None,
            label_convention=match.labels,
        )
    if settings.pictures.modality is not None:
        image = replace(image, modality=settings.pictures.modality, evidence="ingest.pictures")
    pattern = settings.pictures.pattern
    pattern_match = re.search(pattern, stem_path) if pattern else None
    if pattern_match is not None:
        digits = pattern_match.groupdict().get("slice") or ""
        slice_number = int(digits) if digits.isdigit() else None
        image = replace(
            image, patient=pattern_match["patient"], session=None, slice_number=slice_number
        )
    images = [stem_path + suffix for suffix in SUFFIXES]
    listed = next(
        (images2d_table[key] for key in (source.name, *images) if key in images2d_table), None
    )
    if listed is not None:
        image = replace(image, patient=listed[0], session=None, slice_number=listed[1])
    if row is None and role == "mask" and table:
        row = next((found for found in map(table.row_of, images) if found is not None), None)
        row = replace(row, role=None) if row is not None else None
    return image if row is None else apply_row(image, row)


def apply_row(image: Image2D, row: FilesRow) -> Image2D:
    """Set what a row of `files.csv` fills in."""
    values: dict[str, object] = {
        "patient": row.patient,
        "session": row.session,
        "slice_number": row.slice,
        "role": row.role,
        "channel": row.channel,
        "label": row.label,
    }
    image = replace(image, **{key: value for key, value in values.items() if value is not None})  # type: ignore[arg-type]
    if row.modality is None or row.modality == image.modality:
        return image
    return replace(image, modality=cast(Modality, row.modality), evidence=OWNER_EVIDENCE)


def find_duplicates(images: list[Image2D]) -> set[str]:
    """Return the paths of images that equal an earlier image of the same name and patient.

    Images without a patient count as duplicates by name and content, and their masks go with them:
    data sets are often unpacked with a second copy inside.
    """
    same_name: dict[tuple[object, ...], list[Image2D]] = defaultdict(list)
    for image in images:
        filename = image.source.name.rpartition("/")[2]
        if image.patient or image.role == "image":
            key = (
                image.patient,
                image.session,
                image.role,
                image.slice_number,
                filename,
                image.source.size,
            )
            same_name[key].append(image)
    duplicates: set[str] = set()
    stems: set[str] = set()
    for group in same_name.values():
        if len(group) > 1:
            seen: set[bytes] = set()
            for image in sorted(
                group, key=lambda image: (len(image.source.name), image.source.name)
            ):
                digest = content_digest(image.source)
                if digest in seen:
                    duplicates.add(image.source.name)
                    stems.add(image.stem)
                seen.add(digest)
    masks = {image.source.name for image in images if image.role == "mask" and not image.patient
             and image.stem in stems}  # fmt: skip
    return duplicates | masks


def find_class_contradictions(images: list[Image2D]) -> set[str]:
    """Return the images that equal an image, whatever its name, in a folder of the other class."""
    by_size: dict[int, list[Image2D]] = defaultdict(list)
    for image in images:
        if image.role == "image" and image.label is not None:
            by_size[image.source.size].append(image)
    contradictions: set[str] = set()
    for group in by_size.values():
        if len({image.label for image in group}) < 2:
            continue
        equal: dict[bytes, list[Image2D]] = defaultdict(list)
        for image in group:
            equal[content_digest(image.source)].append(image)
        for same in equal.values():
            if len({image.label for image in same}) > 1:
                contradictions |= {image.source.name for image in same}
    return contradictions


def count_unlabelled(scans: Sequence[ScanRecord]) -> tuple[int, int]:
    """Count the 2D images that have neither a class nor a mask, and the folders that hold them."""
    with_masks = {(scan.patient, scan.frame_of_reference) for scan in scans if scan.role == "mask"}
    unlabelled = [
        scan
        for scan in scans
        if scan.format == "image2d" and scan.role == "image" and scan.label is None
        and (scan.patient, scan.frame_of_reference) not in with_masks
    ]  # fmt: skip
    return sum(len(scan.sources) for scan in unlabelled), len(
        {parent_folder(scan.name) for scan in unlabelled}
    )


def strip_suffix(name: str) -> str:
    """Return a path without the suffix of its format."""
    return PurePosixPath(name).with_suffix("").as_posix()


def is_consecutive(numbers: list[int]) -> bool:
    """Check whether sorted slice numbers run without gaps and repeats."""
    return len(set(np.diff(numbers).tolist()) | {1}) == 1
