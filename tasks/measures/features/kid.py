"""Kernel Inception distance, on any features (Bińkowski 2018, section 3)."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def kernel_distance(a: Floats, b: Floats) -> float:
    """Compute the unbiased squared MMD with the kernel (x·y / D + 1)³ of features (N,D) and (M,D).

    It may be slightly negative when the sets are alike.

    Raises:
        ValueError: when either table has fewer than two rows.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"need two rows on each side, got {len(a)} and {len(b)}")
    width = a.shape[1]
    k_aa, k_bb, k_ab = ((x @ y.T / width + 1) ** 3 for x, y in ((a, a), (b, b), (a, b)))
    within = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (k_aa, k_bb)]
    return float(sum(within) - 2 * k_ab.mean())
