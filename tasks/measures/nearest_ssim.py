"""The most similar slice of a set by SSIM, under flips and shifts.

Every pair is compared nearly and unshifted (`ssim_pairs`), as it is and mirrored. The best few of
each query, and those that correlate best with it (`neighbours`), are then moved about: every
third shift is looked at, then those around the best of them. All that is left of each query is
compared exactly. A correlation finds shifted copies at once; but the shift at which two slices
correlate best is seldom the one at which their SSIM is highest.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tasks.measures.neighbours import Nearest, flipped
from tasks.measures.ssim import C1, C2, RADIUS, SIGMA, Moments, moments
from tasks.measures.ssim_pairs import STRIDE, ssim_pairs

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Ints = NDArray[np.intp]
Array = NDArray[Any]

CHUNK = 2048  # queries at a time; bounds the memory
CACHE = 2**17  # pixels of the pairs that are worked on at once
CORRELATED = 3  # of the best correlated references of a query are tried
MIRRORED = ((False, False), (False, True))


@dataclass(frozen=True)
class NearestSsim:
    """For each of N queries the most similar reference.

    `rows` (N,) its position; `scores` (N,) the exact SSIM; `transforms` (N,4) as in `Nearest`.
    """

    rows: Ints
    scores: Floats
    transforms: NDArray[np.int16]


@dataclass(frozen=True)
class Side:
    """Images with their moments and bodies (N,H,W)."""

    known: Moments
    bodies: Bools

    def take(self, rows: Ints) -> "Side":
        """The rows at these positions."""
        return Side(self.known.take(rows), self.bodies[rows])


def nearest_ssim(
    queries: Floats,
    references: Floats,
    bodies: Bools,
    reference_bodies: Bools,
    *,
    correlated: Nearest,
    keep: int = 5,
    max_shift: int = 4,
    forbidden: Bools | None = None,
    workers: int = 1,
) -> NearestSsim:
    """Search `references` (M,C,H,W) for each of `queries` (N,C,H,W), both in [-1, 1].

    Args:
        queries: images.
        references: images of the same size.
        bodies: (N,H,W) where the queries' bodies are; the air around both does not count.
        reference_bodies: (M,H,W), the same of the references.
        correlated: the references that correlate best with each query; they are tried too.
        keep: how many references of the highest unshifted SSIM are tried, at most M.
        max_shift: largest shift in pixels, in each direction.
        forbidden: (N,M) pairs that do not count, such as slices of one patient.
        workers: threads.
    """
    known = Side(moments(references), reference_bodies)
    parts = []
    for start in range(0, len(queries), CHUNK):
        rows = slice(start, start + CHUNK)
        banned = None if forbidden is None else forbidden[rows]
        likely = candidates(
            queries[rows], references, bodies[rows], reference_bodies,
            keep=keep, forbidden=banned, workers=workers,
        )  # fmt: skip
        places = np.concatenate([correlated.rows[rows, :CORRELATED], likely[0]], axis=1)  # (N,K)
        turned = correlated.transforms[rows, :CORRELATED, :2].astype(bool)
        flips = np.concatenate([turned, likely[1]], axis=1)  # (N,K,2)
        own = Side(moments(queries[rows]), bodies[rows])
        scores, shifts = refine(own, known, places, flips, max_shift=max_shift, workers=workers)
        if banned is not None:
            scores[np.take_along_axis(banned, places, axis=1)] = -1
        best = scores.argmax(axis=1)
        each = np.arange(len(best))
        transforms = np.concatenate([flips, shifts], axis=2).astype(np.int16)
        parts.append((places[each, best], scores[each, best], transforms[each, best]))
    return NearestSsim(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def candidates(
    queries: Floats,
    references: Floats,
    bodies: Bools,
    reference_bodies: Bools,
    *,
    keep: int,
    forbidden: Bools | None,
    workers: int,
) -> tuple[Ints, Bools]:
    """Positions (N,K) and flips (N,K,2) of the highest unshifted SSIM, as it is and mirrored."""
    tables = []
    for flip in MIRRORED:
        turned = bodies[:, :, :: -1 if flip[1] else 1]
        tables.append(
            ssim_pairs(flipped(queries, flip), references, turned, reference_bodies,
                       workers=workers)
        )  # fmt: skip
        if forbidden is not None:
            tables[-1][forbidden] = -1
    both = np.concatenate(tables, axis=1)  # (N,2M)
    keep = min(keep, both.shape[1])
    best = np.argpartition(-both, keep - 1, axis=1)[:, :keep]
    which, rows = np.divmod(best, len(references))
    return rows.astype(np.intp), np.array(MIRRORED)[which]


def refine(
    queries: Side, references: Side, rows: Ints, flips: Bools, *, max_shift: int, workers: int
) -> tuple[Floats, NDArray[np.int16]]:
    """The best shift of each pair, and the exact SSIM at it: scores (N,K), shifts (N,K,2)."""
    n, k = rows.shape
    of = np.repeat(np.arange(n), k)
    size = max(CACHE // queries.bodies[0].size, 1)
    scores = np.zeros(n * k, dtype=np.float32)
    shifts = np.zeros((n * k, 2), dtype=np.int16)

    def work(start: int) -> None:
        batch = slice(start, start + size)
        moved = turn(queries.take(of[batch]), flips.reshape(-1, 2)[batch])
        pairs = Pairs(moved, references.take(rows.ravel()[batch]), max_shift)
        shifts[batch] = pairs.best_shifts()
        scores[batch] = pairs.ssim(shifts[batch], stride=1)

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, range(0, n * k, size)))
    return scores.reshape(n, k), shifts.reshape(n, k, 2)


def turn(side: Side, flips: Bools) -> Side:
    """Each row flipped as it is told (N,2); Wang's window is symmetric, so moments flip too."""

    def each(images: Array) -> Array:
        turned = [one[:: -1 if down else 1, :: -1 if across else 1]
                  for one, (down, across) in zip(images, flips, strict=True)]  # fmt: skip
        return np.stack(turned)

    known = Moments(*(each(x) for x in (side.known.images, side.known.means, side.known.variances)))
    return Side(known, each(side.bodies))


class Pairs:
    """B queries beside B references, each query shifted as asked; what wraps around is air."""

    def __init__(self, queries: Side, references: Side, reach: int) -> None:
        self.reach, self.references = reach, references
        self.shape = references.bodies.shape[1:]
        known = queries.known
        self.images, self.means, self.variances, self.bodies = (
            self.windows(x) for x in (known.images, known.means, known.variances, queries.bodies)
        )

    def windows(self, images: Array) -> Array:
        """Every shift of every image as a view (B,2R+1,2R+1,H,W)."""
        edge = (self.reach, self.reach)
        wide = np.pad(images, ((0, 0), edge, edge), mode="wrap")
        return np.lib.stride_tricks.sliding_window_view(wide, self.shape, axis=(1, 2))

    def ssim(self, shifts: NDArray[np.int16], *, stride: int) -> Floats:
        """SSIM (B,) at the shifts (B,2), of every `stride`-th window; 1 is exact."""
        at = (np.arange(len(shifts)), self.reach - shifts[:, 0], self.reach - shifts[:, 1])
        few = (..., slice(RADIUS, -RADIUS, stride), slice(RADIUS, -RADIUS, stride))
        other = self.references.known
        down, across = (smoother(n, stride) for n in self.shape)
        mean_a, variance_a, body = (x[few][at] for x in (self.means, self.variances, self.bodies))
        mean_b, variance_b = other.means[few], other.variances[few]
        light = mean_a * mean_b
        cross = down @ (self.images[at] * other.images) @ across.T - light
        top = (2 * light + C1) * (2 * cross + C2)
        maps = top / ((mean_a**2 + mean_b**2 + C1) * (variance_a + variance_b + C2))
        weight = (body | self.references.bodies[few]).astype(np.float32)
        weight[weight.sum(axis=(1, 2)) == 0] = 1
        average: Floats = (maps * weight).sum(axis=(1, 2)) / weight.sum(axis=(1, 2))
        return average

    def best_shifts(self) -> NDArray[np.int16]:
        """Every third shift, then the neighbours of the best of them."""
        steps = sorted({sign * step for step in range(0, self.reach + 1, 3) for sign in (-1, 1)})
        near = [(i, j) for i, j in product((-1, 0, 1), (-1, 0, 1)) if (i, j) != (0, 0)]
        n = len(self.references.bodies)
        best, value = np.zeros((n, 2), dtype=np.int16), np.full(n, -np.inf, dtype=np.float32)
        for moves, around in ((list(product(steps, steps)), False), (near, True)):
            base = best.copy() if around else np.zeros_like(best)
            for move in moves:
                shifts = (base + np.array(move, dtype=np.int16)).clip(-self.reach, self.reach)
                found = self.ssim(shifts, stride=STRIDE)
                better = found > value
                best[better], value[better] = shifts[better], found[better]
        return best


@cache
def smoother(size: int, stride: int) -> Floats:
    """Wang's window along one axis as a matrix: every `stride`-th valid position by (size,)."""
    taps = np.exp(-(np.arange(-RADIUS, RADIUS + 1) ** 2) / (2 * SIGMA**2))
    starts = np.arange(0, size - 2 * RADIUS, stride)
    matrix = np.zeros((len(starts), size), dtype=np.float32)
    for row, start in zip(matrix, starts, strict=True):
        row[start : start + len(taps)] = taps / taps.sum()
    return matrix
