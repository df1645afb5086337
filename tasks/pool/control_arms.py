"""Make the control slices that synthetic slices must beat: as many, without any generator."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tasks.common.slice_set import SliceSet
from tasks.tumors.tumor_pasting import paste_tumors_in_place, tumor_rows

Rows = NDArray[np.intp]


def duplicate_slices(train: SliceSet, rows: Rows, rng: np.random.Generator) -> SliceSet:
    """Repeat real slices: measures what more passes over the same slices gain."""
    return train.select(rows)


def shuffle_masks(train: SliceSet, rows: Rows, rng: np.random.Generator) -> SliceSet:
    """Give tumour slices the mask of another patient's tumour: measures the cost of wrong masks."""
    chosen = train.select(rows)
    masks = chosen.masks.copy()
    for row in tumor_rows(chosen):
        subject = chosen.table["subject"][row]
        others = tumor_rows(train)
        others = others[train.table["subject"].to_numpy()[others] != subject]
        if len(others):
            masks[row] = train.masks[rng.choice(others)]
    return SliceSet(chosen.images, masks, chosen.table)


def with_known_masks(slices: SliceSet) -> SliceSet:
    """Select the tumour-free slices and the outlined tumours."""
    mask_known = (slices.table["label"].to_numpy() == 0) | slices.masks.any(axis=(1, 2))
    return slices.select(mask_known)


CONTROLS: dict[str, Callable[[SliceSet, Rows, np.random.Generator], SliceSet]] = {
    "duplicated": duplicate_slices,
    "shuffled-masks": shuffle_masks,
    "copy-paste": paste_tumors_in_place,
}
NEEDS_OUTLINED_TUMORS = ("shuffled-masks", "copy-paste")  # a tumour without one cannot be cut out


def make_control_slices(name: str, train: SliceSet, *, ratio: float, seed: int) -> SliceSet:
    """Make the added slices of a control arm.

    Args:
        name: a key of `CONTROLS`.
        train: the labelled training slices of the fold.
        ratio: added slices a training slice; above 1 slices are repeated.
        seed: seeds the choice of slices, hosts and masks.

    Returns:
        The slices; none where a control needs outlined tumours and there is none.
    """
    rng = np.random.default_rng(seed)
    count = round(ratio * len(train))
    if name in NEEDS_OUTLINED_TUMORS:
        train = with_known_masks(train)
        if not len(tumor_rows(train)):
            count = 0
    if not count:
        return train.select(np.empty(0, dtype=np.intp))
    passes = [rng.permutation(len(train)) for _ in range(-(-count // len(train)))]
    # Not sorted: in the same order as the real slices, `real+duplicated` would be `real` again,
    # batch for batch.
    rows = np.concatenate(passes)[:count]
    return CONTROLS[name](train, rows, rng)
