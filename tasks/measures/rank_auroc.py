"""Compute the AUROC of two samples by their ranks."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata


def auroc(positive: NDArray[np.floating[Any]], negative: NDArray[np.floating[Any]]) -> float:
    """Compute the probability that a positive value exceeds a negative one; ties count as half.

    This is Mann-Whitney's U over the number of pairs. It is NaN when a sample is empty.
    """
    n, m = len(positive), len(negative)
    if not n or not m:
        return float("nan")
    ranks = rankdata(np.concatenate([positive, negative]))
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))
