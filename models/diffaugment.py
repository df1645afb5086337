"""Differentiable augmentation of what the discriminator sees (Zhao 2020, arXiv 2006.10738).

Real and generated slices pass through the same random operations, so that the discriminator
cannot learn a small training set by heart and the generator does not learn the operations.
Geometry moves image and mask together; colour leaves the mask alone. Nothing waits for the
device: every operation is arithmetic on whole batches.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

AIR = -1.0


@dataclass(frozen=True, kw_only=True)
class DiffAugment:
    """The operations and how far each may go; zero turns one off.

    Attributes:
        brightness: added, uniform in [-brightness/2, brightness/2].
        contrast: factors about the slice's mean, uniform in [1 - contrast, 1 + contrast].
        translation: largest shift as a share of the side.
        cutout: side of the square set to air, as a share of the side.
        flip: mirror half of the slices left to right.
        upside_down: mirror half of them top to bottom.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    translation: float = 0.0
    cutout: float = 0.0
    flip: bool = False
    upside_down: bool = False

    def __call__(
        self, x: Tensor, generator: torch.Generator, probability: Tensor | float = 1.0
    ) -> Tensor:
        """Augment (B,C+1,H,W) in [-1, 1]; each operation strikes with the given probability."""
        return self.apply(x, self.random_numbers(len(x), generator, x.device), probability)

    @staticmethod
    def random_numbers(n: int, generator: torch.Generator, device: torch.device) -> Tensor:
        """The random numbers (n,13) that augment n slices: 9 say how, 4 whether."""
        how, whether = (torch.rand(k, n, generator=generator, device=device) for k in (9, 4))
        return torch.cat([how, whether]).T

    def apply(self, x: Tensor, draws: Tensor, probability: Tensor | float = 1.0) -> Tensor:
        """Augment (B,C+1,H,W) in [-1, 1] as `draws` (B,13) say."""
        u, strikes = draws.T[:9], (draws.T[9:] < probability).to(x.dtype)
        image, mask = x[:, :-1], x[:, -1:]
        if self.brightness:
            image = image + broadcast_per_slice(strikes[0] * (u[0] - 0.5) * self.brightness)
        if self.contrast:
            factor = broadcast_per_slice(1 + strikes[1] * (2 * u[1] - 1) * self.contrast)
            mean = image.mean((1, 2, 3), keepdim=True)
            image = (image - mean) * factor + mean
        x = torch.cat([image, mask], 1)
        if self.translation or self.flip or self.upside_down:
            x = self.shift_and_mirror(x, (u[2], u[3], u[4], u[7]), strikes[2])
        if self.cutout:
            x = self.cut_out(x, u[5:7], strikes[3])
        return x

    def shift_and_mirror(self, x: Tensor, u: tuple[Tensor, ...], strike: Tensor) -> Tensor:
        """Shift by whole pixels and mirror; what enters from outside is air.

        A shift is a product with a 0/1 matrix on each side: its gradient is a product too, which
        is deterministic where scattered sums are not.
        """
        H, W = x.shape[2:]
        down = torch.round((2 * u[0] - 1) * self.translation * H * strike)
        right = torch.round((2 * u[1] - 1) * self.translation * W * strike)
        rows = shift_matrices(H, down, (u[3] < 0.5).to(x.dtype) * strike * float(self.upside_down))
        columns = shift_matrices(W, right, (u[2] < 0.5).to(x.dtype) * strike * float(self.flip))
        moved = rows[:, None] @ (x - AIR) @ columns[:, None].transpose(2, 3)
        return moved + AIR

    def cut_out(self, x: Tensor, u: Tensor, strike: Tensor) -> Tensor:
        """Set a square at a random place to air."""
        H, W = x.shape[2:]
        inside = torch.ones(1, device=x.device, dtype=x.dtype)
        for axis, side in ((0, H), (1, W)):
            along = torch.arange(side, device=x.device)
            near = (along - u[axis][:, None] * side).abs() < self.cutout * side / 2  # (B,side)
            shape = (len(x), 1, side, 1) if axis == 0 else (len(x), 1, 1, side)
            inside = inside * near.to(x.dtype).reshape(shape)
        kept = 1 - inside * broadcast_per_slice(strike)
        return (x - AIR) * kept + AIR


def shift_matrices(side: int, shift: Tensor, mirror: Tensor) -> Tensor:
    """0/1 matrices (B,side,side): output pixel i takes input pixel i - shift, perhaps mirrored."""
    along = torch.arange(side, device=shift.device, dtype=shift.dtype)
    source = along[None, :] - shift[:, None]  # (B,side)
    source = torch.where(mirror[:, None] > 0, side - 1 - source, source)
    return (source[:, :, None] == along).to(shift.dtype)


def broadcast_per_slice(values: Tensor) -> Tensor:
    """(B,) -> (B,1,1,1)."""
    return values[:, None, None, None]
