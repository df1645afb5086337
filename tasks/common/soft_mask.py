"""Soften a mask for a discriminator: its signed distance, cut off near the outline.

A generator's tanh never reaches the crisp -1 and 1 of a real mask, so a discriminator would score
that difference and nothing else. The signed Euclidean distance to the outline, cut off at
OUTLINE_PX, blurs the mask as a tanh does, and its zero level is the outline itself. A mean of
neighbours would not do: its zero level shrinks the mask wherever the outline is convex.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

OUTLINE_PX = 1.5  # from the outline to a mask's full depth; at a straight edge a 3 x 3 mean's ramp


def soft_mask(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Convert a mask (H,W) to [-1, 1]: 1 deep inside, 0 on the outline, -1 far outside."""
    if mask.all() or not mask.any():  # there is no outline
        return np.where(mask, 1.0, -1.0)
    # Distances run between pixel centres; the outline lies half a pixel before the other side.
    distance = np.where(
        mask, distance_transform_edt(mask) - 0.5, 0.5 - distance_transform_edt(~mask)
    )
    soft: NDArray[np.float64] = (distance / OUTLINE_PX).clip(-1, 1)
    return soft
