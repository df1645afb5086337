"""Read slices made elsewhere: arrays, or PNG, JPEG or NIfTI files with `_mask` files.

Nothing is resized or guessed silently. What can mean one thing only is read so, and reported
(`assumed`); what can mean two things is rejected in one line.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.generate.image_files import read_image_files
from tasks.generate.slice_table import join_to_arrays, parse_labels, read_slice_table
from tasks.stage.errors import InputError

MAX_CHANNELS = 8
MIN_SIZE_PX = 8  # pixels
ROUGHNESS_RATIO = 1.5  # times: an axis across independent slices against one along pixels
AMBIGUOUS_LOWEST = (-0.5, 0.0)  # a lowest value between these is neither air at -1 nor air at 0


@dataclass(frozen=True)
class ImageFolder:
    """The content of an image folder, slice by slice.

    `images` (N,C,H,W) float32 in [-1,1]; `masks` (N,H,W) in {0,1} or None; `labels` (N,): 1 tumour,
    0 none, -1 unknown; `table` N rows: the text of `slices.csv`, and `file` where slices are files.
    `assumed` names in words what the folder itself does not state.
    """

    images: NDArray[np.float32]
    masks: NDArray[np.uint8] | None
    labels: NDArray[np.int64]
    table: pd.DataFrame
    assumed: dict[str, str] = field(default_factory=dict)


def read_image_folder(folder: Path) -> ImageFolder:
    """Read an image folder.

    Labels come from `slices.csv` (column `label`); without it, a slice with a mask that is not
    empty is a tumour slice, and without masks nothing is known.

    Raises:
        InputError: naming what is missing or does not fit.
    """
    path = folder / "slices.csv"
    table = read_slice_table(path)
    if (folder / "images.npy").exists():
        pixels, masks, assumed = read_arrays(folder)
        if table is None:
            rows = pd.DataFrame(index=range(len(pixels)))
        else:
            rows, assumed["rows"] = join_to_arrays(table, len(pixels), path)
    else:
        pixels, masks, rows, assumed = read_image_files(folder, table)
    images, assumed["range"] = scale_to_unit_range(pixels, folder)
    if masks is not None and masks.shape != (len(images), *images.shape[2:]):
        raise InputError(
            f"{folder}: masks of shape {masks.shape} for images of shape {images.shape};"
            " expected one mask of the same size for each image"
        )
    if "label" in rows:
        labels, assumed["labels"] = np.array(parse_labels(rows, path), np.int64), "of slices.csv"
    elif masks is not None:
        labels = np.asarray(masks.any((1, 2)), np.int64)
        assumed["labels"] = "tumour where the mask is not empty"
    else:
        labels, assumed["labels"] = np.full(len(images), -1, np.int64), "unknown"
    return ImageFolder(images, masks, labels, rows, assumed)


def read_arrays(
    folder: Path,
) -> tuple[NDArray[Any], NDArray[np.uint8] | None, dict[str, str]]:
    """Read `images.npy` as (N,C,H,W) and `masks.npy` (N,H,W), if any, and the order of axes."""
    images, axes = channels_first(load_array(folder / "images.npy"), folder / "images.npy")
    path = folder / "masks.npy"
    if not path.exists():
        return images, None, {"axes": axes}
    masks = load_array(path)
    for axis in (1, -1):
        if masks.ndim == 4 and masks.shape[axis] == 1:
            masks = masks.squeeze(axis)
    return images, (masks > 0).astype(np.uint8), {"axes": axes}


def channels_first(images: NDArray[Any], path: Path) -> tuple[NDArray[Any], str]:
    """Return an array as (N,C,H,W), and which of the usual orders of axes it had.

    Raises:
        InputError: when it has none of them, or may have two.
    """
    expected = "expected (N,H,W) or (N,C,H,W)"
    if images.ndim not in (3, 4) or not len(images):
        raise InputError(f"{path} has shape {images.shape}; {expected}")
    if images.ndim == 3:
        images, axes = images[:, None], "(N,H,W)"
    else:
        first, last = (images.shape[axis] <= MAX_CHANNELS for axis in (1, 3))
        if first == last:
            raise InputError(
                f"{path} has shape {images.shape}, in which no axis can be told to be the channels;"
                f" {expected} with at most {MAX_CHANNELS} channels"
            )
        axes = "(N,C,H,W)" if first else "(N,H,W,C), channels last"
        images = images if first else np.moveaxis(images, 3, 1)
    if min(images.shape[1:]) < 1 or min(images.shape[2:]) < MIN_SIZE_PX:
        raise InputError(
            f"{path} holds slices of {images.shape[2]} x {images.shape[3]} pixels when it is read"
            f" as {axes}; {expected} with at least {MIN_SIZE_PX} pixels a side"
        )
    if slices_are_last(images):
        raise InputError(
            f"{path} read as {axes} has smooth columns and rows that jump, as if its last axis"
            f" counted the slices; {expected}: move that axis to the front with numpy.moveaxis"
        )
    return images, axes


def slices_are_last(images: NDArray[Any]) -> bool:
    """Return whether (N,C,H,W) is in truth (H,C,W,N): neighbours on the last axis differ most."""
    sampled = images[:: max(1, len(images) // 64)].astype(np.float32)
    if not np.isfinite(sampled).all():
        return False
    first_slices = images[: min(len(images), 64)].astype(np.float32)
    rows, columns = (float(np.abs(np.diff(sampled, axis=axis)).mean()) for axis in (2, 3))
    slices = float(np.abs(np.diff(first_slices, axis=0)).mean()) if len(first_slices) > 1 else 0.0
    return (
        columns > ROUGHNESS_RATIO * max(rows, slices) and slices > rows / 20
    )  # not one slice repeated


def load_array(path: Path) -> NDArray[Any]:
    """Load an array file; a pickle is rejected."""
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError):
        raise InputError(f"{path} is no readable array; write it with numpy.save") from None
    return array


def scale_to_unit_range(pixels: NDArray[Any], folder: Path) -> tuple[NDArray[np.float32], str]:
    """Convert pixels to float32 in [-1, 1], and name the range that they had.

    Bytes are 0 to 255. Floats are in [-1, 1], or in [0, 1] where none lies below 0 although air
    would. Other integers, and floats that fit neither range, have no known range.
    """
    if pixels.dtype == np.uint8:
        if pixels.max() == 1:
            raise InputError(
                f"{folder}: images are bytes of 0 and 1, as masks are; expected 0 to 255"
            )
        return pixels.astype(np.float32) / np.float32(127.5) - 1, "bytes, 0 to 255"
    if not np.issubdtype(pixels.dtype, np.floating):
        raise InputError(
            f"{folder}: images of type {pixels.dtype}; expected uint8, or floats in [-1, 1]"
        )
    low, high = float(pixels.min()), float(pixels.max())
    if not (np.isfinite(pixels).all() and low >= -1 and high <= 1):
        raise InputError(
            f"{folder}: image values from {low:g} to {high:g}; expected floats in [-1, 1] with air"
            " at -1, or uint8"
        )
    floats = pixels.astype(np.float32)
    if low >= 0 and high > low:
        return floats * 2 - 1, "floats in [0, 1], air at 0"
    if AMBIGUOUS_LOWEST[0] < low < AMBIGUOUS_LOWEST[1] and high > low:
        raise InputError(
            f"{folder}: image values from {low:g} to {high:g}, neither in [0, 1] nor in [-1, 1]"
            " with air at -1; scale them to one of these"
        )
    return floats, "floats in [-1, 1], air at -1"
