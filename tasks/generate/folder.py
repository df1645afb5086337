"""Slices made elsewhere: a folder of arrays, or of PNG or NIfTI files with `_mask` partners.

Nothing is resized, rescaled or guessed silently: what does not fit is refused in one line.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray
from PIL import Image

from tasks.stage import StageError

SUFFIXES = (".png", ".nii.gz", ".nii")


@dataclass(frozen=True)
class ImageFolder:
    """`images` (N,C,H,W) float32 in [-1,1]; `masks` (N,H,W) in {0,1} or None; `labels` (N,)."""

    images: NDArray[np.float32]
    masks: NDArray[np.uint8] | None
    labels: NDArray[np.int64]


def read_folder(folder: Path) -> ImageFolder:
    """Read an image folder.

    Labels come from `slices.csv` (column `label`, one row a slice in the order of the array or of
    the sorted file names); without it, a slice with a mask that is not empty is a tumour slice.

    Raises:
        StageError: naming what is missing or does not fit.
    """
    if not folder.is_dir():
        raise StageError(f"synthetic.source is {folder}, which is no folder; correct params.yaml")
    if (folder / "images.npy").exists():
        pixels, masks = read_arrays(folder)
    else:
        pixels, masks = read_files(folder)
    images = in_range(pixels, folder)
    if masks is not None and masks.shape != (len(images), *images.shape[2:]):
        raise StageError(
            f"{folder}: masks of shape {masks.shape} for images of shape {images.shape};"
            " expected one mask of the same size for each image"
        )
    return ImageFolder(images, masks, labels(folder, len(images), masks))


def read_arrays(folder: Path) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
    """`images.npy` as (N,C,H,W), and `masks.npy` when there is one."""
    images = load(folder / "images.npy")
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4 or not len(images):
        raise StageError(
            f"{folder}/images.npy has shape {images.shape}; expected (N,H,W) or (N,C,H,W)"
        )
    path = folder / "masks.npy"
    return images, (load(path) > 0).astype(np.uint8) if path.exists() else None


def load(path: Path) -> NDArray[Any]:
    """An array file; never a pickle."""
    try:
        found: NDArray[Any] = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError):
        raise StageError(f"{path} is no readable array; write it with numpy.save") from None
    return found


def read_files(folder: Path) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
    """PNG or NIfTI slices in the order of their names, each with or without its `_mask`."""
    paths = sorted(path for path in folder.iterdir() if suffix_of(path))
    images = [path for path in paths if not stem_of(path).endswith("_mask")]
    if not images:
        raise StageError(
            f"{folder} holds no slices; expected images.npy (all slices in one array), or PNG or"
            " NIfTI files, one a slice, themselves in this folder"
        )
    partners = [path.with_name(f"{stem_of(path)}_mask{suffix_of(path)}") for path in images]
    present = [partner.exists() for partner in partners]
    if any(present) and not all(present):
        lonely = images[present.index(False)].name
        raise StageError(
            f"{folder}: {lonely} has no _mask partner, others do; add it or an empty one"
        )
    pixels = stack([plane(path) for path in images], images)[:, None]
    if not any(present):
        return pixels, None
    return pixels, (stack([plane(path) for path in partners], partners) > 0).astype(np.uint8)


def plane(path: Path) -> NDArray[Any]:
    """One slice (H,W): rows run from anterior to posterior, columns from right to left."""
    try:
        return pixels_of(path)
    except (OSError, EOFError, SyntaxError, ValueError, ImageFileError, HeaderDataError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StageError(f"{path} cannot be read ({reason}); replace or remove it") from None


def pixels_of(path: Path) -> NDArray[Any]:
    """What `plane` returns, or whatever the reading library raises."""
    if suffix_of(path) == ".png":
        with Image.open(path) as image:
            if image.mode not in ("L", "1"):
                raise StageError(f"{path} is a {image.mode} picture; expected 8-bit grey")
            grey: NDArray[np.uint8] = np.asarray(image.convert("L"))
            return grey
    volume = nib.as_closest_canonical(nib.load(path))
    values: NDArray[Any] = np.asanyarray(volume.dataobj).squeeze()
    if values.ndim != 2:
        raise StageError(f"{path} has shape {values.shape}; expected one axial slice a file")
    return values[::-1, ::-1].T  # (x to the right, y to the front) -> (H,W)


def stack(planes: list[NDArray[Any]], paths: list[Path]) -> NDArray[Any]:
    """Planes of one shape and type as (N,H,W)."""
    for found, path in zip(planes, paths, strict=True):
        if found.shape != planes[0].shape or found.dtype != planes[0].dtype:
            raise StageError(
                f"{path} is {found.shape} {found.dtype}, {paths[0].name} is {planes[0].shape}"
                f" {planes[0].dtype}; expected one size and type"
            )
    return np.stack(planes)


def in_range(pixels: NDArray[Any], folder: Path) -> NDArray[np.float32]:
    """Bytes, or floats in [-1, 1], as float32 in [-1, 1]; other integers have no known range."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.float32) / np.float32(127.5) - 1
    if not np.issubdtype(pixels.dtype, np.floating):
        raise StageError(
            f"{folder}: images of type {pixels.dtype}; expected uint8, or floats in [-1, 1]"
        )
    low, high = float(pixels.min()), float(pixels.max())
    if not (np.isfinite(pixels).all() and low >= -1 and high <= 1):
        raise StageError(
            f"{folder}: image values from {low:g} to {high:g}; expected floats in [-1, 1] with air"
            " at -1, or uint8"
        )
    return pixels.astype(np.float32)


def labels(folder: Path, n: int, masks: NDArray[np.uint8] | None) -> NDArray[np.int64]:
    """Labels (N,) from `slices.csv` or from the masks."""
    path = folder / "slices.csv"
    if path.exists():
        table = pd.read_csv(path)
        if "label" in table:
            if len(table) != n or not table["label"].isin([0, 1]).all():
                raise StageError(
                    f"{path} has {len(table)} rows for {n} slices, labels"
                    f" {sorted(set(table['label']))[:4]}; expected a row a slice, 0 or 1"
                )
            given: NDArray[np.int64] = table["label"].to_numpy(np.int64)
            return given
    if masks is None:
        raise StageError(
            f"{folder} has neither masks nor a slices.csv with a column label; add one of them"
        )
    found: NDArray[np.int64] = np.asarray(masks.any((1, 2)), np.int64)
    return found


def suffix_of(path: Path) -> str:
    """The suffix of a slice's file, empty for other files."""
    return next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), "")


def stem_of(path: Path) -> str:
    """The name without its suffix."""
    return path.name[: len(path.name) - len(suffix_of(path))]
