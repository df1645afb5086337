"""Augment what the discriminator sees, differentiably (Zhao 2020, arXiv 2006.10738).

Real and generated slices pass through the same random operations, so that the discriminator cannot
memorise a small training set and the generator does not learn the operations. Geometry moves image
and mask together; colour leaves the mask alone. Nothing waits for the device: every operation is
arithmetic on whole batches.
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
        """Augment (B,C+1,H,W) in [-1, 1]; each operation applies with the given probability."""
        return self.apply(x, self.random_numbers(len(x), generator, x.device), probability)

    @staticmethod
    def random_numbers(n: int, generator: torch.Generator, device: torch.device) -> Tensor:
        """Return the random numbers (n,13) that augment n slices: 9 set how, 4 whether."""
        how, whether = (torch.rand(k, n, generator=generator, device=device) for k in (9, 4))
        return torch.cat([how, whether]).T

    def apply(self, x: Tensor, random_numbers: Tensor, probability: Tensor | float = 1.0) -> Tensor:
        """Augment (B,C+1,H,W) in [-1, 1] by `random_numbers` (B,13)."""
        u, applied = random_numbers.T[:9], (random_numbers.T[9:] < probability).to(x.dtype)
        image, mask = x[:, :-1], x[:, -1:]
        if self.brightness:
            image = image + broadcast_per_slice(applied[0] * (u[0] - 0.5) * self.brightness)
        if self.contrast:
            factor = broadcast_per_slice(1 + applied[1] * (2 * u[1] - 1) * self.contrast)
            mean = image.mean((1, 2, 3), keepdim=True)
            image = (image - mean) * factor + mean
        x = torch.cat([image, mask], 1)
        if self.translation or self.flip or self.upside_down:
            x = self.shift_and_mirror(x, (u[2], u[3], u[4], u[7]), applied[2])
        if self.cutout:
            x = self.cut_out(x, u[5:7], applied[3])
        return x

    def shift_and_mirror(self, x: Tensor, u: tuple[Tensor, ...], applied: Tensor) -> Tensor:
        """Shift by whole pixels and mirror; pixels that enter from outside are air.

        A shift is a product with a 0/1 matrix on the left and on the right. Its gradient is a
        product too, which is deterministic where scattered sums are not.
        """
        H, W = x.shape[2:]
        down = torch.round((2 * u[0] - 1) * self.translation * H * applied)
        right = torch.round((2 * u[1] - 1) * self.translation * W * applied)
        rows = shift_matrices(H, down, (u[3] < 0.5).to(x.dtype) * applied * float(self.upside_down))
        columns = shift_matrices(W, right, (u[2] < 0.5).to(x.dtype) * applied * float(self.flip))
        moved = rows[:, None] @ (x - AIR) @ columns[:, None].transpose(2, 3)
        return moved + AIR

    def cut_out(self, x: Tensor, u: Tensor, applied: Tensor) -> Tensor:
        """Set a square at a random position to air."""
        H, W = x.shape[2:]
        inside = torch.ones(1, device=x.device, dtype=x.dtype)
        for axis, side in ((0, H), (1, W)):
            along = torch.arange(side, device=x.device)
            near = (along - u[axis][:, None] * side).abs() < self.cutout * side / 2  # (B,side)
            shape = (len(x), 1, side, 1) if axis == 0 else (len(x), 1, 1, side)
            inside = inside * near.to(x.dtype).reshape(shape)
        keep = 1 - inside * broadcast_per_slice(applied)
        return (x - AIR) * keep + AIR


def shift_matrices(side: int, shift: Tensor, mirror: Tensor) -> Tensor:
    """Return 0/1 matrices (B,side,side): output pixel i takes input i - shift, mirrored or not."""
    along = torch.arange(side, device=shift.device, dtype=shift.dtype)
    source = along[None, :] - shift[:, None]  # (B,side)
    source = torch.where(mirror[:, None] > 0, side - 1 - source, source)
    return (source[:, :, None] == along).to(shift.dtype)


def broadcast_per_slice(values: Tensor) -> Tensor:
    """Reshape (B,) to (B,1,1,1)."""
    return values[:, None, None, None]
