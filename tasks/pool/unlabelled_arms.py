"""Make the added slices of the arms that use scans without outlines, by the teacher's opinion."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.common.slice_set import SliceSet
from tasks.pool.deformed_tumor_pasting import paste_deformed_tumors
from tasks.schemas.teacher import TeacherOpinions
from tasks.stage.errors import InputError
from tasks.stage.stage_io import explain_read_errors

Rows = NDArray[np.intp]


def make_unlabelled_arm_slices(
    name: str, fold: str, train: SliceSet, labelled: SliceSet, *, count: int, seed: int
) -> SliceSet:
    """Make the added slices of an arm from scans without outlines.

    Args:
        name: a key of `SOURCES`.
        fold: whose teacher is asked.
        train: all training slices of the fold.
        labelled: those of them that have a label, with their outlines where these are known.
        count: how many slices, with the label shares of `labelled`.
        seed: seeds the choice of slices and what is pasted.

    Returns:
        The slices. Empty where the teacher found no sure tumour slice, or no sure slice without.
    """
    tumor, clear = read_sure_slices(fold, train)
    share = float((labelled.table["label"] == 1).mean())
    tumors = round(count * share)
    rng = np.random.default_rng([seed, list(SOURCES).index(name)])
    return SOURCES[name](tumor, clear, labelled, (tumors, count - tumors), rng)


def read_sure_slices(fold: str, train: SliceSet) -> tuple[SliceSet, SliceSet]:
    """Read the slices without outlines that surely show a tumour, with its mask, and surely none.

    Raises:
        InputError: the teacher saw other slices.
    """
    folder = Path("data/teacher") / fold
    with explain_read_errors(folder / "unlabelled.parquet"):
        opinions = TeacherOpinions.validate(pd.read_parquet(folder / "unlabelled.parquet"))
    with explain_read_errors(folder / "masks.npy"):
        masks = np.load(folder / "masks.npy", allow_pickle=False)
    position_of = pd.Series(np.arange(len(train)), index=train.table["row"].to_numpy())
    if not opinions["row"].isin(position_of.index).all():
        raise InputError(
            f"{folder}/unlabelled.parquet names slices that are no training slices of fold {fold};"
            " make it again (`dvc repro teacher`)"
        )
    slices = train.select(position_of[opinions["row"]].to_numpy(dtype=np.intp))
    slices = SliceSet(slices.images, masks.reshape(slices.masks.shape), slices.table)
    sure = opinions["opinion"].to_numpy()
    tumor, clear = slices.select(sure == "tumor"), slices.select(sure == "none")
    return with_label(tumor, 1), without_tumor(clear)


def with_label(slices: SliceSet, label: int) -> SliceSet:
    """Set the label of all slices."""
    return SliceSet(slices.images, slices.masks, slices.table.assign(label=label))


def without_tumor(slices: SliceSet) -> SliceSet:
    """Set label 0 and an empty mask."""
    return with_label(SliceSet(slices.images, np.zeros_like(slices.masks), slices.table), 0)


def pseudo_label(
    tumor: SliceSet,
    clear: SliceSet,
    labelled: SliceSet,
    counts: tuple[int, int],
    rng: np.random.Generator,
) -> SliceSet:
    """Take the teacher's marks for outlines (Lee 2013), where its networks are sure and agree."""
    return stack([tumor.select(repeat_rows(len(tumor), counts[0], rng)),
                  clear.select(repeat_rows(len(clear), counts[1], rng))])  # fmt: skip


def paste_unlabelled(
    tumor: SliceSet,
    clear: SliceSet,
    labelled: SliceSet,
    counts: tuple[int, int],
    rng: np.random.Generator,
) -> SliceSet:
    """Paste outlined tumours, deformed, into slices that surely show none."""
    donors = labelled.select(np.flatnonzero(labelled.masks.any(axis=(1, 2))))
    pasted = paste_deformed_tumors(donors, clear, count=counts[0], rng=rng)
    return stack([pasted, clear.select(repeat_rows(len(clear), counts[1], rng))])


SOURCES: dict[
    str,
    Callable[[SliceSet, SliceSet, SliceSet, tuple[int, int], np.random.Generator], SliceSet],
] = {"pseudo-label": pseudo_label, "paste-unlabelled": paste_unlabelled}


def repeat_rows(n: int, count: int, rng: np.random.Generator) -> Rows:
    """Choose `count` of n rows, each as often as any other; none of none."""
    if not n:
        return np.empty(0, dtype=np.intp)
    passes = [rng.permutation(n) for _ in range(-(-count // n))]
    return np.concatenate([np.empty(0, dtype=np.intp), *passes])[:count].astype(np.intp)


def stack(parts: list[SliceSet]) -> SliceSet:
    """Join slices with tumour and slices without; none where either is missing."""
    if not all(len(part) for part in parts):
        return parts[0].select(np.empty(0, dtype=np.intp))
    return SliceSet(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.masks for part in parts]),
        pd.concat([part.table for part in parts], ignore_index=True),
    )
