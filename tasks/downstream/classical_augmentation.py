"""Augment real slices as the paper does: flips, rotation, intensity jitter.

Image and mask are one stack under every geometric transform, so that a tumour never leaves its
outline. `torchvision.transforms.v2.ColorJitter` clamps negatives and rejects two or four
channels, so the jitter of intensities in [-1, 1] is a transform of our own.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

AIR = -1.0


@dataclass(frozen=True, kw_only=True)
class ClassicalAugmentation:
    """Random flips, rotation and intensity jitter, sampled once per slice.

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
            generator: on any device; numbers are sampled there and moved.

        Returns:
            Images and masks of the same shapes, types and ranges; corners that a rotation
            uncovers are air (-1) and empty (0).
        """
        augmented = [
            self.augment_slice(image, mask, parameters)
            for image, mask, parameters in zip(
                images, masks, self.sample_parameters(len(images), generator), strict=True
            )
        ]
        new_images, new_masks = zip(*augmented, strict=True)
        return torch.stack(new_images), torch.stack(new_masks)

    def sample_parameters(self, n: int, generator: torch.Generator) -> list[list[float]]:
        """Sample five uniform numbers in [0, 1) for each slice: all the randomness there is."""
        parameters: list[list[float]] = torch.rand(
            n, 5, generator=generator, device=generator.device
        ).tolist()
        return parameters

    def augment_slice(
        self, image: Tensor, mask: Tensor, parameters: list[float]
    ) -> tuple[Tensor, Tensor]:
        """Apply one slice's parameters to its image (C,H,W) and mask (1,H,W)."""
        horizontal, vertical, turn, gain, offset = parameters
        if horizontal < self.horizontal:
            image, mask = F.horizontal_flip(image), F.horizontal_flip(mask)
        if vertical < self.vertical:
            image, mask = F.vertical_flip(image), F.vertical_flip(mask)
        if self.degrees:
            angle = self.degrees * (2 * turn - 1)
            image = F.rotate(image, angle, InterpolationMode.BILINEAR, fill=[AIR])
            mask = F.rotate(mask, angle, InterpolationMode.NEAREST, fill=[0.0])
        image = jitter_intensity(
            image,
            gain=1 + self.contrast * (2 * gain - 1),
            offset=self.brightness * (2 * offset - 1),
        )
        return image, mask


def jitter_intensity(image: Tensor, *, gain: float, offset: float) -> Tensor:
    """Scale and shift the intensities of tissue, and leave air at -1.

    Works on the range [0, 1] that (image + 1) / 2 spans. The offset fades in over the darkest
    tenth, since a scanner's gain raises tissue and never the empty background.
    """
    tissue = (image + 1) / 2
    jittered = tissue * gain + offset * (tissue * 10).clamp(max=1)
    return jittered.clamp(0, 1) * 2 - 1
