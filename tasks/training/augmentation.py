"""Augment a batch of real or synthetic slices: geometry in one resampling, then intensities.

Image and mask are one stack under every geometric transform, so that a tumour never leaves its
outline. All slices of a batch are resampled by one `grid_sample`: rotation, scale, shear, shift,
flip and elastic deformation are one grid, so that a slice is interpolated once and not seven times.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

AIR = -1.0
DARK = 0.1  # of the range [0, 1]; tissue is brighter
CONTROL_POINTS = 6
PARAMETERS = (
    "horizontal_flip", "vertical_flip", "rotation", "scale", "stretch", "shear", "columns", "rows",
    "gamma", "gain", "offset", "noise",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random changes of a slice, sampled once per slice; 0 switches one off.

    Attributes:
        horizontal_flip, vertical_flip: probability of a flip along columns and rows.
        rotation: degrees; uniform in [-rotation, rotation].
        scale: a size changes by a factor e^u, u uniform in [-scale, scale].
        stretch: the same for the ratio of height to width.
        shear: tangent of the angle; uniform in [-shear, shear].
        shift: share of the side; uniform in [-shift, shift] along rows and columns.
        elastic: share of the side; standard deviation of the displacements at
            `CONTROL_POINTS` by `CONTROL_POINTS` points, with cubics between them (Simard 2003).
        gamma: tissue t in [0, 1] becomes t^(e^u), u uniform in [-gamma, gamma].
        gain: factor on tissue; uniform in [1 - gain, 1 + gain].
        offset: added to tissue, of the range [0, 1]; uniform in [-offset, offset].
        noise: largest standard deviation of Gaussian noise on tissue, of the range [0, 1].
    """

    horizontal_flip: float = 0.5
    vertical_flip: float = 0.0
    rotation: float = 20.0
    scale: float = 0.2
    stretch: float = 0.08
    shear: float = 0.1
    shift: float = 0.05
    elastic: float = 0.03
    gamma: float = 0.35
    gain: float = 0.2
    offset: float = 0.08
    noise: float = 0.04

    def __call__(
        self, images: Tensor, masks: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Augment a batch; the same generator state gives the same batch.

        A slice's changes depend on its place in the batch and on the batch's shape, not on its
        content nor on the other slices.

        Args:
            images: (B,C,H,W) in [-1, 1], air at -1.
            masks: (B,1,H,W) in {0, 1}.
            generator: on any device; numbers are sampled there and moved.

        Returns:
            Images and masks of the same shapes, types and ranges; what moves in from outside is
            air (-1) and empty (0).
        """
        channels, size = images.shape[1], images.shape[2:]
        numbers = torch.rand(
            len(images), len(PARAMETERS), generator=generator, device=generator.device
        ).to(images)
        sampled = dict(zip(PARAMETERS, (2 * numbers - 1).unbind(dim=1), strict=True))  # [-1, 1)
        points = normal_numbers((len(images), 2, CONTROL_POINTS, CONTROL_POINTS), generator)
        stack = torch.cat([images - AIR, masks.to(images.dtype)], dim=1)
        stack = F.grid_sample(
            stack, self.sampling_grid(sampled, points.to(images), size), align_corners=False
        )  # zeros from outside
        tissue, moved = (stack[:, :channels] / 2).clamp(0, 1), stack[:, channels:] >= 0.5
        noise = normal_numbers(images.shape, generator).to(images) if self.noise else 0.0
        return 2 * self.change_intensity(tissue, sampled, noise) - 1, moved.to(masks.dtype)

    def sampling_grid(
        self, sampled: Mapping[str, Tensor], points: Tensor, size: Sequence[int]
    ) -> Tensor:
        """Compute where each pixel is sampled, (B,H,W,2) in the coordinates of `grid_sample`.

        Args:
            sampled: (B,) in [-1, 1) for each of `PARAMETERS`.
            points: (B,2,P,P), standard normal: displacements along columns and rows.
            size: H and W.
        """
        angle = math.radians(self.rotation) * sampled["rotation"]
        cosine, sine = angle.cos(), angle.sin()
        scale = torch.exp(self.scale * sampled["scale"])
        stretch = torch.exp(self.stretch * sampled["stretch"])
        across = flip_sign(sampled["horizontal_flip"], self.horizontal_flip) * stretch / scale
        down = flip_sign(sampled["vertical_flip"], self.vertical_flip) / (stretch * scale)
        shear = self.shear * sampled["shear"]
        # The plane spans 2 units: a share of the side counts twice.
        columns, rows = (2 * self.shift * sampled[name] for name in ("columns", "rows"))
        affine = torch.stack(
            [
                torch.stack([cosine * across, cosine * shear - sine * down, columns], dim=1),
                torch.stack([sine * across, sine * shear + cosine * down, rows], dim=1),
            ],
            dim=1,
        )  # (B,2,3)
        grid = F.affine_grid(affine, [len(angle), 1, *size], align_corners=False)
        if not self.elastic:
            return grid
        bend = F.interpolate(2 * self.elastic * points, size, mode="bicubic", align_corners=True)
        return grid + bend.permute(0, 2, 3, 1)

    def change_intensity(
        self, tissue: Tensor, sampled: Mapping[str, Tensor], noise: Tensor | float
    ) -> Tensor:
        """Change the intensities of tissue, (B,C,H,W) in [0, 1]; air stays 0.

        Offset and noise fade in over the darkest tenth: a scanner's gain and noise floor raise
        tissue, and what was clipped to air stays air.
        """
        column = {name: values.view(-1, 1, 1, 1) for name, values in sampled.items()}
        changed = tissue
        if self.gamma:
            changed = tissue.clamp(min=1e-6) ** torch.exp(self.gamma * column["gamma"])
        added = self.offset * column["offset"] + self.noise * (column["noise"] + 1) / 2 * noise
        changed = changed * (1 + self.gain * column["gain"]) + added * (tissue / DARK).clamp(max=1)
        return changed.clamp(0, 1) * (tissue > 0)


def normal_numbers(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Sample standard normal numbers on the generator's device."""
    return torch.randn(*shape, generator=generator, device=generator.device)


def flip_sign(sampled: Tensor, probability: float) -> Tensor:
    """Return -1 with the given probability and 1 else, from numbers uniform in [-1, 1)."""
    return 1 - 2 * (sampled < 2 * probability - 1).to(sampled.dtype)


CLASSICAL = Augmentation()
# The paper's own: flips, rotation and intensity jitter.
PAPER = Augmentation(
    vertical_flip=0.5, rotation=15.0, scale=0, stretch=0, shear=0, shift=0, elastic=0,
    gamma=0, gain=0.1, offset=0.05, noise=0,
)  # fmt: skip
