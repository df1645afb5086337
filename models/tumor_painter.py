"""Build the network that paints a tumour of a given shape into a slice, and cut windows around it.

A slice is inpainted under a mask, as in GenSeg (Zhang 2024, arXiv 2408.17421) and FreeTumor (Wu
2024, arXiv 2406.01264): the network sees the slice with a hole, the tumour's shape and noise.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NOISE_PLANES = 4
COARSEST = 16  # pixels of the coarsest maps
GROUPS = 8


@dataclass(frozen=True, kw_only=True)
class PainterArchitecture:
    """The settings from which a painter can be built again; `config.json` holds them.

    Attributes:
        size: side of the square slices in pixels, a multiple of 16.
        channels: image channels C.
        latent: length of z, which varies the tumour as a whole.
        width: channels at full resolution; they double with every halving, up to 8 times.
    """

    size: int = 64
    channels: int = 1
    latent: int = 16
    width: int = 16

    def channel_widths(self) -> list[int]:
        """Return the channels at full resolution and after each halving."""
        halvings, side = 0, self.size
        while side % 2 == 0 and side > COARSEST:
            side //= 2
            halvings += 1
        return [self.width * min(8, 2**level) for level in range(halvings + 1)]


class TumorPainter(nn.Module):
    """A U-Net (Ronneberger 2015) from a slice with a hole to the slice with a tumour in the hole.

    Group normalisation, so that a slice does not depend on the others of its batch.
    """

    def __init__(self, architecture: PainterArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        widths = architecture.channel_widths()
        inputs = architecture.channels + 2 + NOISE_PLANES
        self.down = nn.ModuleList(
            convolution(inner, outer) for inner, outer in pairwise([inputs, *widths])
        )
        self.middle = convolution(widths[-1] + architecture.latent, widths[-1])
        self.up = nn.ModuleList(
            convolution(inner + outer, outer) for outer, inner in reversed(list(pairwise(widths)))
        )
        self.head = nn.Conv2d(widths[0], architecture.channels, 3, padding=1)

    def forward(
        self, images: Tensor, filled: Tensor, masks: Tensor, reach: Tensor, noise: "PainterNoise"
    ) -> Tensor:
        """Paint tumours.

        Args:
            images: slices (B,C,H,W) in [-1, 1].
            filled: the same with what may be painted over filled by its surroundings.
            masks: (B,1,H,W) in [-1, 1], above 0 inside the tumour.
            reach: (B,1,H,W) in [0, 1]: how much of a pixel is painted, 1 inside the tumour and
                falling to 0 around it. Where it is 0, the slice stays as it is.
            noise: of B slices.

        Returns:
            (B,C,H,W) in [-1, 1].
        """
        hollow = images * (1 - reach) + filled * reach
        x = torch.cat([hollow, masks, reach, noise.planes], 1)
        levels: list[Tensor] = []
        for block in self.down:
            x = block(F.avg_pool2d(x, 2) if levels else x)
            levels.append(x)
        z = noise.z[:, :, None, None].expand(-1, -1, *x.shape[2:])
        x = self.middle(torch.cat([x, z], 1))
        for block, skipped in zip(self.up, reversed(levels[:-1]), strict=True):
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0), skipped], 1))
        painted = torch.tanh(self.head(x))  # (B,C,H,W)
        return images * (1 - reach) + painted * reach


@dataclass(frozen=True)
class PainterNoise:
    """Standard normal noise: `z` (B,latent) of a whole tumour, `planes` (B,4,H,W) of its pixels."""

    z: Tensor
    planes: Tensor

    @classmethod
    def sample(
        cls, count: int, architecture: PainterArchitecture, generator: torch.Generator
    ) -> "PainterNoise":
        """Sample the noise of `count` slices on the generator's device."""
        shape = (count, NOISE_PLANES, architecture.size, architecture.size)
        z, planes = (
            torch.randn(each, generator=generator, device=generator.device)
            for each in ((count, architecture.latent), shape)
        )
        return cls(z, planes)


def convolution(inner: int, outer: int) -> nn.Sequential:
    """Make a 3 x 3 convolution with group normalisation and SiLU."""
    groups = next(n for n in range(min(GROUPS, outer // 2), 0, -1) if outer % n == 0)
    return nn.Sequential(
        nn.Conv2d(inner, outer, 3, padding=1), nn.GroupNorm(groups, outer), nn.SiLU()
    )


def cut_windows(x: Tensor, centers: Tensor, side: int) -> Tensor:
    """Cut a square window of each slice, moved inwards where it would stick out.

    As products with 0/1 matrices, whose gradients are deterministic on a GPU.

    Args:
        x: (B,C,H,W).
        centers: (B,2) row and column, in pixels.
        side: of the windows (B,C,side,side), at most H and W.
    """
    parts = []
    for axis in (0, 1):
        length = x.shape[2 + axis]
        first = (centers[:, axis].round() - side // 2).clamp(0, length - side)  # (B,)
        wanted = first[:, None] + torch.arange(side, device=x.device)  # (B,side)
        parts.append((wanted[:, :, None] == torch.arange(length, device=x.device)).to(x.dtype))
    rows, columns = parts  # (B,side,H), (B,side,W)
    return rows[:, None] @ x @ columns[:, None].transpose(2, 3)
