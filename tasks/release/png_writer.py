"""Slices and masks as PNG for training, marked in a text chunk; sheets with the mark in sight."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tasks.common.bids_suffixes import BIDS_SUFFIX
from tasks.common.slice_montage import slice_montage, to_grey

LABELS = {1: "tumour", 0: "no-tumour"}


def mark(subject: str) -> PngInfo:
    """The text chunks of a synthetic PNG. Pixels that train models carry no burned-in words."""
    chunks = PngInfo()
    chunks.add_text("SyntheticData", "YES")
    chunks.add_text("Description", f"SYNTHETIC slice {subject} drawn by auglift; not of any person")
    return chunks


def write(
    folder: Path,
    name: str,
    image: NDArray[np.floating],
    mask: NDArray[np.uint8],
    *,
    modalities: list[str],
) -> None:
    """One slice (C,H,W) in [-1, 1] and its mask (H,W) as 8-bit files of a folder."""
    chunks = mark(name.removeprefix("sub-"))
    for channel, modality in enumerate(modalities):
        ending = "" if channel == 0 else f"_{BIDS_SUFFIX[modality]}"
        picture = Image.fromarray(to_grey(image[channel]))
        picture.save(folder / f"{name}{ending}.png", pnginfo=chunks)
    Image.fromarray(mask * 255).save(folder / f"{name}_mask.png", pnginfo=chunks)


def write_table(
    folder: Path, table: pd.DataFrame, names: Sequence[str], *, modalities: list[str]
) -> None:
    """Write `slices.csv`, which names the files of each slice, so that they are read back.

    `table` has a row a slice (`subject`, `label` and whatever else) in the order of `names`; a
    further modality has the column `file_MODALITY`.
    """
    files = {"file": [f"{name}.png" for name in names]}
    for modality in modalities[1:]:
        suffix = BIDS_SUFFIX[modality]
        files[f"file_{suffix}"] = [f"{name}_{suffix}.png" for name in names]
    whole = pd.concat([pd.DataFrame(files), table.reset_index(drop=True)], axis=1)
    whole.to_csv(folder / "slices.csv", index=False, lineterminator="\n")


def sheets(
    images: NDArray[np.floating],
    masks: NDArray[np.integer],
    labels: NDArray[np.integer],
    subjects: list[str],
    *,
    tiles: int = 64,
) -> Iterator[tuple[str, Image.Image]]:
    """Sheets of all slices, by label: a name each, and the picture.

    `images` (N,H,W) in [-1, 1]; `masks` (N,H,W); every tile says SYNTHETIC and its subject.
    """
    for label, word in LABELS.items():
        members = np.flatnonzero(labels == label)
        for number, start in enumerate(range(0, len(members), tiles), 1):
            shown = members[start : start + tiles]
            marks = [f"SYNTHETIC {subjects[row]}" for row in shown]
            picture = slice_montage(
                images[shown], masks[shown], marks=marks, columns=8, tile_px=136
            )
            yield f"{word}-{number:03d}", picture
