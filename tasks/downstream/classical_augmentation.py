"""The paper's augmentation of real slices: flips, rotation, intensity jitter.

Image and mask are one stack under every geometric transform, so that a tumour never leaves its
outline. `torchvision.transforms.v2.ColorJitter` clamps negatives and refuses two or four
channels, so the jitter of intensities in [-1, 1] is a transform of our own.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

AIR = -1.0


@dataclass(frozen=True, kw_only=True)
class Classical:
    """Random flips, rotation and intensity jitter, drawn once per slice.

    Attributes:
        horizontal, vertical: probability of a flip along columns and rows.
        degrees: rotations are uniform in [-degrees, degrees].
        contrast: gains are uniform in [1 - contrast, 1 + contrast].
        brightness: offsets are uniform in [-brightness, brightness], of the range [0, 1].
    """

    horizontal: float = 0.5
    vertical: float = 0.5
    degrees: float = 15.0
    contrast: float = 0.1
    brightness: float = 0.05

    def __call__(
        self, images: Tensor, masks: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Augment a batch; the same generator state gives the same batch.

        Args:
            images: (B,C,H,W) in [-1, 1], air at -1.
            masks: (B,1,H,W), 0 outside.
            generator: on any device; draws are made there and moved.

        Returns:
            Images and masks of the same shapes, types and ranges; corners that a rotation
            uncovers are air (-1) and empty (0).
        """
        drawn = [
            self.one(image, mask, draws)
            for image, mask, draws in zip(
                images, masks, self.draw(len(images), generator), strict=True
            )
        ]
        moved_images, moved_masks = zip(*drawn, strict=True)
        return torch.stack(moved_images), torch.stack(moved_masks)

    def draw(self, n: int, generator: torch.Generator) -> list[list[float]]:
        """Five uniform numbers in [0, 1) for each slice: all the randomness there is."""
        drawn: list[list[float]] = torch.rand(
            n, 5, generator=generator, device=generator.device
        ).tolist()
        return drawn

    def one(self, image: Tensor, mask: Tensor, draws: list[float]) -> tuple[Tensor, Tensor]:
        """Apply one slice's draws to its image (C,H,W) and mask (1,H,W)."""
        horizontal, vertical, turn, gain, offset = draws
        if horizontal < self.horizontal:
            image, mask = F.horizontal_flip(image), F.horizontal_flip(mask)
        if vertical < self.vertical:
            image, mask = F.vertical_flip(image), F.vertical_flip(mask)
        if self.degrees:
            angle = self.degrees * (2 * turn - 1)
            image = F.rotate(image, angle, InterpolationMode.BILINEAR, fill=[AIR])
            mask = F.rotate(mask, angle, InterpolationMode.NEAREST, fill=[0.0])
        image = jitter(
            image,
            gain=1 + self.contrast * (2 * gain - 1),
            offset=self.brightness * (2 * offset - 1),
        )
        return image, mask


def jitter(image: Tensor, *, gain: float, offset: float) -> Tensor:
    """Scale and shift the intensities of tissue, and leave air at -1.

    Works on the range [0, 1] that (image + 1) / 2 spans. The offset fades in over the darkest
    tenth, since a scanner's gain lifts tissue and never the empty background.
    """
    tissue = (image + 1) / 2
    lifted = tissue * gain + offset * (tissue * 10).clamp(max=1)
    return lifted.clamp(0, 1) * 2 - 1
