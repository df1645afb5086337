"""Make the added slices of the arms that use scans without outlines, by the teacher's opinion."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.common.slice_set import SliceSet
from tasks.pool.deformed_tumor_pasting import paste_deformed_tumors
from tasks.tumors.sure_slices import read_sure_slices

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
