"""Check that partitions share no patient and no image; build the arms that test for leaks."""

import hashlib
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.common.slice_set import UNUSED, SliceSet, and_n_more, check_patient_split
from tasks.downstream.train_and_test import FoldSlices
from tasks.stage.errors import InputError


def check_split_leakage(table: pd.DataFrame, images: NDArray[np.float32], fold: str) -> None:
    """Check that a fold's partitions share no patient and no image; `unused` is no partition.

    Args:
        table: `slices.parquet`.
        images: (N,C,H,W), one for each row.
        fold: the fold whose partition column is checked.

    Raises:
        InputError: naming the (pseudonymous) patients.
    """
    check_patient_split(table, fold)
    column = f"partition_{fold}"
    taking_part = (table[column] != UNUSED).to_numpy()
    table, images = table[taking_part], images[taking_part]
    slice_digests = pd.DataFrame(
        {"subject": table["subject"], "partition": table[column], "digest": image_digests(images)}
    )
    shared = slice_digests.groupby("digest")["partition"].transform("nunique") > 1
    sharing = sorted(slice_digests.loc[shared, "subject"].unique())
    if sharing:
        raise InputError(
            f"fold {fold}: patients {' and '.join(sharing[:2])} are on different sides of the split"
            f" but share a slice{and_n_more(sharing[1:])}; they are one patient under two names:"
            " give both one name in data/raw"
        )


def check_pool_leakage(
    pool: NDArray[np.float32], table: pd.DataFrame, images: NDArray[np.float32], fold: str
) -> None:
    """Check that an arm adds no validation or test slice to its training slices."""
    trained_on = table.loc[table[f"partition_{fold}"] == "train", "subject"]
    held_out = ~table["subject"].isin(trained_on)
    held_out_digests = dict(
        zip(image_digests(images[held_out]), table.loc[held_out, "subject"], strict=True)
    )
    leaked = sorted(
        {held_out_digests[digest] for digest in image_digests(pool) if digest in held_out_digests}
    )
    if leaked:
        raise InputError(
            f"fold {fold}: the added slices hold one of patient {leaked[0]}, who is held out"
            f"{and_n_more(leaked)}; a generator must see training patients only"
        )


def random_patient_labels(fold: FoldSlices, seed: int) -> FoldSlices:
    """Give every patient of a fold one label for all slices, half of each partition's patients 1.

    Nothing can be learnt from such labels that holds for other patients: a network that scores
    above chance with them has seen the test patients, or something that reveals their label.
    """
    rng = np.random.default_rng([seed, len(fold.train), len(fold.val), len(fold.test)])

    def relabel(slices: SliceSet) -> SliceSet:
        subjects = slices.table["subject"].unique()
        label = dict(zip(rng.permutation(subjects), np.arange(len(subjects)) % 2, strict=True))
        return replace(slices, table=slices.table.assign(label=slices.table["subject"].map(label)))

    return replace(fold, train=relabel(fold.train), val=relabel(fold.val), test=relabel(fold.test))


def split_by_slice(fold: FoldSlices, seed: int) -> FoldSlices:
    """Split a fold's slices again, at random, in the same numbers; partitions share patients."""
    partitions = (fold.train, fold.val, fold.test)
    images, masks = (
        np.concatenate([getattr(partition, name) for partition in partitions])
        for name in ("images", "masks")
    )
    table = pd.concat([partition.table for partition in partitions], ignore_index=True)
    slices = SliceSet(images, masks, table)
    ends = np.cumsum([len(partition) for partition in partitions])[:-1]
    order = np.random.default_rng([seed, len(slices)]).permutation(len(slices))
    train, val, test = (slices.select(np.sort(part)) for part in np.split(order, ends))
    return replace(fold, train=train, val=val, test=test, volumes=())


def image_digests(images: NDArray[np.float32]) -> list[str]:
    """Compute a digest of each image's pixels; constant images all get different ones."""
    return [
        f"constant {position}" if image.min() == image.max() else image_digest(image)
        for position, image in enumerate(images)
    ]


def image_digest(image: NDArray[np.float32]) -> str:
    """Compute the SHA-256 of an image's pixels as `data/slices` stores them."""
    return hashlib.sha256(image.astype(np.float16).tobytes()).hexdigest()
