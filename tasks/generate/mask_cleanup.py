"""Clean a generated slice: a mask from the mask channel, checked against the label, and air."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.uint8]

AIR_THRESHOLD = -0.85  # generated air is nearly -1, the darkest fluid inside a brain is not


def clean_mask(
    soft: NDArray[np.float32], image: NDArray[np.float32], *, min_island_px: int
) -> Mask:
    """Threshold a mask channel, keep the part inside the head, and drop small islands.

    Args:
        soft: (H,W) in [-1, 1], above 0 inside the tumour.
        image: (C,H,W) in [-1, 1], air at -1.

    Returns:
        (H,W) in {0, 1}.
    """
    mask = (soft > 0) & head_mask(image)
    parts, count = ndimage.label(mask)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    large_enough = sizes >= min_island_px
    large_enough[0] = False
    cleaned: Mask = large_enough[parts].astype(np.uint8)
    return cleaned


def clean_air(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Set what is nearly air outside the head to air, -1.

    A tanh never reaches -1. What it leaves is too dark to see, but it is no outline of a head and
    no background of a scan. Brighter spots stay: they are faults, which the gate is to find.

    Args:
        image: (C,H,W) in [-1, 1], air at -1.
    """
    faint = (image <= AIR_THRESHOLD).all(0) & ~head_mask(image)  # (H,W)
    return np.where(faint, np.float32(-1), image)


def head_mask(image: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the largest connected part of a slice (C,H,W) that is not air, with holes filled."""
    parts, count = ndimage.label((image > AIR_THRESHOLD).any(0))
    if count == 0:
        return np.zeros(image.shape[1:], bool)
    largest = np.bincount(parts.ravel())[1:].argmax() + 1
    filled: NDArray[np.bool_] = ndimage.binary_fill_holes(parts == largest)
    return filled


def mask_matches_label(mask: Mask, label: int, *, min_tumor_px: int) -> bool:
    """Return whether a tumour slice shows a tumour and another slice has no mask at all.

    A mask on a slice without tumour is not simply removed: the image under it may show the tumour.
    """
    area = int(mask.sum())
    return area >= min_tumor_px if label else area == 0
