"""Structural similarity with the settings of Wang et al. 2004 (IEEE TIP 13(4), section III-B).

The settings are a Gaussian window of sigma 1.5 and 11 x 11 taps, population covariance, K1 = .01,
K2 = .03, valid region only, and data range 1 for images scaled to [0, 1]. The result equals that of
scikit-image's `structural_similarity(gaussian_weights=True, sigma=1.5,
use_sample_covariance=False)`. The moments of an image are computed once for all its pairs, which
makes many pairs affordable.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

Floats = NDArray[np.float32]

SIGMA = 1.5
RADIUS = 5  # of the 11 taps; also the border that is left out
C1, C2 = 0.01**2, 0.03**2
TAPS = np.exp(-(np.arange(-RADIUS, RADIUS + 1) ** 2) / (2 * SIGMA**2))
TAPS /= TAPS.sum()


@dataclass(frozen=True)
class Moments:
    """Images (N,H,W) scaled to [0, 1] with their local means and variances (N,H,W)."""

    images: Floats
    means: Floats
    variances: Floats

    def take(self, rows: NDArray[np.intp]) -> "Moments":
        """Select rows by position."""
        return Moments(self.images[rows], self.means[rows], self.variances[rows])


def moments(images: Floats) -> Moments:
    """Compute local moments of the mean channel of images (N,C,H,W) in [-1, 1]."""
    scaled = ((images.mean(axis=1) + 1) / 2).astype(np.float32)
    means = smooth(scaled)
    return Moments(scaled, means, smooth(scaled**2) - means**2)


def smooth(images: Floats) -> Floats:
    """Apply Wang's Gaussian window to images (N,H,W), by matrix products, which are fastest."""
    down, across = (window_matrix(size) for size in images.shape[1:])
    result: Floats = (down @ images @ across.T).astype(np.float32, copy=False)
    return result


@cache
def window_matrix(size: int) -> Floats:
    """Return the matrix (size, size) of Wang's window along one axis, reflected at the frame."""
    table = correlate1d(np.eye(size), TAPS, axis=0, mode="reflect")
    narrow: Floats = table.astype(np.float32)
    return narrow


def ssim(a: Moments, b: Moments, *, region: NDArray[np.bool_] | None = None) -> Floats:
    """Compute the SSIM (N,) of each pair of rows, equation 13, averaged over the valid region.

    Args:
        a: the first image of each pair.
        b: the second image of each pair, as many rows.
        region: (N,H,W); pixels outside do not count, for example the air around a brain. A row
            without any counts all its pixels.

    Raises:
        ValueError: when an image is not larger than the window.
    """
    height, width = a.images.shape[1:]
    if min(height, width) <= 2 * RADIUS:
        raise ValueError(f"images of {height} x {width} pixels, SSIM's window needs more than 10")
    products = smooth(a.images * b.images) - a.means * b.means
    top = (2 * a.means * b.means + C1) * (2 * products + C2)
    bottom = (a.means**2 + b.means**2 + C1) * (a.variances + b.variances + C2)
    inner = (slice(None), slice(RADIUS, -RADIUS), slice(RADIUS, -RADIUS))
    maps = (top / bottom)[inner]  # (N, H-10, W-10)
    weights = np.ones_like(maps) if region is None else region[inner].astype(np.float32)
    weights[weights.sum(axis=(1, 2)) == 0] = 1
    average: Floats = (maps * weights).sum(axis=(1, 2)) / weights.sum(axis=(1, 2))
    return average
