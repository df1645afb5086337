"""SSIM of every image of one set with every image of another, nearly, by matrix products.

Window by window (every `STRIDE`-th in each direction), what equation 13 of Wang et al. 2004 needs
of two images is a product of two vectors: the window's pixels, weighted by the root of the
Gaussian, give the covariance, and the cached moments give the rest, whose rank is 4. So all pairs
of a window are three matrix products, two of them thin, and three passes over the result.
Blocks of pairs stay in the processor's cache and bound the memory.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tasks.measures.ssim import C1, C2, RADIUS, SIGMA, moments

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

STRIDE = 4
SIDE = 2 * RADIUS + 1
TAPS = SIDE**2
ROWS, COLUMNS = 128, 256  # pairs of a block: its three tables fit into a second-level cache
CHUNK = 2048  # images of a side that are unfolded at once


@dataclass(frozen=True)
class Factors:
    """Left or right factors of K windows of N images, whose products are the parts of SSIM.

    `cross` (K,N,123) gives 2 covariance + C2; `light` (K,N,4) 2 mean mean + C1 where a body of
    the two lies, else 0; `bottom` (K,N,4) the denominator; `away` (K,N) is 1 outside the body.
    """

    cross: Floats
    light: Floats
    bottom: Floats
    away: Floats


def ssim_pairs(
    a: Floats,
    b: Floats,
    bodies_a: Bools | None = None,
    bodies_b: Bools | None = None,
    *,
    stride: int = STRIDE,
    workers: int = 1,
) -> Floats:
    """SSIM (N,M) of images (N,C,H,W) with images (M,C,H,W) in [-1, 1], nearly.

    Args:
        a: one set.
        b: the other.
        bodies_a: (N,H,W); windows count whose centre lies in either body. All do without them.
        bodies_b: (M,H,W).
        stride: pixels between windows; 1 is exact.
        workers: threads.
    """
    found = np.empty((len(a), len(b)), dtype=np.float32)
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(workers) as pool:
        for top in range(0, len(a), CHUNK):
            rows = slice(top, top + CHUNK)
            for left in range(0, len(b), CHUNK):
                columns = slice(left, left + CHUNK)
                found[rows, columns] = chunk(
                    (a[rows], None if bodies_a is None else bodies_a[rows]),
                    (b[columns], None if bodies_b is None else bodies_b[columns]),
                    stride, pool,
                )  # fmt: skip
    return found


def chunk(
    a: tuple[Floats, Bools | None],
    b: tuple[Floats, Bools | None],
    stride: int,
    pool: ThreadPoolExecutor,
) -> Floats:
    """All pairs of as many images as fit into memory, one row of windows after the other."""
    total = np.zeros((len(a[0]), len(b[0])), dtype=np.float32)
    empty = np.zeros_like(total)  # windows in which neither body lies
    windows = 0
    starts = range(0, len(a[0]), ROWS)
    bodies = [side[1] for side in (a, b) if side[1] is not None]
    # Where all pairs are air on both sides, no window counts.
    used = np.any([one.any(axis=0) for one in bodies], axis=0) if len(bodies) == 2 else None
    sides = unfolded(*a, stride, used, left=True), unfolded(*b, stride, used, left=False)
    for left, right in zip(*sides, strict=True):
        jobs = [
            pool.submit(block, left, right, slice(start, start + ROWS), total) for start in starts
        ]
        empty += left.away.T @ right.away
        windows += len(left.away)
        for job in jobs:
            job.result()
    total /= np.maximum(windows - empty, 1)
    return total


def unfolded(
    images: Floats, bodies: Bools | None, stride: int, used: Bools | None, *, left: bool
) -> Iterator[Factors]:
    """The factors of one row of windows after the other; only where `used` (H,W) is true."""
    known = moments(images)
    height, width = known.images.shape[1:]
    taps = np.exp(-(np.arange(-RADIUS, RADIUS + 1) ** 2) / (2 * SIGMA**2))
    root = np.sqrt(np.outer(taps, taps) / taps.sum() ** 2).astype(np.float32)
    inside = np.ones(known.images.shape, dtype=bool) if bodies is None else bodies
    everywhere = np.arange(RADIUS, width - RADIUS, stride)
    for row in range(RADIUS, height - RADIUS, stride):
        inner = np.flatnonzero(used[row, everywhere]) if used is not None else [0, len(everywhere)]
        if not len(inner):
            continue
        columns = everywhere[inner[0] : inner[-1] + 1]
        first = columns[0] - RADIUS
        strip = known.images[:, row - RADIUS : row + RADIUS + 1]
        windows = np.lib.stride_tricks.sliding_window_view(strip, SIDE, axis=2)
        windows = windows[:, :, first::stride][:, :, : len(columns)]  # (N,11,K,11)
        table = np.empty((len(columns), len(images), TAPS + 2), dtype=np.float32)
        pixels = table[..., :TAPS].reshape(*table.shape[:2], SIDE, SIDE)  # a view of the table
        np.multiply(windows.transpose(2, 0, 1, 3), root * (2 if left else 1), out=pixels)
        mean, variance = (x[:, row, columns].T for x in (known.means, known.variances))
        away = 1 - inside[:, row, columns].T.astype(np.float32)
        one = np.ones_like(mean)
        square, spread = mean**2 + C1 / 2, variance + C2 / 2
        if left:
            table[..., TAPS], table[..., TAPS + 1] = -2 * mean, 1
            light = (2 * mean, one, -2 * away * mean, -away)
            bottom = (square * spread, square, spread, one)
        else:
            table[..., TAPS], table[..., TAPS + 1] = mean, C2
            light = (mean, C1 * one, away * mean, C1 * away)
            bottom = (one, spread, square, square * spread)
        yield Factors(table, np.stack(light, axis=-1), np.stack(bottom, axis=-1), away)


def block(left: Factors, right: Factors, rows: slice, total: Floats) -> None:
    """Add the windows' SSIM of some rows of pairs."""
    for start in range(0, total.shape[1], COLUMNS):
        columns = slice(start, start + COLUMNS)
        value, other = (np.empty(total[rows, columns].shape, dtype=np.float32) for _ in range(2))
        sums = np.zeros_like(value)
        for k in range(len(left.cross)):
            np.matmul(left.cross[k, rows], right.cross[k, columns].T, out=value)
            np.matmul(left.light[k, rows], right.light[k, columns].T, out=other)
            value *= other
            np.matmul(left.bottom[k, rows], right.bottom[k, columns].T, out=other)
            value /= other
            sums += value
        total[rows, columns] += sums
