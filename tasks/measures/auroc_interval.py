"""Compute a 95 % interval of an AUROC that also holds for few cases and near 0 and 1.

Newcombe 2006, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic.
Part 2", Statistics in Medicine 25, method 5: the AUROCs whose own standard error, by Hanley and
McNeil's formula with both samples of the mean size, reaches the observed one. The bootstrap's
interval would be empty where every positive exceeds every negative.
"""

import math
from typing import Final

from scipy.optimize import brentq

Z95: Final = 1.959964
EDGE: Final = 1e-9


def auroc_interval(auroc: float, positives: int, negatives: int) -> tuple[float, float]:
    """Return the 95 % interval of an AUROC of independent cases, at least one of each kind."""

    def excess(theta: float) -> float:
        """Return by how much the observed AUROC is farther away than the interval reaches."""
        return abs(auroc - theta) - Z95 * standard_error(theta, positives, negatives)

    # At 0 and 1 the standard error is 0 and `excess` has a second root there.
    low = brentq(excess, 0.0, auroc - EDGE) if auroc > EDGE else 0.0
    high = brentq(excess, auroc + EDGE, 1.0) if auroc < 1 - EDGE else 1.0
    return float(low), float(high)


def standard_error(theta: float, positives: int, negatives: int) -> float:
    """Return Hanley and McNeil's standard error of an AUROC, with samples of the mean size."""
    others = (positives + negatives) / 2 - 1
    spread = 1 + others * ((1 - theta) / (2 - theta) + theta / (1 + theta))
    return math.sqrt(theta * (1 - theta) * spread / (positives * negatives))
