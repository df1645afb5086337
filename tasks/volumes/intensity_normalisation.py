"""Map a scanner's arbitrary grey values to [-1, 1], and everything outside the body to -1.

The noise floor around the body differs between scanners and would reveal the site, so it is
removed.
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
    """Clip at percentiles, z-score inside the body, and scale `z_range` to [-1, 1].

    All statistics are of this (X,Y,Z) volume alone, so nothing can leak between patients.
    """
    inside = volume[body]
    low, high = np.percentile(inside, clip_percentiles)
    reference = np.clip(inside, low, high)
    z = (np.clip(volume, low, high) - reference.mean()) / max(float(reference.std()), 1e-6)
    scaled = 2 * (z - z_range[0]) / (z_range[1] - z_range[0]) - 1
    unit: Volume = np.where(body, np.clip(scaled, -1, 1), -1).astype(np.float32)
    return unit


def compute_landmarks(
    volume: Volume, body: NDArray[np.bool_], *, clip_percentiles: tuple[float, float]
) -> Landmarks:
    """Compute the two clip percentiles of the body's grey values and the deciles between, (11,)."""
    low, high = clip_percentiles
    landmarks: Landmarks = np.percentile(volume[body], (low, *DECILES, high)).astype(np.float64)
    return landmarks


def fit_standard_scale(landmarks: Landmarks) -> Landmarks | None:
    """Average the landmarks' positions on the common scale: (11,) from -1 to 1, rising.

    Each volume's outer landmarks are mapped to -1 and 1, then every landmark is averaged over the
    volumes (Nyúl, Udupa & Zhang 2000, IEEE TMI 19:143, the training stage).

    Args:
        landmarks: (n, 11), of training volumes only.

    Returns:
        The scale; None where no volume has any contrast.
    """
    low, high = landmarks[:, :1], landmarks[:, -1:]
    has_contrast = (high > low)[:, 0]
    if not has_contrast.any():
        return None
    scaled: Landmarks = 2 * (landmarks - low)[has_contrast] / (high - low)[has_contrast] - 1
    scale: Landmarks = scaled.mean(axis=0)
    return scale


def apply_standard_scale(
    volume: Volume, body: NDArray[np.bool_], landmarks: Landmarks, standard: Landmarks
) -> Volume:
    """Map a volume's landmarks onto the standard ones, linearly between, clipped beyond.

    Landmarks that fall on one grey value (few grey levels) share the mean of their positions.
    """
    values, group = np.unique(landmarks, return_inverse=True)
    positions = np.bincount(group, weights=standard) / np.bincount(group)
    unit: Volume = np.where(body, np.interp(volume, values, positions), -1).astype(np.float32)
    return unit
