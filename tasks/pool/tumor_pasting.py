"""Paste outlined tumours, moved and deformed, into slices without tumour.

As copy-paste (Ghiasi 2021, arXiv 2012.07177), but with deformed tumours in many places
(`tasks/tumors/tumor_placement.py`).
"""

import numpy as np
from scipy.ndimage import gaussian_filter

from tasks.common.slice_set import SliceSet
from tasks.tumors.tumor_placement import place_deformed_tumors

FEATHER = 0.7  # pixels


def paste_deformed_tumors(
    donors: SliceSet, hosts: SliceSet, *, count: int, rng: np.random.Generator
) -> SliceSet:
    """Paste one tumour into each of `count` hosts.

    The tumour's edge is feathered outwards, so that a small tumour keeps its contrast.

    Args:
        donors: slices with outlined tumours; `subject`, `position_mm`.
        hosts: slices without tumour, same columns; they may be used several times.
        count: of slices.
        rng: source of all randomness.

    Returns:
        Slices with label 1 and the masks of the pasted tumours; each table row is that of its host.
        Fewer than `count` where tumours hardly fit; none without donors or hosts.
    """
    placed = place_deformed_tumors(donors, hosts, count=count, rng=rng)
    feathered = gaussian_filter(placed.masks.astype(np.float32), (0, FEATHER, FEATHER))
    alpha = np.maximum(placed.masks, feathered)[:, None]
    chosen = hosts.select(placed.hosts)
    return SliceSet(
        (chosen.images * (1 - alpha) + placed.images * alpha).astype(np.float32),
        placed.masks.astype(np.uint8),
        chosen.table.assign(label=1),
    )
