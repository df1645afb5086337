"""The most similar slice of a set by SSIM, under flips and shifts.

Every pair is compared nearly and unshifted (`ssim_pairs`), as it is and mirrored. The best few of
each query, and those that correlate best with it (`neighbours`), are then moved about: every
third shift is looked at, then those around the best of them. The `EXACT` best of these pairs are
compared exactly. A correlation finds shifted copies at once; but the shift at which two slices
correlate best is seldom the one at which their SSIM is highest.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tasks.measures.neighbours import Nearest, flipped
from tasks.measures.ssim import C1, C2, RADIUS, moments, smoother
from tasks.measures.ssim_pairs import STRIDE, ssim_pairs

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Ints = NDArray[np.intp]
Array = NDArray[Any]

CHUNK = 2048  # queries at a time; bounds the memory
CORRELATED = 3  # of the best correlated references of a query are tried
AT_ONCE = 64  # queries of which every shift is kept
EXACT = 3  # of all that were tried, are compared exactly
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
    """Images (...,H,W) in [0, 1] with their local moments and bodies."""

    images: Array
    means: Array
    variances: Array
    bodies: Array

    @classmethod
    def of(cls, images: Floats, bodies: Bools) -> "Side":
        """Of images (N,C,H,W) in [-1, 1]."""
        with threadpool_limits(1, user_api="blas"):  # many small products
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

    def flipped(self, flip: tuple[bool, ...]) -> "Side":
        """Top and bottom, left and right exchanged; Wang's window is symmetric."""
        down, across = (slice(None, None, -1 if each else 1) for each in flip)
        return self.each(lambda x: np.ascontiguousarray(x[..., down, across]))


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
    known = Side.of(references, reference_bodies)
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
        own = Side.of(queries[rows], bodies[rows])
        allowed = np.ones(places.shape, dtype=bool)
        if banned is not None:
            allowed = ~np.take_along_axis(banned, places, axis=1)
        scores, shifts = refine(
            own, known, places, flips, allowed, max_shift=max_shift, workers=workers
        )
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
    queries: Side,
    references: Side,
    rows: Ints,
    flips: Bools,
    allowed: Bools,
    *,
    max_shift: int,
    workers: int,
) -> tuple[Floats, NDArray[np.int16]]:
    """The exact SSIM (N,K) at the best shifts (N,K,2) found; -1 where a pair fell behind.

    Every third shift of all pairs, those around the best of them, then exactly the best `EXACT`.
    Pairs that are not `allowed` (N,K), or stand there twice, are left out.
    """
    n, k = rows.shape
    scores = np.full((n, k), -1, dtype=np.float32)
    shifts = np.zeros((n, k, 2), dtype=np.int16)
    third = slice(max_shift % 3, None, 3)  # of the 2R+1 shifts, the unshifted one among them

    def work(query: int, turned: dict[tuple[bool, ...], Side]) -> None:
        asked = zip(rows[query].tolist(), flips[query].tolist(), strict=True)
        places = {(row, *flip): place for place, (row, flip) in enumerate(asked)}
        found = []
        for (row, *flip), place in places.items():
            if not allowed[query, place]:
                continue
            own = turned[tuple(flip)].take(query % AT_ONCE)
            pair = Pair(own, references.take(row), max_shift)
            _, i, j = pair.best(third, third)
            near = (slice(max(middle - 1, 0), middle + 2) for middle in (i, j))
            found.append((place, pair, pair.best(*near)))
        found.sort(key=lambda one: -one[2][0])
        for place, pair, (_, i, j) in found[:EXACT]:
            scores[query, place], *_ = pair.best(slice(i, i + 1), slice(j, j + 1), stride=1)
            shifts[query, place] = max_shift - i, max_shift - j

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(workers) as pool:
        for start in range(0, n, AT_ONCE):
            batch = np.arange(n)[start : start + AT_ONCE]
            few = queries.take(batch)
            kinds = {tuple(flip) for flip in flips[batch].reshape(-1, 2).tolist()}
            turned = {kind: few.flipped(kind).shifted(max_shift) for kind in kinds}
            list(pool.map(work, batch, repeat(turned)))
    return scores, shifts


class Pair:
    """One query, shifted by up to `reach` pixels, beside one reference.

    `query` holds every shift (2R+1,2R+1,H,W), `reference` (H,W); what wraps around is air.
    """

    def __init__(self, query: Side, reference: Side, reach: int) -> None:
        self.query, self.reference = query, reference
        # Without the air around both bodies, wherever the query is shifted.
        body = query.bodies[reach, reach] | reference.bodies
        self.frame = tuple(span(body.any(axis=axis), RADIUS + reach) for axis in (1, 0))

    def best(self, down: slice, across: slice, *, stride: int = STRIDE) -> tuple[float, int, int]:
        """The highest SSIM of every `stride`-th window among some shifts, and which they are."""
        values = self.ssim(down, across, stride)
        i, j = np.unravel_index(values.argmax(), values.shape)
        rows, columns = (range(len(self.query.bodies))[part] for part in (down, across))
        return float(values[i, j]), rows[int(i)], columns[int(j)]

    def ssim(self, down: slice, across: slice, stride: int) -> Floats:
        """SSIM (A,B) of these shifts; a stride of 1 is exact."""
        few = tuple(slice(x.start + RADIUS, x.stop - RADIUS, stride) for x in self.frame)
        rows, columns = (smoother(x.stop - x.start)[RADIUS:-RADIUS:stride] for x in self.frame)
        a, b = self.query, self.reference
        mean_a, mean_b = a.means[down, across, *few].copy(), b.means[few].copy()  # (A,B,k,l), (k,l)
        light = 2 * mean_a * mean_b
        products = a.images[down, across, *self.frame] * b.images[self.frame]  # (A,B,h,w)
        maps = (light + C1) * (2 * (rows @ products @ columns.T) - light + C2)
        maps /= a.variances[down, across, *few] + (b.variances[few] + C2)
        maps /= mean_a**2 + (mean_b**2 + C1)
        inside = a.bodies[down, across, *few] | b.bodies[few]
        maps, weight = (x.reshape(*x.shape[:2], -1) for x in (maps, inside.astype(np.float32)))
        weight[~weight.any(axis=2)] = 1
        average: Floats = (maps * weight).sum(axis=2) / weight.sum(axis=2)
        return average


def span(inside: Bools, margin: int) -> slice:
    """From the first to the last that is true, with a margin that leaves the windows in place."""
    first, last = int(inside.argmax()), len(inside) - int(inside[::-1].argmax())
    start, stop = max(first - margin, 0) // STRIDE * STRIDE, min(last + margin, len(inside))
    return slice(start, stop) if stop - start > 2 * RADIUS else slice(0, len(inside))
