"""SSIM of one image with several others, under flips and shifts of it.

Exactly, or by every fourth window. The local moments of an image are computed once for all its
shifts; only the products of a pair are filtered for each.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.measures.ssim import C1, C2, RADIUS, moments, smoother
from tasks.measures.ssim_pairs import STRIDE

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Ints = NDArray[np.intp]
Array = NDArray[Any]
Flip = tuple[bool, bool]

AT_ONCE = 64  # images of which every shift, or the moments, are had at once
PIECE = 12  # shifts of a pair whose products a cache holds


@dataclass(frozen=True)
class Side:
    """Images (...,H,W) in [0, 1] with their local moments and bodies."""

    images: Array
    means: Array
    variances: Array
    bodies: Array

    @classmethod
    def of(cls, images: Floats, bodies: Bools) -> "Side":
        """Of images (N,C,H,W) in [-1, 1]."""
        known = moments(images)
        return cls(known.images, known.means, known.variances, bodies)

    def each(self, change: Callable[[Array], Array]) -> "Side":
        """All four, changed alike."""
        return Side(*(change(x) for x in (self.images, self.means, self.variances, self.bodies)))

    def take(self, rows: int | Ints) -> "Side":
        """The row, or the rows, at this position."""
        return self.each(lambda x: x[rows])

    def shifted(self, reach: int) -> "Side":
        """Every shift of every image, as a view (N,2R+1,2R+1,H,W): the largest ones first."""
        shape = self.bodies.shape[1:]

        def views(images: Array) -> Array:
            wide = np.pad(images, ((0, 0), (reach, reach), (reach, reach)), mode="wrap")
            return np.lib.stride_tricks.sliding_window_view(wide, shape, axis=(1, 2))

        return self.each(views)

    def flipped(self, flip: Flip) -> "Side":
        """Top and bottom, left and right exchanged; Wang's window is symmetric."""
        down, across = (slice(None, None, -1 if each else 1) for each in flip)
        return self.each(lambda x: np.ascontiguousarray(x[..., down, across]))


@dataclass(frozen=True)
class Candidates:
    """References (M,...) that queries are compared with.

    Of the local means and variances only every `STRIDE`-th of either direction (M,h,w) is kept.
    """

    images: Floats
    means: Floats
    variances: Floats
    bodies: Bools

    @classmethod
    def of(cls, images: Floats, bodies: Bools, map_: Callable[..., Any]) -> "Candidates":
        """Of images (N,C,H,W) in [-1, 1], some at a time."""
        down, across = (smoother(size)[RADIUS:-RADIUS:STRIDE] for size in images.shape[2:])

        def some(start: int) -> tuple[Floats, Floats]:
            grey = unit(images[start : start + AT_ONCE])
            means = filtered(grey, down, across)
            return means, filtered(grey**2, down, across) - means**2

        means, variances = zip(*map_(some, range(0, len(images), AT_ONCE)), strict=True)
        return cls(images, np.concatenate(means), np.concatenate(variances), bodies)


def unit(images: Floats) -> Floats:
    """The mean channel (N,H,W) of images (N,C,H,W) in [-1, 1], in [0, 1]."""
    grey: Floats = ((images.mean(axis=1) + 1) / 2).astype(np.float32)
    return grey


class Pairs:
    """One query, under flips and shifts, beside K references; what wraps around is air.

    Args:
        query: by its flip, every shift of it (2R+1,2R+1,H,W).
        references: what it is compared with.
        rows: positions (K,) of its references.
        flips: (K,2) of the query for each.
        reach: R.
    """

    def __init__(
        self,
        query: dict[Flip, Side],
        references: Candidates,
        rows: Ints,
        flips: Bools,
        reach: int,
    ) -> None:
        self.keys = [(int(row), bool(a), bool(b)) for row, (a, b) in zip(rows, flips, strict=True)]
        self.query, self.references, self.rows = query, references, rows
        self.bodies = references.bodies[rows]
        self.images = unit(references.images[rows])
        # Without the air around all bodies, wherever the query is shifted.
        kinds = {key[1:] for key in self.keys}
        body = np.any([*self.bodies, *(query[kind].bodies[reach, reach] for kind in kinds)], axis=0)
        self.frame = tuple(span(body.any(axis=axis), RADIUS + reach) for axis in (1, 0))

    def first(self) -> Bools:
        """Which of the K pairs do not stand there a second time."""
        return np.array([self.keys.index(key) == place for place, key in enumerate(self.keys)])

    def best(self, tried: list[tuple[int, int, int]]) -> dict[int, tuple[float, int, int]]:
        """The highest SSIM of each place among those tried (place and shift), and its shift."""
        found: dict[int, tuple[float, int, int]] = {}
        for (place, i, j), value in zip(tried, self.ssim(tried), strict=True):
            if place not in found or value > found[place][0]:
                found[place] = float(value), i, j
        return found

    def ssim(self, tried: list[tuple[int, int, int]], *, stride: int = STRIDE) -> Floats:
        """SSIM (P,) at places and shifts, by every `stride`-th window; a stride of 1 is exact."""
        values = [
            self.piece(tried[start : start + PIECE], stride)
            for start in range(0, len(tried), PIECE)
        ]
        return np.concatenate(values) if values else np.empty(0, dtype=np.float32)

    def piece(self, tried: list[tuple[int, int, int]], stride: int) -> Floats:
        """The SSIM (P,) of so few that a cache holds their products."""
        few = tuple(slice(x.start + RADIUS, x.stop - RADIUS, stride) for x in self.frame)
        rows, columns = (smoother(x.stop - x.start)[RADIUS:-RADIUS:stride] for x in self.frame)
        places = np.array([place for place, _, _ in tried])
        products = np.empty((len(tried), *(x.stop - x.start for x in self.frame)), np.float32)
        mean_a, spread_a, inside = (np.empty((len(tried), len(rows), len(columns)), kind)
                                    for kind in (np.float32, np.float32, bool))  # fmt: skip
        for p, (place, i, j) in enumerate(tried):
            own = self.query[self.keys[place][1:]]
            np.multiply(own.images[i, j][self.frame], self.images[place][self.frame], products[p])
            mean_a[p], spread_a[p] = own.means[i, j][few], own.variances[i, j][few]
            np.logical_or(own.bodies[i, j][few], self.bodies[place][few], inside[p])
        mean_b, spread_b = self.moments(places, stride, few, rows, columns)
        light = 2 * mean_a * mean_b
        maps = (light + C1) * (2 * filtered(products, rows, columns) - light + C2)
        maps /= spread_a + spread_b + C2
        maps /= mean_a**2 + mean_b**2 + C1
        maps, weight = (x.reshape(len(tried), -1) for x in (maps, inside.astype(np.float32)))
        weight[~weight.any(axis=1)] = 1
        average: Floats = (maps * weight).sum(axis=1) / weight.sum(axis=1)
        return average

    def moments(
        self, places: Ints, stride: int, few: tuple[slice, ...], rows: Floats, columns: Floats
    ) -> tuple[Floats, Floats]:
        """Means and variances (P,h,w) of the references in the frame's windows."""
        if stride == STRIDE:  # the windows of all frames lie on one lattice
            part = tuple(
                slice((x.start - RADIUS) // STRIDE, (x.start - RADIUS) // STRIDE + size)
                for x, size in zip(few, (len(rows), len(columns)), strict=True)
            )
            numbers = self.rows[places]
            return (
                self.references.means[:, *part][numbers],
                self.references.variances[:, *part][numbers],
            )
        images = self.images[:, *self.frame][places]
        means = filtered(images, rows, columns)
        return means, filtered(images**2, rows, columns) - means**2


def filtered(images: Floats, rows: Floats, columns: Floats) -> Floats:
    """Wang's window over images (P,H,W), at the places that `rows` and `columns` stand for."""
    p, height, width = images.shape
    across = (images.reshape(p * height, width) @ columns.T).reshape(p, height, -1)
    found: Floats = rows @ across
    return found


def span(inside: Bools, margin: int) -> slice:
    """From the first to the last that is true, with a margin that leaves the windows in place."""
    first, last = int(inside.argmax()), len(inside) - int(inside[::-1].argmax())
    start, stop = max(first - margin, 0) // STRIDE * STRIDE, min(last + margin, len(inside))
    return slice(start, stop) if stop - start > 2 * RADIUS else slice(0, len(inside))
