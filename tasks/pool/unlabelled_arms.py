"""Make the added slices of the arms that use scans without outlines, by the teacher's opinion."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.common.slice_set import SliceSet, read_slice_set
from tasks.schemas.implants import Implants
from tasks.stage.stage_io import explain_read_errors
from tasks.tumors.sure_slices import outlined_tumors, read_sure_slices
from tasks.tumors.tumor_pasting import paste_deformed_tumors

Rows = NDArray[np.intp]
Counts = tuple[int, int]  # slices with tumour, slices without


@dataclass(frozen=True)
class Scans:
    """The training slices of a fold from which added slices are made.

    `labelled` with their outlines where these are known; `tumor` and `clear` without outlines, of
    which the teacher is sure.
    """

    fold: str
    labelled: SliceSet
    tumor: SliceSet
    clear: SliceSet


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
    scans = Scans(fold, labelled, *read_sure_slices(fold, train))
    tumors = round(count * float((labelled.table["label"] == 1).mean()))
    rng = np.random.default_rng([seed, STREAMS[name]])
    return SOURCES[name](scans, (tumors, count - tumors), rng)


def pseudo_label(scans: Scans, counts: Counts, rng: np.random.Generator) -> SliceSet:
    """Take the teacher's marks for outlines (Lee 2013), where its networks are sure and agree."""
    return stack(choose(scans.tumor, counts[0], rng), choose(scans.clear, counts[1], rng))


def paste_unlabelled(scans: Scans, counts: Counts, rng: np.random.Generator) -> SliceSet:
    """Paste outlined tumours, deformed, into slices that surely show none.

    Where `implant` painted tumours, these are the same hosts and outlines, slice for slice.
    """
    _, pasted = read_implants(scans.fold)
    if len(pasted):
        pasted = choose(pasted, counts[0], rng)
    else:
        donors = outlined_tumors(scans.labelled)
        pasted = paste_deformed_tumors(donors, scans.clear, count=counts[0], rng=rng)
    return stack(pasted, choose(scans.clear, counts[1], rng))


def implant(scans: Scans, counts: Counts, rng: np.random.Generator) -> SliceSet:
    """Take slices into which `implant` painted tumours, but for copies of training tumours."""
    painted, _ = read_implants(scans.fold)
    return stack(choose(painted, counts[0], rng), choose(scans.clear, counts[1], rng))


SOURCES: dict[str, Callable[[Scans, Counts, np.random.Generator], SliceSet]] = {
    "pseudo-label": pseudo_label,
    "paste-unlabelled": paste_unlabelled,
    "implant": implant,
}
# Twins choose alike: the same random numbers for painted and for pasted tumours.
STREAMS = {"pseudo-label": 0, "paste-unlabelled": 1, "implant": 1}


def read_implants(fold: str) -> tuple[SliceSet, SliceSet]:
    """Read the accepted slices with a painted tumour, and their twins with a pasted one.

    `row` is that of the slice painted into. Both are empty where nothing was painted.
    """
    folder = Path("data/implant") / fold
    slices = read_slice_set(folder, "samples.parquet")
    with explain_read_errors(folder / "pasted.npy"):
        pasted = np.load(folder / "pasted.npy", allow_pickle=False).reshape(slices.images.shape)
    with explain_read_errors(folder / "samples.parquet"):
        table = Implants.validate(slices.table)
    hosts = table.assign(row=table["host_row"])[["row", "label"]]
    accepted = table["accepted"].to_numpy(dtype=bool)
    return (
        SliceSet(slices.images, slices.masks, hosts).select(accepted),
        SliceSet(pasted.astype(slices.images.dtype), slices.masks, hosts).select(accepted),
    )


def choose(slices: SliceSet, count: int, rng: np.random.Generator) -> SliceSet:
    """Choose `count` slices, each as often as any other."""
    return slices.select(repeat_rows(len(slices), count, rng))


def repeat_rows(n: int, count: int, rng: np.random.Generator) -> Rows:
    """Choose `count` of n rows, each as often as any other; none of none."""
    if not n:
        return np.empty(0, dtype=np.intp)
    passes = [rng.permutation(n) for _ in range(-(-count // n))]
    return np.concatenate([np.empty(0, dtype=np.intp), *passes])[:count].astype(np.intp)


def stack(tumor: SliceSet, clear: SliceSet) -> SliceSet:
    """Join slices with tumour and slices without; none where either is missing."""
    if not len(tumor) or not len(clear):
        return clear.select(np.empty(0, dtype=np.intp))
    return tumor.joined_with(clear)
