"""Paste outlined tumours into slices without tumour: in place (copy-paste), or moved and deformed.

Copy-paste is that of Ghiasi 2021 (arXiv 2012.07177). A pasted tumour's edge is feathered outwards,
so that a small tumour keeps its contrast.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from tasks.common.slice_set import SliceSet
from tasks.tumors.tumor_placement import Placements, place_deformed_tumors

AIR = -1.0
MAX_HOSTS_TRIED = 20
NEAREST_FITTING = 5  # hosts of which one is chosen
FEATHER = 0.7  # pixels
Rows = NDArray[np.intp]


def paste_tumors_in_place(train: SliceSet, rows: Rows, rng: np.random.Generator) -> SliceSet:
    """Paste tumours into other patients' slices, at the same place in the plane.

    A tumour's host is a tumour-free slice of another patient, one of the nearest in position whose
    brain contains the tumour. A tumour that fits nowhere stays in its own slice. Tumour-free slices
    are added unchanged.
    """
    chosen = train.select(rows)
    images, masks = chosen.images.copy(), chosen.masks.copy()
    label, subject = train.table["label"].to_numpy(), train.table["subject"].to_numpy()
    position = train.table["position_mm"].to_numpy()
    for row in tumor_rows(chosen):
        tumor, mask = chosen.table.loc[row], chosen.masks[row].astype(bool)
        hosts = np.flatnonzero((label == 0) & (subject != tumor["subject"]))
        nearest = hosts[np.argsort(np.abs(position[hosts] - tumor["position_mm"]), kind="stable")]
        fitting = [
            host for host in nearest[:MAX_HOSTS_TRIED] if (train.images[host, 0][mask] > AIR).all()
        ]
        if not fitting:
            continue
        host = rng.choice(fitting[:NEAREST_FITTING])
        alpha = feathered_masks(mask[None])[0]
        images[row] = train.images[host] * (1 - alpha) + chosen.images[row] * alpha
    return SliceSet(images, masks, chosen.table)


def paste_deformed_tumors(
    donors: SliceSet, hosts: SliceSet, *, count: int, rng: np.random.Generator
) -> SliceSet:
    """Paste one tumour, moved and deformed, into each of `count` hosts.

    Args:
        donors: slices with outlined tumours; `subject`, `position_mm`.
        hosts: slices without tumour, same columns; they may be used several times.
        count: of slices.
        rng: source of all randomness.

    Returns:
        Slices with label 1 and the masks of the pasted tumours; each table row is that of its host.
        Fewer than `count` where tumours hardly fit; none without donors or hosts.
    """
    return paste_placed_tumors(place_deformed_tumors(donors, hosts, count=count, rng=rng), hosts)


def paste_placed_tumors(placed: Placements, hosts: SliceSet) -> SliceSet:
    """Paste each placed tumour into its host; label 1, else the table row is that of the host."""
    alpha = feathered_masks(placed.masks)[:, None]
    chosen = hosts.select(placed.hosts)
    return SliceSet(
        (chosen.images * (1 - alpha) + placed.images * alpha).astype(np.float32),
        placed.masks.astype(np.uint8),
        chosen.table.assign(label=1),
    )


def feathered_masks(masks: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the weight of the tumour in each pixel (N,H,W): 1 in the mask, falling to 0 around."""
    blurred = gaussian_filter(masks.astype(np.float32), (0, FEATHER, FEATHER))
    weight: NDArray[np.float32] = np.maximum(masks, blurred)
    return weight


def tumor_rows(slices: SliceSet) -> Rows:
    """Return the positions of the slices with tumour."""
    return np.flatnonzero(slices.table["label"].to_numpy() == 1)
