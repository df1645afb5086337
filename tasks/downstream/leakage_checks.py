"""The patient line: nobody, and no picture of anybody, on both sides of it."""

import hashlib
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.common.slice_set import UNUSED, SliceSet, and_n_more, check_patient_split
from tasks.downstream.train_and_test import Fold
from tasks.stage.errors import InputError


def check_split_leakage(table: pd.DataFrame, images: NDArray[np.float32], fold: str) -> None:
    """Stop the run when a fold's partitions share a patient or a picture; `unused` is none.

    Args:
        table: `slices.parquet`.
        images: (N,C,H,W), one for each row.
        fold: whose partition column is looked at.

    Raises:
        StageError: naming the (pseudonymous) patients.
    """
    check_patient_split(table, fold)
    column = f"partition_{fold}"
    taking_part = (table[column] != UNUSED).to_numpy()
    table, images = table[taking_part], images[taking_part]
    pictures = pd.DataFrame(
        {"subject": table["subject"], "side": table[column], "digest": digests(images)}
    )
    shared = pictures.groupby("digest")["side"].transform("nunique") > 1
    twins = sorted(pictures.loc[shared, "subject"].unique())
    if twins:
        raise InputError(
            f"fold {fold}: patients {' and '.join(twins[:2])} are on different sides of the split"
            f" but share a slice{and_n_more(twins[1:])}; they are one patient under two names: give"
            " both one name in data/raw"
        )


def check_pool_leakage(
    pool: NDArray[np.float32], table: pd.DataFrame, images: NDArray[np.float32], fold: str
) -> None:
    """Stop the run when an arm would add a validation or test slice to its training slices."""
    trained_on = table.loc[table[f"partition_{fold}"] == "train", "subject"]
    held_out = ~table["subject"].isin(trained_on)
    known = dict(zip(digests(images[held_out]), table.loc[held_out, "subject"], strict=True))
    seen = sorted({known[digest] for digest in digests(pool) if digest in known})
    if seen:
        raise InputError(
            f"fold {fold}: the added slices hold one of patient {seen[0]}, who is held out"
            f"{and_n_more(seen)}; a generator must see training patients only"
        )


def random_patient_labels(fold: Fold, seed: int) -> Fold:
    """Give every patient of a fold one label for all slices, half of each side's patients 1.

    Nothing can be learnt from such labels that holds for other patients: a network that scores
    above chance with them has met the test patients, or something that tells their label.
    """
    rng = np.random.default_rng([seed, len(fold.train), len(fold.val), len(fold.test)])

    def side(slices: SliceSet) -> SliceSet:
        subjects = slices.table["subject"].unique()
        label = dict(zip(rng.permutation(subjects), np.arange(len(subjects)) % 2, strict=True))
        return replace(slices, table=slices.table.assign(label=slices.table["subject"].map(label)))

    return replace(fold, train=side(fold.train), val=side(fold.val), test=side(fold.test))


def split_by_slice(fold: Fold, seed: int) -> Fold:
    """Deal a fold's slices anew, at random, in the same numbers: patients are on several sides."""
    sides = (fold.train, fold.val, fold.test)
    images, masks = (
        np.concatenate([getattr(side, name) for side in sides]) for name in ("images", "masks")
    )
    table = pd.concat([side.table for side in sides], ignore_index=True)
    everything = SliceSet(images, masks, table)
    ends = np.cumsum([len(side) for side in sides])[:-1]
    order = np.random.default_rng([seed, len(everything)]).permutation(len(everything))
    train, val, test = (everything.select(np.sort(part)) for part in np.split(order, ends))
    return replace(fold, train=train, val=val, test=test, volumes=())


def digests(images: NDArray[np.float32]) -> list[str]:
    """A digest of each image's pixels; the constant ones, which are no picture, are all unlike."""
    return [
        f"constant {place}" if image.min() == image.max() else digest(image)
        for place, image in enumerate(images)
    ]


def digest(image: NDArray[np.float32]) -> str:
    """SHA-256 of an image's pixels as `data/slices` stores them."""
    return hashlib.sha256(image.astype(np.float16).tobytes()).hexdigest()
