"""Slices in memory, as `judge` takes them and `Generator.sample` returns them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from tasks.commands.judge.image_folders import FolderSlices, folder_slices, read_folder
from tasks.generate.external_images import ImageFolder, channels_first, scale_to_unit_range
from tasks.generate.slice_table import parse_labels
from tasks.stage.errors import InputError


@dataclass(frozen=True)
class Slices:
    """N slices with what is known of them.

    Attributes:
        images: (N,H,W) or (N,C,H,W), uint8 or floats in [-1, 1] (or [0, 1]) with air lowest.
        masks: (N,H,W), anything above 0 is tumour; None: not known.
        labels: (N,), 1 tumour, 0 none, -1 unknown; None: tumour where the mask is not empty.
        subjects: the patient of each slice; None: not known, so each slice counts as a patient.
        sites: where each slice was acquired; None: not known.
        pixel_mm: side of a pixel, where it is known. `judge` does not use it.
        modalities: what the channels show, where it is known. `judge` does not use it.
    """

    images: NDArray[Any]
    masks: NDArray[Any] | None = None
    labels: NDArray[Any] | None = None
    subjects: Sequence[Any] | None = None
    sites: Sequence[Any] | None = None
    pixel_mm: float | None = None
    modalities: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.images)


def to_folder_slices(given: "str | Path | Slices | ArrayLike", *, name: str) -> FolderSlices:
    """Read a folder, or check slices in memory, for the gate.

    Args:
        given: a folder of images, `Slices`, or an array of images.
        name: of the argument, for messages.

    Raises:
        InputError: saying which argument is wrong, and how.
    """
    if isinstance(given, str | Path):
        return read_folder(Path(given), name=name)
    slices = given if isinstance(given, Slices) else Slices(np.asarray(given))
    source = Path(name)  # stands in messages, where a folder's name would
    pixels, axes = channels_first(np.asarray(slices.images), source)
    images, value_range = scale_to_unit_range(pixels, source)
    assumed = {"axes": axes, "range": value_range}
    masks = None
    if slices.masks is not None:
        masks = (np.asarray(slices.masks) > 0).astype(np.uint8)
        if masks.shape != (len(images), *images.shape[2:]):
            raise InputError(
                f"{name}: masks of shape {masks.shape} for images of shape {images.shape};"
                " expected one mask (H,W) for each image"
            )
    table = pd.DataFrame(index=range(len(images)))
    columns = {"label": slices.labels, "subject": slices.subjects, "site": slices.sites}
    for column, values in columns.items():
        if values is None:
            continue
        if len(values) != len(images):
            raise InputError(
                f"{name}: {len(values)} values of {column} for {len(images)} images; expected one"
                " for each"
            )
        table[column] = [str(value) for value in values]
    if slices.labels is not None:
        labels, assumed["labels"] = np.array(parse_labels(table, source), np.int64), "as given"
    elif masks is not None:
        labels = np.asarray(masks.any((1, 2)), np.int64)
        assumed["labels"] = "tumour where the mask is not empty"
    else:
        labels, assumed["labels"] = np.full(len(images), -1, np.int64), "unknown"
    return folder_slices(
        ImageFolder(images, masks, labels, table, assumed), name=name, source=source
    )
