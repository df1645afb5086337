"""From a scanner's arbitrary grey values to [-1, 1]; outside the body always -1.

The noise floor around the body differs between scanners and would tell the site: it goes.
"""

import numpy as np
from numpy.typing import NDArray

from tasks.volumes.resampling import Volume

Landmarks = NDArray[np.float64]
DECILES = tuple(range(10, 100, 10))


def z_score(
    volume: Volume,
    body: NDArray[np.bool_],
    *,
    clip_percentiles: tuple[float, float],
    z_range: tuple[float, float],
) -> Volume:
    """Percentile clip, z-score inside the body, then `z_range` scaled to [-1, 1].

    Everything is measured on this (X,Y,Z) volume alone, so nothing can leak between patients.
    """
    inside = volume[body]
    low, high = np.percentile(inside, clip_percentiles)
    reference = np.clip(inside, low, high)
    z = (np.clip(volume, low, high) - reference.mean()) / max(float(reference.std()), 1e-6)
    scaled = 2 * (z - z_range[0]) / (z_range[1] - z_range[0]) - 1
    unit: Volume = np.where(body, np.clip(scaled, -1, 1), -1).astype(np.float32)
    return unit


def landmarks(
    volume: Volume, body: NDArray[np.bool_], *, clip_percentiles: tuple[float, float]
) -> Landmarks:
    """The two clip percentiles of the body's grey values with their deciles between, (11,)."""
    low, high = clip_percentiles
    found: Landmarks = np.percentile(volume[body], (low, *DECILES, high)).astype(np.float64)
    return found


def standard_scale(found: Landmarks) -> Landmarks | None:
    """Where landmarks lie on the common scale: (11,) from -1 to 1, rising.

    Each volume's outer landmarks are put to -1 and 1, then every landmark is averaged over the
    volumes (Nyúl, Udupa & Zhang 2000, IEEE TMI 19:143, the training stage).

    Args:
        found: (n, 11), of training volumes only.

    Returns:
        None where no volume has any contrast.
    """
    low, high = found[:, :1], found[:, -1:]
    alive = (high > low)[:, 0]
    if not alive.any():
        return None
    placed: Landmarks = 2 * (found - low)[alive] / (high - low)[alive] - 1
    scale: Landmarks = placed.mean(axis=0)
    return scale


def apply_standard_scale(
    volume: Volume, body: NDArray[np.bool_], own: Landmarks, standard: Landmarks
) -> Volume:
    """Map a volume's landmarks onto the standard ones, linearly between, clipped beyond.

    Landmarks that fall on one grey value (few grey levels) share the mean of their places.
    """
    values, group = np.unique(own, return_inverse=True)
    places = np.bincount(group, weights=standard) / np.bincount(group)
    unit: Volume = np.where(body, np.interp(volume, values, places), -1).astype(np.float32)
    return unit
