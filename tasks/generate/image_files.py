"""Read slices from PNG, JPEG or NIfTI files, one a slice and channel, with or without masks."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tasks.common.bids_suffixes import BIDS_SUFFIX
from tasks.generate.slice_table import (
    FILE_COLUMN,
    file_column,
    file_stem,
    join_to_files,
    match_files,
)
from tasks.stage.errors import InputError

JPEG_EXTENSIONS = (".jpg", ".jpeg")
EXTENSIONS = (".nii.gz", ".nii", ".png", *JPEG_EXTENSIONS)
MASK_SUFFIX = "_mask"
# Usual files beside slices; all others that are no slices are counted and reported.
IGNORED_FILES = {"slices.csv", "readme.md", "readme", "readme.txt", "license", "sha256sums"}


@dataclass(frozen=True)
class SliceFiles:
    """The files of one slice: an image a channel, and its mask where there is one."""

    channels: list[Path]
    mask: Path | None

    @property
    def name(self) -> str:
        """The file name of the first channel, by which `slices.csv` names the slice."""
        return self.channels[0].name


def read_image_files(
    folder: Path, table: pd.DataFrame | None
) -> tuple[NDArray[Any], NDArray[np.uint8] | None, pd.DataFrame, dict[str, str]]:
    """Read the slices in the text order of their names.

    Args:
        folder: the folder that directly holds them.
        table: its `slices.csv`. Further channels are in its columns `file_MODALITY`, in that order;
            without such columns they are recognised by BIDS suffixes (`x.png`, `x_T1w.png`).

    Returns:
        Images (N,C,H,W) of any type, masks (N,H,W) in {0,1} or None, the table in the same order
        with a column `file`, and the assumptions, in words.

    Raises:
        InputError: where the role of a file is ambiguous.
    """
    path = folder / "slices.csv"
    slice_files, assumed = group_files(folder, table)
    names = [each.name for each in slice_files]
    if table is None:
        rows = pd.DataFrame(index=range(len(names)))
    else:
        rows, assumed["rows"] = join_to_files(table, names, path)
    channels = [read_channel([each.channels[channel] for each in slice_files])
             for channel in range(len(slice_files[0].channels))]  # fmt: skip
    for channel in channels[1:]:
        if channel.shape != channels[0].shape or channel.dtype != channels[0].dtype:
            raise InputError(
                f"{folder}: channels of {channels[0].shape[1:]} {channels[0].dtype} and of"
                f" {channel.shape[1:]} {channel.dtype}; expected one size and type"
            )
    pixels = np.stack(channels, axis=1)  # (N,C,H,W)
    masks = [each.mask for each in slice_files if each.mask is not None]
    if masks and len(masks) < len(slice_files):
        unpaired = next(each.name for each in slice_files if each.mask is None)
        raise InputError(
            f"{folder}: {unpaired} has no _mask partner, others do; add it or an empty one"
        )
    mask_array = read_masks(masks) if masks else None
    return pixels, mask_array, rows.assign(**{FILE_COLUMN: names}), assumed


def group_files(
    folder: Path, table: pd.DataFrame | None
) -> tuple[list[SliceFiles], dict[str, str]]:
    """Group a folder's files into slices with their channels and masks."""
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    files = [path for path in paths if extension(path) and not path.name.startswith(".")]
    masks = {
        file_stem(path.name): path for path in files if file_stem(path.name).endswith(MASK_SUFFIX)
    }
    images = [path for path in files if not file_stem(path.name).endswith(MASK_SUFFIX)]
    if not images:
        raise InputError(
            f"{folder} holds no slices; expected images.npy (all slices in one array), or PNG,"
            " JPEG or NIfTI files, one a slice, themselves in this folder"
        )
    for name, times in Counter(file_stem(path.name) for path in files).items():
        if times > 1:
            one, other, *_ = (path.name for path in files if file_stem(path.name) == name)
            raise InputError(f"{folder}: {one} and {other} differ in their ending only; remove one")
    assumed = {}
    channels, assumed_channels = group_channels(folder, images, table)
    if assumed_channels:
        assumed["channels"] = assumed_channels
    slice_files = [SliceFiles(group, take_mask(group, masks)) for group in channels]
    if masks:
        unpaired = min(path.name for path in masks.values())
        raise InputError(
            f"{folder}: {unpaired} is the mask of no image here; add the image or remove it"
        )
    others = [
        path for path in paths
        if not extension(path) and not path.name.startswith(".")
        and path.name.casefold() not in IGNORED_FILES
    ]  # fmt: skip
    if others:
        assumed["ignored"] = f"{len(others)} files that are no slices, such as *{others[0].suffix}"
    return slice_files, assumed


def take_mask(group: list[Path], masks: dict[str, Path]) -> Path | None:
    """Take a slice's mask out of `masks`: it is named as one of the channels, or as all of them."""
    stems = [file_stem(path.name) for path in group]
    for suffix in ("", *(f"_{suffix.casefold()}" for suffix in BIDS_SUFFIX.values())):
        for name in stems:
            if (mask := masks.pop(name.removesuffix(suffix) + MASK_SUFFIX, None)) is not None:
                return mask
    return None


def group_channels(
    folder: Path, images: list[Path], table: pd.DataFrame | None
) -> tuple[list[list[Path]], str | None]:
    """Group images into the channels of each slice, and name what was assumed."""
    names = [] if table is None else [str(name) for name in table]
    extra = [name for name in names if name.startswith(f"{FILE_COLUMN}_")]
    if table is not None and extra:
        names = [path.name for path in images]
        columns = [file_column(table, names) or FILE_COLUMN, *extra]
        if columns[0] not in table:
            raise InputError(f"{folder}/slices.csv has a column {extra[0]} but none named file")
        positions = [
            match_files(table[name].tolist(), names, folder / "slices.csv") for name in columns
        ]
        groups = [
            [images[position] for position in group] for group in zip(*positions, strict=True)
        ]
        used = {path for group in groups for path in group}
        if len(used) < sum(map(len, groups)):
            raise InputError(f"{folder}/slices.csv names one file in two places; correct it")
        if len(used) < len(images):
            unpaired = min(path.name for path in images if path not in used)
            raise InputError(
                f"{folder}/slices.csv does not name {unpaired}; add it or remove the file"
            )
        return sorted(groups, key=lambda group: group[0].name), None
    return group_channels_by_suffix(folder, images)


def group_channels_by_suffix(
    folder: Path, images: list[Path]
) -> tuple[list[list[Path]], str | None]:
    """Group channels by the suffixes of their names, in the order of `BIDS_SUFFIX`."""
    endings = {f"_{suffix.casefold()}": modality for modality, suffix in BIDS_SUFFIX.items()}
    order = ["", *endings]
    groups: dict[str, dict[str, Path]] = {}
    for path in images:
        name = file_stem(path.name)
        suffix = max((suffix for suffix in endings if name.endswith(suffix)), key=len, default="")
        groups.setdefault(name.removesuffix(suffix), {})[suffix] = path
    if all(len(group) == 1 for group in groups.values()):
        return [[path] for path in images], None
    sets = {tuple(sorted(group, key=order.index)) for group in groups.values()}
    if len(sets) > 1:
        most = max(sets, key=len)
        incomplete = min(
            path.name for group in groups.values() if len(group) < len(most)
            for path in group.values()
        )  # fmt: skip
        raise InputError(
            f"{folder}: {incomplete} has fewer channels than other slices, which have files that"
            f" end in {most[-1]}; add them, or name the files of each slice in slices.csv (columns"
            " file, file_T1w, ...)"
        )
    (suffixes,) = sets
    channel_names = ", ".join(
        endings.get(suffix, "the name without an ending") for suffix in suffixes
    )
    return [
        [group[suffix] for suffix in suffixes] for group in groups.values()
    ], f"{channel_names} by file names"


def read_channel(paths: Sequence[Path]) -> NDArray[Any]:
    """Read one channel of all slices, of one shape and type, as (N,H,W)."""
    return np.stack(read_planes(paths))


def read_masks(paths: Sequence[Path]) -> NDArray[np.uint8]:
    """Read masks (N,H,W) in {0,1}: 1 above 0, or above 127 in JPEG, whose zeros are noisy."""
    thresholds = [127 if extension(path) in JPEG_EXTENSIONS else 0 for path in paths]
    return np.stack(
        [
            (mask > threshold).astype(np.uint8)
            for mask, threshold in zip(read_planes(paths), thresholds, strict=True)
        ]
    )


def read_planes(paths: Sequence[Path]) -> list[NDArray[Any]]:
    """Read planes (H,W) and check that they have one shape and type."""
    planes = [read_plane(path) for path in paths]
    for plane, path in zip(planes, paths, strict=True):
        if plane.shape != planes[0].shape or plane.dtype != planes[0].dtype:
            raise InputError(
                f"{path} is {plane.shape} {plane.dtype}, {paths[0].name} is {planes[0].shape}"
                f" {planes[0].dtype}; expected one size and type"
            )
    return planes


def read_plane(path: Path) -> NDArray[Any]:
    """Read one slice (H,W): rows run from anterior to posterior, columns from right to left."""
    try:
        return read_pixels(path)
    except (OSError, EOFError, SyntaxError, ValueError, ImageFileError, HeaderDataError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} cannot be read ({reason}); replace or remove it") from None


def read_pixels(path: Path) -> NDArray[Any]:
    """Read what `read_plane` returns; the reading library's errors pass."""
    if not extension(path).startswith(".nii"):
        with Image.open(path) as image:
            if image.mode not in ("L", "1"):
                raise InputError(f"{path} is a {image.mode} picture; expected 8-bit grey")
            grey: NDArray[np.uint8] = np.asarray(ImageOps.exif_transpose(image).convert("L"))
            return grey
    volume = nib.as_closest_canonical(nib.load(path))
    values: NDArray[Any] = np.asanyarray(volume.dataobj).squeeze()
    if values.ndim != 2:
        raise InputError(f"{path} has shape {values.shape}; expected one axial slice a file")
    return values[::-1, ::-1].T  # (x to the right, y to the front) -> (H,W)


def extension(path: Path) -> str:
    """Return the extension of a slice's file in lower case, empty for other files."""
    return next((suffix for suffix in EXTENSIONS if path.name.lower().endswith(suffix)), "")
