"""Read, check and write the packed arrays of `data/slices` and of the image pools."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.stage.errors import InputError
from tasks.stage.stage_io import explain_read_errors

Partition = Literal["train", "val", "test"]
UNUSED = "unused"  # in no partition of a fold
MAX_ABS_PIXEL = 1.001  # float16 rounds
MIN_SLICES = 20  # of each partition; a smaller one cannot be evaluated


@dataclass(frozen=True)
class SliceSet:
    """N slices with their masks and one table row each.

    `images` (N,C,H,W) float32 in [-1,1]; `masks` (N,H,W) uint8 in {0,1}; `table` N rows.
    """

    images: NDArray[np.float32]
    masks: NDArray[np.uint8]
    table: pd.DataFrame

    def __len__(self) -> int:
        return len(self.table)

    def select(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> "SliceSet":
        """Select rows by a boolean mask or by positions, in that order."""
        return SliceSet(
            self.images[rows], self.masks[rows], self.table.loc[rows].reset_index(drop=True)
        )

    def joined_with(self, *others: "SliceSet") -> "SliceSet":
        """Join these slices and others, in that order."""
        parts = (self, *others)
        return SliceSet(
            np.concatenate([part.images for part in parts]),
            np.concatenate([part.masks for part in parts]),
            pd.concat([part.table for part in parts], ignore_index=True),
        )


def read_slice_set(
    folder: Path, table: str, choose: Callable[[pd.DataFrame], NDArray[np.bool_]] | None = None
) -> SliceSet:
    """Read `images.npy`, `masks.npy` and the named table of a folder.

    Args:
        folder: The folder.
        table: The table's file.
        choose: Returns which rows of the table to read; None stands for all. Only these slices are
            brought into memory.

    Raises:
        InputError: a file is missing, damaged, or does not fit the others.
    """
    mapped = map_slice_set(folder, table)
    images, masks, rows = mapped.images, mapped.masks, mapped.table
    if choose is None:
        return SliceSet(np.array(images, np.float32), np.array(masks), rows)
    chosen = choose(rows)
    return SliceSet(
        np.array(images[chosen], np.float32),
        np.array(masks[chosen]),
        rows.loc[chosen].reset_index(drop=True),
    )


def map_slice_set(folder: Path, table: str) -> SliceSet:
    """Open a folder's slices without reading them: images are float16 on disk until indexed.

    Raises:
        InputError: a file is missing, damaged, or does not fit the others.
    """
    with explain_read_errors(folder / table):
        rows = pd.read_parquet(folder / table)
    with explain_read_errors(folder / "images.npy"):
        images = map_array(folder / "images.npy")
        if images.ndim != 4 or images.dtype.kind != "f":
            raise ValueError(f"{images.dtype} {images.shape}, expected floats (N,C,H,W)")
        if len(images) != len(rows):
            raise ValueError(f"{len(images)} slices for the {len(rows)} rows of {table}")
    with explain_read_errors(folder / "masks.npy"):
        masks = map_array(folder / "masks.npy")
        expected = (len(rows), *images.shape[2:])
        if masks.shape != expected or masks.dtype != np.uint8 or masks.max(initial=0) > 1:
            raise ValueError(f"{masks.dtype} {masks.shape}, expected uint8 {expected} of 0 and 1")
    return SliceSet(images, masks, rows)


def map_array(path: Path) -> NDArray[Any]:
    """Map an array file into memory; an empty array, which cannot be mapped, is read."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:
        array = np.load(path, allow_pickle=False)
    return array


def check_pixel_range(slices: SliceSet, folder: Path) -> None:
    """Reject slices that no network can be trained on.

    Raises:
        InputError: a value is not finite or outside [-1, 1].
    """
    with explain_read_errors(folder / "images.npy"):
        if len(slices) and not np.abs(slices.images).max() <= MAX_ABS_PIXEL:
            raise ValueError("values that are no numbers, or outside [-1, 1]")


def read_slices(fold: str, partition: Partition, folder: Path = Path("data/slices")) -> SliceSet:
    """Read the real slices of one partition of a fold.

    Raises:
        InputError: the slices were extracted without that fold, or two of its partitions share a
            patient.
    """

    def choose(table: pd.DataFrame) -> NDArray[np.bool_]:
        column = f"partition_{fold}"
        if column not in table:
            columns = [str(name) for name in table if str(name).startswith("partition_")]
            folds = ", ".join(name.removeprefix("partition_") for name in columns)
            raise InputError(f"{folder} has no fold {fold}, only {folds}: see slices.folds")
        check_patient_split(table, fold)
        chosen: NDArray[np.bool_] = (table[column] == partition).to_numpy()
        return chosen

    return read_slice_set(folder, "slices.parquet", choose)


def mask_known(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Return for each slice (N,) whether its mask is known; an empty mask may be known too.

    The column is `mask_known` in `data/slices` and `masked` in image folders. Without either column
    all masks are known.
    """
    for column in ("mask_known", "masked"):
        if column in table:
            return np.asarray(table[column], dtype=bool)
    return np.ones(len(table), dtype=bool)


def outline_known(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Return for each slice (N,) whether its tumour is outlined or known to be absent."""
    label = table["label"].to_numpy()
    known: NDArray[np.bool_] = (label == 0) | ((label == 1) & mask_known(table))
    return known


def check_patient_split(table: pd.DataFrame, fold: str) -> None:
    """Check that no patient is in two partitions of a fold, and that all partitions are known.

    Args:
        table: `slices.parquet`.
        fold: the fold whose partition column is checked.

    Raises:
        InputError: naming the (pseudonymous) patients.
    """
    column = f"partition_{fold}"
    partitions = (*get_args(Partition), UNUSED)
    unknown = table.loc[~table[column].isin(partitions), column]
    if len(unknown):
        raise InputError(
            f"data/slices/slices.parquet: {column} of {len(unknown)} slices is"
            f" {unknown.iloc[0]!r}; expected {', '.join(partitions)}: make data/slices again"
            " (`dvc repro slices`)"
        )
    partition_counts = table[table[column] != UNUSED].groupby("subject")[column].nunique()
    shared = sorted(partition_counts[partition_counts > 1].index)
    if shared:
        raise InputError(
            f"fold {fold}: patient {shared[0]} is in more than one of train, val and test"
            f"{and_n_more(shared)}; make data/slices again (`dvc repro slices`), which splits by"
            " patient"
        )


def and_n_more(names: list[str]) -> str:
    """Return how many further names there are, in brackets."""
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def write_slice_set(folder: Path, images: NDArray[np.floating], masks: NDArray[np.uint8]) -> None:
    """Write `images.npy` as float16 and `masks.npy` as uint8; a rewrite gives the same bytes."""
    np.save(folder / "images.npy", images.astype(np.float16), allow_pickle=False)
    np.save(folder / "masks.npy", masks.astype(np.uint8), allow_pickle=False)
