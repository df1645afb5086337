"""Read image folders for `auglift judge`; labels and patients may be missing."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tasks.common.slice_set import SliceSet
from tasks.generate.external_images import ImageFolder, read_image_folder
from tasks.generate.slice_table import FILE_COLUMN, comparable_id, parse_subjects, plain_id
from tasks.stage.errors import InputError

FLAT = 0.02  # standard deviation; slices with less, such as black ones, are equal by chance


@dataclass(frozen=True)
class FolderSlices:
    """One folder: its slices, whether its table names patients, and what was assumed about it.

    `slices.table` has `row`, `seed`, `subject`, `label` (-1 unknown), `masked`, and `site`, `file`
    where they are known. Without subjects every slice counts as its own patient.
    """

    slices: SliceSet
    named: bool
    assumed: dict[str, str]


def read_folder(folder: Path, *, name: str) -> FolderSlices:
    """Read one folder, with the columns `subject`, `label`, `site` of its `slices.csv`.

    Without subjects every slice counts as its own patient, which makes intervals too narrow.
    Without masks the outlines of tumours are not measured; without masks and labels, nothing about
    tumours is.

    Raises:
        InputError: names the folder and what is wrong with it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; give --{name} a folder of images")
    return folder_slices(read_image_folder(folder), name=name, source=folder / "slices.csv")


def folder_slices(found: ImageFolder, *, name: str, source: Path) -> FolderSlices:
    """Give slices the table that the gate reads; `source` names their table in messages.

    Raises:
        InputError: when an id is none.
    """
    n, given, assumed = len(found.images), found.table, dict(found.assumed)
    table = pd.DataFrame({"row": np.arange(n), "seed": 0, "masked": found.masks is not None})
    named = "subject" in given
    if named:
        table["subject"] = parse_subjects(given, source)
        table["subject"], assumed["subjects"] = unify_ids(table["subject"])
    else:
        table["subject"] = [f"slice {row} of {name}" for row in range(n)]
        assumed["subjects"] = "none named, each slice a patient"
    if "site" in given:
        table["site"] = given["site"].map(plain_id).replace("", None)
    table["label"] = found.labels
    if FILE_COLUMN in given:
        table[FILE_COLUMN] = given[FILE_COLUMN]
    empty = np.zeros((n, *found.images.shape[2:]), dtype=np.uint8)
    masks = empty if found.masks is None else found.masks
    return FolderSlices(SliceSet(found.images, masks, table), named, assumed)


def unify_ids(subjects: pd.Series) -> tuple[pd.Series, str]:
    """Unify ids that differ only in spelling (`comparable_id`); return them and a note."""
    keys = subjects.map(comparable_id)
    first = subjects.groupby(keys).transform("first")
    several = int(subjects.nunique() - keys.nunique())
    note = f"{keys.nunique()} of slices.csv, as text"
    if several:
        note += f"; {several} spelled otherwise (zeros in front, .0, case, sub-) taken for others"
    return first, note


def split_patients(real: SliceSet, *, seed: int) -> tuple[SliceSet, SliceSet]:
    """Split patients at random into two halves of equal number.

    Raises:
        InputError: when there are fewer than 4 patients.
    """
    patients = np.sort(real.table["subject"].unique())
    if len(patients) < 4:
        raise InputError(f"{len(patients)} real patients, at least 4 are needed without --train")
    chosen = np.random.default_rng(seed).permutation(patients)[: len(patients) // 2]
    first = real.table["subject"].isin(chosen).to_numpy()
    return real.select(first), real.select(~first)


def check_separate(train: FolderSlices, real: FolderSlices) -> str | None:
    """Check that no patient and no slice is in both folders: copies would look like new images.

    Returns:
        A note on what could not be checked because patients are not named; else None.

    Raises:
        InputError: when a patient or a slice is in both folders.
    """
    if train.named and real.named:
        there = [set(side.slices.table["subject"].map(comparable_id)) for side in (train, real)]
        if shared := there[0] & there[1]:
            raise InputError(
                f"{len(shared)} patients are in --train and in --real (ids compared without zeros"
                " in front, .0, case and sub-); remove them from --real"
            )
    seen, unseen = (fingerprints(side.slices) for side in (train, real))
    if twice := len(seen & unseen):
        raise InputError(
            f"{twice} slices of --real are also in --train, pixel by pixel; remove them, and all"
            " of their patients, from --real"
        )
    if train.named and real.named:
        return None
    sides = [name for name, one in (("--train", train), ("--real", real)) if not one.named]
    return (
        f"{' and '.join(sides)} name no patients (slices.csv, column subject): that nobody is on"
        " both sides was not checked, only that no slice is."
    )


def fingerprints(slices: SliceSet) -> set[bytes]:
    """Return the pixels of each slice that is not flat, as 8-bit bytes."""
    levels = ((slices.images + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    shown = slices.images.std(axis=(1, 2, 3)) >= FLAT
    return {image.tobytes() for image in levels[shown]}


def drop_lonely_sites(sides: Mapping[str, SliceSet]) -> tuple[dict[str, SliceSet], str | None]:
    """Drop the column `site` unless both real sets have it; return the sets and a note."""
    having = [name for name, side in sides.items() if "site" in side.table]
    if not having or len(having) == len(sides):
        return dict(sides), None
    lacking = next(name for name in sides if name not in having)
    kept = {
        name: SliceSet(side.images, side.masks, side.table.drop(columns="site", errors="ignore"))
        for name, side in sides.items()
    }
    return kept, (
        f"Sites are named for {having[0]} but not for {lacking} (slices.csv, column site): nothing"
        " is said about sites."
    )


def format_assumptions(assumed: Mapping[str, Mapping[str, str]]) -> str:
    """Format the assumptions about each folder as one line."""
    return "; ".join(
        f"{name}: " + ", ".join(f"{key} {words}" for key, words in of.items())
        for name, of in assumed.items()
    )
