"""Choose slices with an outlined tumour, without tumour, and those the teacher is sure of."""

from pathlib import Path

import numpy as np
import pandas as pd

from tasks.common.slice_set import SliceSet
from tasks.schemas.teacher import TeacherOpinions
from tasks.stage.errors import InputError
from tasks.stage.stage_io import explain_read_errors


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


def outlined_tumors(labelled: SliceSet) -> SliceSet:
    """Select the slices whose tumour is outlined."""
    return labelled.select(np.flatnonzero(labelled.masks.any(axis=(1, 2))))


def known_without_tumor(labelled: SliceSet) -> SliceSet:
    """Select the slices that are known to show no tumour."""
    return labelled.select(np.flatnonzero(labelled.table["label"].to_numpy() == 0))
