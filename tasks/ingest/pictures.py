"""2D collections: PNG, JPEG and TIFF slices with `_mask` partners or in class folders.

Such files name no geometry: spacing comes from `ingest.pictures`, and each picture is taken as
an axial slice seen from below, the patient's right at the left. Pictures of one patient that
carry slice numbers make one volume; others are a volume of one slice each.
"""

import re
from collections import defaultdict
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tasks.ingest.found import Found, Rejection
from tasks.ingest.inventory import Source
from tasks.ingest.modality import from_name
from tasks.ingest.refusal import RefusalError
from tasks.ingest.volume import Volume, compact
from tasks.params.ingest import Ingest

MASK_ENDING = re.compile(r"[_\- ](mask|seg|label)$", re.IGNORECASE)
TUMOUR_FOLDER = re.compile(
    r"yes|1|(with[_\- ]?)?tumou?r|(glioma|meningioma|pituitary)([_\- ]?tumou?r)?"
)
HEALTHY_FOLDER = re.compile(r"no|0|healthy|normal|(no|non|without)[_\- ]?tumou?r")
FORMATS = ("PNG", "JPEG", "TIFF")


def survey(
    sources: list[Source], settings: Ingest, table: dict[str, tuple[str, int | None]]
) -> tuple[list[Found], list[Rejection]]:
    """Images and masks of a batch's pictures; `table` gives patient and slice by path."""
    rejected: list[Rejection] = []
    stacks: dict[tuple[str, str, bool], list[tuple[int, Source]]] = defaultdict(list)
    unknown: set[str] = set()
    for source in sources:
        stem = MASK_ENDING.sub("", without_suffix(source.name))
        role = "mask" if stem != without_suffix(source.name) else "image"
        patient, number = identify(source.name, stem, settings, table)
        if patient is None:
            if not settings.allow_unknown_patients:
                reason = "a picture without a patient"
                rejected.append(Rejection((source,), "patient-unknown", reason))
                continue
            patient = stem
            unknown.add(patient)
        # without a slice number a picture stands alone, under its own stem
        stacks[patient, role, number is None].append((number or 0, source))
    found: list[Found] = []
    for (patient, role, alone), numbered in sorted(stacks.items()):
        numbered.sort(key=lambda pair: (pair[0], pair[1].name))
        groups = [[source] for _, source in numbered] if alone else [[s for _, s in numbered]]
        first = numbered[0][0]
        if not alone and not even([number for number, _ in numbered]):
            reason = f"{len(numbered)} slice numbers with gaps or repeats"
            rejected.append(Rejection(tuple(groups[0]), "missing-slice", reason))
            continue
        for group in groups:
            stem = MASK_ENDING.sub("", without_suffix(group[0].name))
            found.append(
                Found(
                    role="mask" if role == "mask" else "image",
                    format="image2d",
                    sources=tuple(group),
                    patient=patient,
                    patient_known=patient not in unknown,
                    stem=stem,
                    modality=settings.pictures.modality or from_name(stem) or "other",
                    evidence="ingest.pictures" if settings.pictures.modality else "file name",
                    label=class_of(group[0].name),
                    first_slice=first,
                )
            )
    return found, rejected


def without_suffix(name: str) -> str:
    """A path without the ending of its format."""
    return PurePosixPath(name).with_suffix("").as_posix()


def identify(
    name: str, stem: str, settings: Ingest, table: dict[str, tuple[str, int | None]]
) -> tuple[str | None, int | None]:
    """Patient and slice number of a picture, by the table or else by the pattern in params."""
    for key in (name, *(stem + suffix for suffix in (".png", ".jpg", ".jpeg", ".tif", ".tiff"))):
        if key in table:
            return table[key]
    pattern = settings.pictures.pattern
    match = re.search(pattern, stem) if pattern else None
    if match is None:
        return None, None
    groups = match.groupdict()
    number = groups.get("slice")
    return groups["patient"], int(number) if number and number.isdigit() else None


def even(numbers: list[int]) -> bool:
    """Whether sorted slice numbers run without gaps and repeats."""
    return len(set(np.diff(numbers).tolist()) | {1}) == 1


def class_of(name: str) -> int | None:
    """1 or 0 where a folder's name tells a class, else None."""
    for part in reversed(PurePosixPath(name.lower()).parts[:-1]):
        if TUMOUR_FOLDER.fullmatch(part):
            return 1
        if HEALTHY_FOLDER.fullmatch(part):
            return 0
    return None


def read_pictures(found: Found, settings: Ingest) -> Volume:
    """Pictures as (columns, rows, slices) with nominal spacing, int16 or float32.

    Raises:
        RefusalError: pictures of different sizes, colours, or more than one page.
    """
    planes = [read_plane(source, settings, mask=found.role == "mask") for source in found.sources]
    if len({plane.shape for plane in planes}) > 1:
        raise RefusalError("not-a-volume", f"{len(planes)} pictures of different sizes")
    if sum(plane.size for plane in planes) > settings.max_voxels:
        raise RefusalError("too-large", f"more than {settings.max_voxels} voxels")
    x, y, z = settings.pictures.spacing_mm
    data = np.stack([plane.T for plane in planes], axis=-1)  # (columns, rows, slices)
    affine = np.diag([-x, -y, z, 1.0])
    affine[2, 3] = z * found.first_slice  # masks may be there for some of the slices only
    return Volume(compact(data), affine)


def read_plane(source: Source, settings: Ingest, *, mask: bool) -> NDArray[np.generic]:
    """(rows, columns) of one grey picture; of a coloured one the channel in `ingest.pictures`."""
    try:
        with Image.open(source.path, formats=FORMATS) as picture:
            if getattr(picture, "n_frames", 1) > 1:
                raise RefusalError("several-volumes", "more than one page in the file")
            if picture.width * picture.height > settings.max_voxels:
                raise RefusalError("too-large", f"more than {settings.max_voxels} pixels declared")
            values = np.asarray(picture.convert("RGB") if picture.mode == "P" else picture)
    except RefusalError:
        raise
    except Image.DecompressionBombError:
        raise RefusalError("too-large", "the picture declares too many pixels") from None
    except Exception as error:
        raise RefusalError("corrupt", f"not a readable picture ({type(error).__name__})") from None
    if values.ndim == 3:
        colours = values[..., :3] if values.shape[-1] in (3, 4) else values[..., :1]
        channel = settings.pictures.channel
        if mask or (colours == colours[..., :1]).all():
            return np.asarray(colours.max(axis=-1))
        if channel is None:
            raise RefusalError("not-greyscale", "channels differ; choose ingest.pictures.channel")
        return np.asarray(colours[..., channel])
    return values
