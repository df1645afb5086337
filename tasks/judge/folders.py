"""Image folders as the judge needs them: labels and patients may be missing."""

from pathlib import Path

import numpy as np
import pandas as pd

from tasks.arrays import SliceSet
from tasks.generate.folder import in_range, read_arrays, read_files
from tasks.stage import StageError


def read(folder: Path, *, name: str) -> SliceSet:
    """Slices of a folder; `table` has `row`, `seed`, `subject`, `label` (-1 unknown), `masked`.

    Columns of its `slices.csv` count: `subject`, `label`, `site`. Without subjects every slice is a
    patient of its own, which makes intervals too narrow; without masks nothing is said about
    tumours' outlines, without masks and labels nothing about tumours.

    Raises:
        StageError: naming the folder and what does not fit.
    """
    if not folder.is_dir():
        raise StageError(f"{folder} is no folder; give --{name} a folder of images")
    arrays = (folder / "images.npy").exists()
    pixels, masks = read_arrays(folder) if arrays else read_files(folder)
    images = in_range(pixels, folder)
    n = len(images)
    if masks is not None and masks.shape != (n, *images.shape[2:]):
        raise StageError(
            f"{folder}: masks of shape {masks.shape} for images of shape {images.shape};"
            " expected one mask of the same size for each image"
        )
    table = pd.DataFrame({"row": np.arange(n), "seed": 0, "masked": masks is not None})
    given = read_table(folder / "slices.csv", n)
    table["subject"] = (
        given["subject"].astype(str) if "subject" in given else table["row"].astype(str)
    )
    if "site" in given:
        table["site"] = given["site"].astype("str")
    if "label" in given:
        table["label"] = given["label"].astype(int)
    elif masks is None:
        table["label"] = -1
    else:
        table["label"] = masks.any(axis=(1, 2)).astype(int)
    empty = np.zeros((n, *images.shape[2:]), dtype=np.uint8)
    return SliceSet(images, empty if masks is None else masks, table)


def read_table(path: Path, n: int) -> pd.DataFrame:
    """`slices.csv` with a row a slice, or an empty table when there is none."""
    if not path.exists():
        return pd.DataFrame(index=range(n))
    try:
        table = pd.read_csv(path)
    except (ValueError, OSError):  # pandas' own errors are ValueErrors
        raise StageError(f"{path} is no readable table; expected CSV with a header") from None
    if len(table) != n:
        raise StageError(f"{path} has {len(table)} rows for {n} slices; expected a row a slice")
    if "label" in table and not table["label"].isin([-1, 0, 1]).all():
        found = sorted(set(table["label"]))[:4]
        raise StageError(f"{path}: labels {found}; expected 1 tumour, 0 none, -1 unknown")
    return table


def halves(real: SliceSet, *, seed: int) -> tuple[SliceSet, SliceSet]:
    """Split patients at random into two halves of equal number."""
    people = np.sort(real.table["subject"].unique())
    if len(people) < 4:
        raise StageError(f"{len(people)} real patients, at least 4 are needed without --train")
    chosen = np.random.default_rng(seed).permutation(people)[: len(people) // 2]
    first = real.table["subject"].isin(chosen).to_numpy()
    return real.take(first), real.take(~first)


def separate(train: SliceSet, real: SliceSet) -> None:
    """Refuse patients that are on both sides: they would make a copier look like an artist."""
    shared = set(train.table["subject"]) & set(real.table["subject"])
    named = not shared.issubset(set(real.table["row"].astype(str)))
    if shared and named:
        raise StageError(
            f"{len(shared)} patients are in --train and in --real; remove them from --real"
        )
