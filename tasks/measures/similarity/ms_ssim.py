"""Multi-scale structural similarity (Wang, Simoncelli & Bovik 2003, equation 7).

It is the product of contrast and structure at every scale and luminance at the coarsest, each to
the power of its weight. Windows are those of `ssim.py`, in the valid region only. The published
five scales with 11 taps need 176 pixels. Smaller images get fewer taps; where fewer than
`LEAST_TAPS` would be left, they get fewer scales, whose weights are rescaled to sum to 1: 7 taps on
5 scales at 128 pixels, 7 taps on 4 scales at 64. The result equals that of MONAI's
`MultiScaleSSIMMetric` with the same window and weights.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tasks.measures.similarity.ssim import C1, C2, SIGMA

Floats = NDArray[np.float32]

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MOST_TAPS, LEAST_TAPS = 11, 5


@dataclass(frozen=True)
class Settings:
    """The window's width in pixels, and one weight per scale, finest first."""

    taps: int
    weights: tuple[float, ...]

    def __str__(self) -> str:
        return f"{self.taps} taps, {len(self.weights)} scales"


def choose_settings(side: int) -> Settings:
    """Choose scales and taps for images of `side` pixels, as near to the published ones as fit.

    Scales are kept before taps.

    Raises:
        ValueError: when not even one scale fits.
    """
    for scales in range(len(WEIGHTS), 0, -1):
        coarsest = side // 2 ** (scales - 1)  # pixels; the window must fit into it
        taps = min(MOST_TAPS, coarsest - 1 + coarsest % 2)
        if taps >= LEAST_TAPS:
            weights = WEIGHTS[:scales]
            return Settings(taps, tuple(weight / sum(weights) for weight in weights))
    raise ValueError(f"pictures of {side} pixels, MS-SSIM needs at least {LEAST_TAPS}")


@cache
def valid_window_matrix(size: int, taps: int) -> Floats:
    """Return the matrix (size, size - taps + 1) that applies Wang's window along one axis."""
    place = np.arange(taps) - taps // 2
    window = np.exp(-(place**2) / (2 * SIGMA**2))
    table = np.zeros((size, size - taps + 1), dtype=np.float32)
    for column in range(table.shape[1]):
        table[column : column + taps, column] = window / window.sum()
    return table


def smooth(images: Floats, taps: int) -> Floats:
    """Compute weighted window means (N, H - taps + 1, W - taps + 1) of images (N,H,W)."""
    height, width = images.shape[1:]
    blurred: Floats = valid_window_matrix(height, taps).T @ (
        images @ valid_window_matrix(width, taps)
    )
    return blurred


def halve(images: Floats) -> Floats:
    """Halve images (N,H,W) by means of 2 x 2 blocks; an odd last row or column is left out."""
    n, height, width = images.shape
    even = images[:, : height // 2 * 2, : width // 2 * 2]
    halved: Floats = even.reshape(n, height // 2, 2, width // 2, 2).mean(axis=(2, 4))
    return halved


def ms_ssim(images: NDArray[np.float32], pairs: NDArray[np.intp]) -> Floats:
    """Compute MS-SSIM (P,) of pairs (P,2) of rows of images (N,C,H,W) in [-1, 1], mean channel.

    The moments of an image are computed once for all of its pairs. Negative terms count as 0, as
    in MONAI and torchmetrics, because their power is not real.
    """
    chosen = choose_settings(min(images.shape[2:]))
    grey = ((images.mean(axis=1) + 1) / 2).astype(np.float32)
    first, second = pairs.T
    product = np.ones(len(pairs), dtype=np.float32)
    for scale, weight in enumerate(chosen.weights):
        if scale:
            grey = halve(grey)
        means = smooth(grey, chosen.taps)
        variances = smooth(grey**2, chosen.taps) - means**2
        shared = means[first] * means[second]
        covariance = smooth(grey[first] * grey[second], chosen.taps) - shared
        term = (2 * covariance + C2) / (variances[first] + variances[second] + C2)
        if scale == len(chosen.weights) - 1:
            squares = means**2
            term = term * (2 * shared + C1) / (squares[first] + squares[second] + C1)
        product *= term.mean(axis=(1, 2)).clip(0) ** np.float32(weight)
    return product
