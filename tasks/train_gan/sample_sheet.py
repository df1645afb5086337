"""Render a sample sheet: slices of the same z at every step, with tumour masks outlined."""

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
    """Render slices without tumour above tumour slices: first channel, mask outlined.

    Args:
        none, tumor: (N,C+1,H,W) in [-1, 1], N at least `SLICES`.
    """
    blocks = [slice_grid(x.float().cpu()) for x in (none, tumor)]
    line = np.full((4 * GAP, blocks[0].shape[1], 3), 255, np.uint8)
    return Image.fromarray(np.concatenate([blocks[0], line, blocks[1]]))


def slice_grid(x: Tensor) -> NDArray[np.uint8]:
    """Arrange ROWS rows of COLUMNS outlined slices in one image (height,width,3)."""
    tiles = [outlined_tile(image) for image in x[:SLICES]]
    rows = [np.concatenate(tiles[row * COLUMNS : (row + 1) * COLUMNS], 1) for row in range(ROWS)]
    return np.concatenate(rows, 0)


def outlined_tile(x: Tensor) -> NDArray[np.uint8]:
    """Render one slice (C+1,H,W), enlarged, with the outline of its mask and a gap around it."""
    x = torch.nan_to_num(x, nan=-1.0)
    grey = ((x[0].numpy().clip(-1, 1) + 1) * 127.5).round().astype(np.uint8)
    enlarged = np.stack([enlarge(grey)] * 3, -1)
    inside = enlarge((x[-1] > 0).numpy())
    enlarged[find_boundaries(inside, mode="inner")] = OUTLINE
    padded: NDArray[np.uint8] = np.pad(
        enlarged, ((GAP, GAP), (GAP, GAP), (0, 0)), constant_values=90
    )
    return padded


def enlarge(pixels: NDArray[Any]) -> NDArray[Any]:
    """Repeat every pixel ZOOM times along both axes."""
    return pixels.repeat(ZOOM, 0).repeat(ZOOM, 1)
