"""Paint tumours into slices: which pixels may be painted, what fills them before, the painting."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import center_of_mass, distance_transform_edt, gaussian_filter
from torch import Tensor

from models.tumor_painter import PainterNoise, TumorPainter
from tasks.common.soft_mask import soft_mask
from tasks.common.torch_setup import seeded_generator

REACH = 1 / 32  # of the side: how far around a tumour is painted
FILL_BLUR = 3 / 32  # of the side, standard deviation
PEAK = 0.9  # of a mask; a network's output never reaches 1
LEAST_WEIGHT = 1e-3
PAINT_STREAM = 2  # of random numbers; `painter_training` has the first two
PAINTING_BATCH = 64
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class PaintedRegions:
    """N slices with the shape of a tumour each, on one device.

    `images`, `filled` (N,C,H,W) in [-1, 1]; `masks` (N,1,H,W) in [-.9, .9]; `reach` (N,1,H,W) in
    [0, 1]; `centers` (N,2) of the tumours in pixels.
    """

    images: Tensor
    filled: Tensor
    masks: Tensor
    reach: Tensor
    centers: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def select(self, rows: Tensor) -> "PaintedRegions":
        """Select slices by their positions."""
        tensors = (self.images, self.filled, self.masks, self.reach, self.centers)
        return PaintedRegions(*(tensor[rows] for tensor in tensors))

    def joined_with(self, other: "PaintedRegions") -> "PaintedRegions":
        """Join these slices and others."""
        return PaintedRegions(
            torch.cat([self.images, other.images]), torch.cat([self.filled, other.filled]),
            torch.cat([self.masks, other.masks]), torch.cat([self.reach, other.reach]),
            torch.cat([self.centers, other.centers]),
        )  # fmt: skip


def prepare_regions(
    images: Floats, masks: NDArray[np.bool_], device: torch.device
) -> PaintedRegions:
    """Prepare slices (N,C,H,W) in [-1, 1] for a tumour of the shape of masks (N,H,W), none empty.

    What may be painted is filled by a mean of its surroundings, so that the painter sees nothing of
    a tumour that was there. Masks are softened as `train_gan` shows them to its networks.
    """
    side = images.shape[-1]
    reach, soft = np.zeros(masks.shape, np.float32), np.zeros(masks.shape, np.float32)
    width = max(REACH * side, 1.0) + 1
    for row, mask in enumerate(masks):
        reach[row] = np.clip(1 - distance_transform_edt(~mask) / width, 0, 1)
        soft[row] = PEAK * soft_mask(mask)
    weight = (1 - reach)[:, None] + LEAST_WEIGHT
    blur = (0, 0, FILL_BLUR * side, FILL_BLUR * side)
    filled = gaussian_filter(images * weight, blur) / gaussian_filter(weight, blur)
    centers = np.array([center_of_mass(mask) for mask in masks]).reshape(-1, 2)
    return PaintedRegions(
        *(
            torch.tensor(array, dtype=torch.float32, device=device)
            for array in (images, filled, soft[:, None], reach[:, None], centers)
        )
    )


@torch.no_grad()
def paint(painter: TumorPainter, hosts: PaintedRegions, *, seed: int) -> Tensor:
    """Paint a tumour into each of N hosts: (N,C,H,W) in [-1, 1], on the CPU."""
    generator = seeded_generator(seed, PAINT_STREAM, device=hosts.images.device)
    parts = []
    for rows in torch.split(torch.arange(len(hosts), device=hosts.images.device), PAINTING_BATCH):
        batch = hosts.select(rows)
        noise = PainterNoise.sample(len(rows), painter.architecture, generator)
        parts.append(painter(batch.images, batch.filled, batch.masks, batch.reach, noise).cpu())
    return torch.cat(parts)
