"""Write slices and masks as PNG, marked in a text chunk, and montages with a visible mark."""

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


def png_marks(subject: str, *, synthetic: bool) -> PngInfo:
    """Make the text chunks that tell whether a PNG is synthetic or a patient's."""
    chunks = PngInfo()
    chunks.add_text("SyntheticData", "YES" if synthetic else "NO")
    description = (
        f"SYNTHETIC slice {subject} drawn by auglift; not of any person"
        if synthetic
        else f"slice of the patient {subject}; pseudonymised, not anonymous"
    )
    chunks.add_text("Description", description)
    return chunks


def write_png(
    folder: Path,
    name: str,
    image: NDArray[np.floating],
    mask: NDArray[np.uint8],
    *,
    modalities: list[str],
    synthetic: bool = True,
) -> None:
    """Write one slice (C,H,W) in [-1, 1] and its mask (H,W) as 8-bit files of a folder."""
    chunks = png_marks(name.removeprefix("sub-"), synthetic=synthetic)
    for channel, modality in enumerate(modalities):
        ending = "" if channel == 0 else f"_{BIDS_SUFFIX[modality]}"
        png = Image.fromarray(to_grey(image[channel]))
        png.save(folder / f"{name}{ending}.png", pnginfo=chunks)
    Image.fromarray(mask * 255).save(folder / f"{name}_mask.png", pnginfo=chunks)


def write_slices_csv(
    folder: Path, table: pd.DataFrame, names: Sequence[str], *, modalities: list[str]
) -> None:
    """Write `slices.csv`, which names the files of each slice, so that `ingest` reads them back.

    `table` has a row a slice (`subject`, `label` and further columns) in the order of `names`; a
    further modality has the column `file_MODALITY`.
    """
    files = {"file": [f"{name}.png" for name in names]}
    for modality in modalities[1:]:
        suffix = BIDS_SUFFIX[modality]
        files[f"file_{suffix}"] = [f"{name}_{suffix}.png" for name in names]
    rows = pd.concat([pd.DataFrame(files), table.reset_index(drop=True)], axis=1)
    rows.to_csv(folder / "slices.csv", index=False, lineterminator="\n")


def montages_by_label(
    images: NDArray[np.floating],
    masks: NDArray[np.integer],
    labels: NDArray[np.integer],
    subjects: list[str],
    *,
    tiles: int = 64,
) -> Iterator[tuple[str, Image.Image]]:
    """Yield montages of all slices, by label: a name and an image each.

    `images` (N,H,W) in [-1, 1]; `masks` (N,H,W); every tile says SYNTHETIC and its subject.
    """
    for label, word in LABELS.items():
        members = np.flatnonzero(labels == label)
        for number, start in enumerate(range(0, len(members), tiles), 1):
            shown = members[start : start + tiles]
            marks = [f"SYNTHETIC {subjects[row]}" for row in shown]
            montage = slice_montage(
                images[shown], masks[shown], marks=marks, columns=8, tile_px=136
            )
            yield f"{word}-{number:03d}", montage
