"""SSIM of flipped and shifted images with selected others, approximate or exact.

The approximate SSIM uses every fourth window, in which the covariance is the sum of the products of
both images' coefficients in the polynomials of low degree (see `approximate_ssim`). The
coefficients of every window of an image are computed once for all its flips and shifts, those of
the references once for all images. A pair at a shift then takes two dozen passes over some hundred
windows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import correlate1d
from torch import Tensor

from tasks.measures.similarity.approximate_ssim import polynomial_weights
from tasks.measures.similarity.ssim import C1, C2, RADIUS, window_matrix

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Ints = NDArray[np.intp]
Flip = tuple[bool, bool]
Shift = tuple[int, int]  # pixels, down and to the right
Box = tuple[int, int, int, int]  # first row, behind the last row, first column, behind the last

STRIDE, DEGREE = 4, 3
AT_ONCE = 4  # images whose windows are all computed at once: they fit into the processor's cache
# The coefficients that are kept, by degree along rows and columns, but for the mean.
TERMS = [(i, j) for i, j in np.ndindex(DEGREE + 1, DEGREE + 1) if 0 < i + j <= DEGREE]
MEAN, VARIANCE, BODY = range(len(TERMS), len(TERMS) + 3)
PARTS = len(TERMS) + 3


@cache
def polynomial_matrices(size: int) -> Floats:
    """Return matrices (DEGREE + 1, size, size) whose products are the coefficients along one axis.

    Images are reflected at the frame. The first matrix is that of `smoother`.
    """
    each = [
        correlate1d(np.eye(size), weights, axis=0, mode="reflect")
        for weights in polynomial_weights(DEGREE).astype(np.float64)
    ]
    return np.stack(each).astype(np.float32)


def write_windows(images: Floats, down: Floats, across: Floats, *, out: Tensor) -> None:
    """Write the parts of SSIM for the windows of images (N,H,W) in [0, 1] into `out` (N,PARTS,h,w).

    `down` (D,h,H) and `across` (D,w,W) are rows of `polynomial_matrices`. The parts are
    the coefficients of `TERMS`, the mean and the variance. The caller fills in `BODY`, whether the
    window's centre lies in the body.
    """
    rows, columns, image = (torch.from_numpy(x) for x in (down, across, images))
    for i, table in enumerate(rows):
        part = table @ image  # (N,h,W)
        for j in range(DEGREE + 1 - i):
            place = TERMS.index((i, j)) if i + j else MEAN
            out[:, place] = part @ columns[j].T
    squares = rows[0] @ image**2 @ columns[0].T
    out[:, VARIANCE] = squares - out[:, MEAN] ** 2


@dataclass(frozen=True)
class References:
    """The images with which others are compared, with their windows.

    `images` (M,C,H,W) in [-1, 1]; `bodies` (M,H,W); `windows` (M,PARTS,h,w), every `STRIDE`-th;
    `boxes` (M,4) around the bodies, in pixels.
    """

    images: Floats
    bodies: Bools
    windows: Tensor
    boxes: Ints

    @classmethod
    def of(cls, images: Floats, bodies: Bools, map_: Callable[..., Any]) -> "References":
        """Compute the windows of the images, some images at a time."""
        inner = slice(RADIUS, -RADIUS, STRIDE)
        down, across = (
            np.ascontiguousarray(polynomial_matrices(size)[:, inner]) for size in images.shape[2:]
        )

        windows = torch.empty((len(images), PARTS, down.shape[1], across.shape[1]))

        @torch.inference_mode()
        def write_block(start: int) -> None:
            rows = slice(start, start + 8 * AT_ONCE)
            write_windows(to_unit_range(images[rows]), down, across, out=windows[rows])
            windows[rows, BODY] = torch.from_numpy(bodies[rows, inner, inner]).float()

        list(map_(write_block, range(0, len(images), 8 * AT_ONCE)))
        return cls(images, bodies, windows, bounding_boxes(bodies))


class Images:
    """Images with all their windows, for any flip and shift; shifts wrap around at the frame.

    Args:
        images: (N,C,H,W) in [-1, 1].
        bodies: (N,H,W).
        reach: largest shift in each direction, in pixels.
        flips: the flips that are computed.
    """

    def __init__(self, images: Floats, bodies: Bools, reach: int, flips: set[Flip]) -> None:
        plain = to_unit_range(images)
        down, across = (polynomial_matrices(size) for size in plain.shape[1:])
        # The image itself follows the parts of the windows, for the exact SSIM.
        every = torch.empty((len(plain), PARTS + 1, *plain.shape[1:]))
        write_windows(plain, down, across, out=every)
        every[:, BODY] = torch.from_numpy(bodies)
        every[:, PARTS] = torch.from_numpy(plain)
        self.reach = reach
        self.flipped = {flip: wrap_around(flip_windows(every, flip), reach) for flip in flips}
        self.boxes = {
            flip: bounding_boxes(bodies[:, :: -1 if flip[0] else 1, :: -1 if flip[1] else 1])
            for flip in flips
        }

    def at(self, row: int, flip: Flip, shifts: list[Shift], box: Box) -> Tensor:
        """Return every `STRIDE`-th window (S,PARTS,h,w) of one image, flipped, at each shift.

        `box` counts these windows, not pixels.
        """
        top, bottom, left, right = (STRIDE * side for side in box)
        maps = self.flipped[flip][row, :PARTS]
        y, x = self.reach + RADIUS + top, self.reach + RADIUS + left
        return torch.stack(
            [
                maps[
                    :, y - i : y - i + bottom - top : STRIDE, x - j : x - j + right - left : STRIDE
                ]
                for i, j in shifts
            ]
        )

    def whole(self, row: int, flip: Flip, shifts: list[Shift], box: Box) -> Tensor:
        """Return mean, variance, body and image (S,4,h,w) at every pixel of a box."""
        top, bottom, left, right = box
        y, x = self.reach + top, self.reach + left
        maps = self.flipped[flip][row, MEAN:]
        return torch.stack(
            [maps[:, y - i : y - i + bottom - top, x - j : x - j + right - left] for i, j in shifts]
        )


def flip_windows(every: Tensor, flip: Flip) -> Tensor:
    """Return the windows of the flipped images: odd coefficients change their sign."""
    axes = [axis for axis, each in zip((2, 3), flip, strict=True) if each]
    if not axes:
        return every
    signs = torch.ones(every.shape[1])
    for place, (i, j) in enumerate(TERMS):
        signs[place] = (-1) ** (i * flip[0] + j * flip[1])
    return every.flip(axes).mul_(signs[:, None, None])


def wrap_around(every: Tensor, reach: int) -> Tensor:
    """Pad with `reach` pixels at every edge, taken from the opposite edge."""
    for axis in (2, 3):
        size = every.shape[axis]
        ends = (every.narrow(axis, size - reach, reach), every, every.narrow(axis, 0, reach))
        every = torch.cat(ends, dim=axis)
    return every


def approximate_windows(a: Tensor, b: Tensor) -> Tensor:
    """Approximate the SSIM (...) of windows (...,PARTS,h,w) that broadcast, within the bodies."""
    total = 2 * a[..., 0, :, :] * b[..., 0, :, :]
    for place in range(1, len(TERMS)):
        total.addcmul_(a[..., place, :, :], b[..., place, :, :], value=2)
    (mean_a, spread_a, body_a), (mean_b, spread_b, body_b) = (
        x[..., MEAN:, :, :].unbind(-3) for x in (a, b)
    )
    total.add_(C2)
    light = mean_a * mean_b
    total.mul_(light.mul_(2).add_(C1))
    bottom = torch.add(spread_a, spread_b + C2)
    bottom.mul_(torch.add(mean_a**2, mean_b**2 + C1))
    total.div_(bottom)
    inside = torch.maximum(body_a, body_b)
    count = inside.sum(dim=(-2, -1))
    value = total.mul_(inside).sum(dim=(-2, -1))
    return value / count.clamp_(min=1)


def exact_ssim(a: Tensor, image: Floats, body: Bools) -> Floats:
    """Compute the exact SSIM (S,) of the result (S,4,h,w) of `Images.whole` with an image (h,w)."""
    inner = slice(RADIUS, -RADIUS)
    rows, columns = (torch.from_numpy(window_matrix(size)[inner]) for size in image.shape)
    other = torch.from_numpy(image)

    def filtered(images: Tensor) -> Tensor:
        return rows @ images @ columns.T

    mean_a, spread_a, inside = a[:, :3, inner, inner].unbind(1)
    mean_b = filtered(other)
    spread_b = filtered(other**2) - mean_b**2
    light = 2 * mean_a * mean_b
    maps = (light + C1) * (2 * filtered(a[:, 3] * other) - light + C2)
    maps /= (spread_a + spread_b + C2) * (mean_a**2 + mean_b**2 + C1)
    weight = torch.maximum(inside, torch.from_numpy(body[inner, inner]).float())
    weight[weight.sum(dim=(1, 2)) == 0] = 1
    average: Floats = ((maps * weight).sum(dim=(1, 2)) / weight.sum(dim=(1, 2))).numpy()
    return average


def to_unit_range(images: Floats) -> Floats:
    """Return the mean channel (N,H,W) of images (N,C,H,W) in [-1, 1], scaled to [0, 1]."""
    grey: Floats = ((images.mean(axis=1) + 1) / 2).astype(np.float32)
    return grey


def bounding_boxes(bodies: Bools) -> Ints:
    """Return the bounding boxes (N,4) of bodies (N,H,W); the whole image where there is no body."""
    sides = []
    for axis, size in ((2, bodies.shape[1]), (1, bodies.shape[2])):
        inside: Bools = np.asarray(bodies.any(axis=axis))
        sides += [inside.argmax(axis=1), size - inside[:, ::-1].argmax(axis=1)]
    return np.stack(sides, axis=1)


def enclosing_box(inside: Ints, margin: int, shape: tuple[int, ...]) -> Box:
    """Return one box around several boxes (K,4), with a margin, within the image."""
    (top, left), (bottom, right) = inside[:, ::2].min(axis=0), inside[:, 1::2].max(axis=0)
    return (
        max(int(top) - margin, 0), min(int(bottom) + margin, shape[0]),
        max(int(left) - margin, 0), min(int(right) + margin, shape[1]),
    )  # fmt: skip
