"""A sample sheet: the same slices at every step, tumour masks outlined."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage.segmentation import find_boundaries
from torch import Tensor

COLUMNS = 10
ROWS = 2  # of each label
SLICES = ROWS * COLUMNS
ZOOM = 3
GAP = 3
OUTLINE = (255, 196, 0)


def sample_sheet(none: Tensor, tumor: Tensor) -> Image.Image:
    """Slices without tumour above, tumour slices below, first channel, mask outlined.

    Args:
        none, tumor: (N,C+1,H,W) in [-1, 1], N at least `SLICES`.
    """
    blocks = [block(x.float().cpu()) for x in (none, tumor)]
    line = np.full((4 * GAP, blocks[0].shape[1], 3), 255, np.uint8)
    return Image.fromarray(np.concatenate([blocks[0], line, blocks[1]]))


def block(x: Tensor) -> NDArray[np.uint8]:
    """ROWS rows of COLUMNS outlined slices (height,width,3)."""
    tiles = [tile(image) for image in x[:SLICES]]
    rows = [np.concatenate(tiles[row * COLUMNS : (row + 1) * COLUMNS], 1) for row in range(ROWS)]
    return np.concatenate(rows, 0)


def tile(x: Tensor) -> NDArray[np.uint8]:
    """One slice (C+1,H,W), enlarged, with the outline of its mask, and a gap around it."""
    x = torch.nan_to_num(x, nan=-1.0)
    grey = ((x[0].numpy().clip(-1, 1) + 1) * 127.5).round().astype(np.uint8)
    large = np.stack([enlarge(grey)] * 3, -1)
    inside = enlarge((x[-1] > 0).numpy())
    large[find_boundaries(inside, mode="inner")] = OUTLINE
    padded: NDArray[np.uint8] = np.pad(large, ((GAP, GAP), (GAP, GAP), (0, 0)), constant_values=90)
    return padded


def enlarge(pixels: NDArray[Any]) -> NDArray[Any]:
    """Every pixel becomes a square."""
    return pixels.repeat(ZOOM, 0).repeat(ZOOM, 1)
