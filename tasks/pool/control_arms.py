"""What synthetic slices must beat: as many added slices that need no generator at all."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from tasks.common.slice_set import SliceSet

AIR = -1.0
TRIES = 20
FEATHER = 0.7  # pixels
Rows = NDArray[np.intp]


def duplicated(train: SliceSet, rows: Rows, rng: np.random.Generator) -> SliceSet:
    """Real slices once more: what more passes over the same slices are worth."""
    return train.select(rows)


def shuffled_masks(train: SliceSet, rows: Rows, rng: np.random.Generator) -> SliceSet:
    """Real slices with the mask of another patient's tumour slice: what wrong outlines cost."""
    chosen = train.select(rows)
    masks = chosen.masks.copy()
    for place in tumors(chosen):
        subject = chosen.table["subject"][place]
        others = tumors(train)
        others = others[train.table["subject"].to_numpy()[others] != subject]
        if len(others):
            masks[place] = train.masks[rng.choice(others)]
    return SliceSet(chosen.images, masks, chosen.table)


def copy_paste(train: SliceSet, rows: Rows, rng: np.random.Generator) -> SliceSet:
    """Tumours cut out and pasted into other patients' slices (Ghiasi 2021, arXiv 2012.07177).

    A tumour goes where it was, into a slice without tumour of another patient, at the position
    nearest to its own of those whose brain holds it; its edge is feathered outwards, so that a
    small one keeps its contrast. One that fits nowhere stays where it is. Slices without tumour
    are added as they are.
    """
    chosen = train.select(rows)
    images, masks = chosen.images.copy(), chosen.masks.copy()
    label, subject = train.table["label"].to_numpy(), train.table["subject"].to_numpy()
    position = train.table["position_mm"].to_numpy()
    for place in tumors(chosen):
        own, mask = chosen.table.loc[place], chosen.masks[place].astype(bool)
        hosts = np.flatnonzero((label == 0) & (subject != own["subject"]))
        near = hosts[np.argsort(np.abs(position[hosts] - own["position_mm"]), kind="stable")]
        near = near[:TRIES]
        fitting = [h for h in near if (train.images[h, 0][mask] > AIR).all()]
        if not fitting:
            continue
        host = rng.choice(fitting[:5])
        alpha = np.maximum(mask, gaussian_filter(mask.astype(np.float32), FEATHER))
        images[place] = train.images[host] * (1 - alpha) + chosen.images[place] * alpha
    return SliceSet(images, masks, chosen.table)


def tumors(slices: SliceSet) -> Rows:
    """Positions of the slices with tumour."""
    return np.flatnonzero(slices.table["label"].to_numpy() == 1)


def outlined(slices: SliceSet) -> SliceSet:
    """Those without tumour, and the tumours that somebody outlined."""
    known = (slices.table["label"].to_numpy() == 0) | slices.masks.any(axis=(1, 2))
    return slices.select(known)


CONTROLS: dict[str, Callable[[SliceSet, Rows, np.random.Generator], SliceSet]] = {
    "duplicated": duplicated,
    "shuffled-masks": shuffled_masks,
    "copy-paste": copy_paste,
}
OF_OUTLINES = ("shuffled-masks", "copy-paste")  # a tumour without one cannot be cut out


def control(name: str, train: SliceSet, *, ratio: float, seed: int) -> SliceSet:
    """The added slices of a control arm.

    Args:
        name: a key of `CONTROLS`.
        train: the labelled training slices of the fold.
        ratio: added slices a training slice; above 1 slices are used again.
        seed: draws slices, hosts and masks.

    Returns:
        The slices; none where a control that moves outlines finds no outlined tumour.
    """
    rng = np.random.default_rng(seed)
    count = round(ratio * len(train))
    if name in OF_OUTLINES:
        train = outlined(train)
        if not len(tumors(train)):
            count = 0
    if not count:
        return train.select(np.empty(0, dtype=np.intp))
    passes = [rng.permutation(len(train)) for _ in range(-(-count // len(train)))]
    # Not sorted: in the same order as the real slices, `real+duplicated` would be `real` again,
    # batch for batch.
    rows = np.concatenate(passes)[:count]
    return CONTROLS[name](train, rows, rng)
