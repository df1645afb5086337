"""Approximate SSIM of every image of one set with every image of another, by matrix products.

In each window (every `STRIDE`-th in each direction), the terms of equation 13 of Wang et al. 2004
are products of two short vectors, one of each image. Hermite's polynomials of low degree (here for
11 taps) are orthogonal under the window's Gaussian weights: an image's coefficients in them are its
weighted mean, its slopes, its curvatures and so on, and the covariance of two images is the sum of
the products of all coefficients but the mean. Those of a degree above `DEGREE` are left out;
the variances are exact. The other parts of the equation have rank 4. So all pairs of a window take
three thin matrix products and three passes over the result. Blocks of pairs fit into the
processor's cache and bound the memory. On a GPU the same products run in one block.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasks.measures.blas_threads import single_threaded_blas
from tasks.measures.similarity.ssim import C1, C2, RADIUS, TAPS

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Ints = NDArray[np.intp]
ImagesAndBodies = tuple[
    Floats, Bools | None
]  # images (N,C,H,W) in [-1, 1] and their bodies (N,H,W)

STRIDE, DEGREE = 4, 5
ALL = 4 * RADIUS  # the degree at which no coefficient is left out
ROWS, COLUMNS = 128, 256  # pairs of a block: its three tables fit into a second-level cache
CHUNK = 2048  # images of either set that are unfolded at once


@dataclass(frozen=True)
class Grid:
    """Which windows are compared, how exactly, and on which device.

    `stride`: pixels between windows. `degree`: highest degree of the polynomials from which
    covariances are computed. With a stride of 1 and `ALL`, SSIM is exact.
    """

    stride: int = STRIDE
    degree: int = DEGREE
    device: str = "cpu"


@dataclass(frozen=True)
class Factors:
    """Left or right factors of K windows of N images, whose products are the parts of SSIM.

    `cross` (K,N,D) gives 2 covariance + C2; `light` (K,N,4) gives 2 mean mean + C1 where either
    body lies, else 0; `bottom` (K,N,4) gives the denominator; `away` (K,N) is 1 outside the body.
    """

    cross: Tensor
    light: Tensor
    bottom: Tensor
    away: Tensor


def ssim_pairs(
    a: Floats,
    b: Floats,
    bodies_a: Bools | None = None,
    bodies_b: Bools | None = None,
    *,
    stride: int = STRIDE,
    degree: int = DEGREE,
    workers: int = 1,
) -> Floats:
    """Approximate the SSIM (N,M) of images (N,C,H,W) with images (M,C,H,W) in [-1, 1].

    Args:
        a: images (N,C,H,W).
        b: images (M,C,H,W).
        bodies_a: (N,H,W); windows count whose centre lies in either body. Without it all count.
        bodies_b: (M,H,W).
        stride: pixels between windows; with 1, and `degree=ALL`, SSIM is exact.
        degree: highest degree of the polynomials that covariances are made of.
        workers: threads.
    """
    grid = Grid(stride, degree)
    ssim = np.empty((len(a), len(b)), dtype=np.float32)
    with torch.inference_mode(), single_threaded_blas(workers) as pool:
        for top in range(0, len(a), CHUNK):
            rows = slice(top, top + CHUNK)
            for left in range(0, len(b), CHUNK):
                columns = slice(left, left + CHUNK)
                ssim[rows, columns] = compare_chunk(
                    (a[rows], None if bodies_a is None else bodies_a[rows]),
                    (b[columns], None if bodies_b is None else bodies_b[columns]),
                    grid, pool,
                ).numpy()  # fmt: skip
    return ssim


def best_pairs(
    a: ImagesAndBodies,
    b: ImagesAndBodies,
    *,
    keep: int,
    owners: tuple[Ints, Ints] | None,
    grid: Grid,
    pool: ThreadPoolExecutor,
) -> tuple[Ints, Floats]:
    """Find for each image of `a` the `keep` images of `b` with the highest approximate SSIM.

    Pairs of equal `owners` do not count: their SSIM is -inf. No table is larger than a chunk.

    Returns:
        Positions in `b` (N,K) and SSIM (N,K), best first.
    """
    n, m = len(a[0]), len(b[0])
    values = torch.empty((n, 0), device=grid.device)
    places = torch.empty((n, 0), dtype=torch.int64, device=grid.device)
    for left in range(0, m, CHUNK):
        columns = slice(left, left + CHUNK)
        chunk = b[0][columns], None if b[1] is None else b[1][columns]
        table = compare_chunk(a, chunk, grid, pool)
        if owners is not None:
            owners_a, owners_b = (torch.as_tensor(part, device=grid.device) for part in owners)
            table[owners_a[:, None] == owners_b[columns]] = -torch.inf
        value, place = table.topk(min(keep, table.shape[1]), dim=1)
        values, order = torch.cat([values, value], dim=1).topk(
            min(keep, values.shape[1] + value.shape[1]), dim=1
        )
        places = torch.cat([places, place + left], dim=1).gather(1, order)
    return places.cpu().numpy().astype(np.intp), values.cpu().numpy()


def compare_chunk(
    a: ImagesAndBodies, b: ImagesAndBodies, grid: Grid, pool: ThreadPoolExecutor
) -> Tensor:
    """Compute the approximate SSIM (N,M) of one chunk of pairs, one row of windows at a time."""
    total = torch.zeros((len(a[0]), len(b[0])), device=grid.device)
    empty = torch.zeros_like(total)  # windows in which neither body lies
    windows = 0
    rows = ROWS if grid.device == "cpu" else len(a[0])
    starts = range(0, len(a[0]), rows)
    bodies = [bodies for _, bodies in (a, b) if bodies is not None]
    # Where all images of both sets are air, no window counts.
    used = np.any([masks.any(axis=0) for masks in bodies], axis=0) if len(bodies) == 2 else None
    factors = (window_factors(images, grid, used, left=images is a) for images in (a, b))
    for left, right in zip(*factors, strict=True):
        jobs = [
            pool.submit(add_block, left, right, slice(start, start + rows), total)
            for start in starts
        ]
        empty.addmm_(left.away.T, right.away)
        windows += len(left.away)
        for job in jobs:
            job.result()
    return total.div_((windows - empty).clamp_(min=1))


def polynomial_weights(degree: int) -> Floats:
    """Return weights (degree + 1, 11) that give a window's coefficients along one axis.

    Row i holds the polynomial of degree i times the Gaussian. The polynomials are orthonormal under
    the Gaussian, so the first row is the Gaussian itself and gives the weighted mean.
    """
    root = np.sqrt(TAPS)[:, None]
    powers = np.vander(np.linspace(-1, 1, len(TAPS)), degree + 1, increasing=True)
    orthonormal, signs = np.linalg.qr(root * powers)
    weights: Floats = (root * orthonormal * np.sign(np.diag(signs))).T.astype(np.float32)
    return weights


def window_factors(
    images_and_bodies: ImagesAndBodies, grid: Grid, used: Bools | None, *, left: bool
) -> Iterator[Factors]:
    """Yield the factors of one row of windows at a time; only where `used` (H,W) is true."""
    (images, bodies), stride, degree = images_and_bodies, grid.stride, grid.degree
    scaled = ((images.mean(axis=1) + 1) / 2).astype(np.float32)
    n, height, width = scaled.shape
    inside = np.ones(scaled.shape, dtype=bool) if bodies is None else bodies
    weights = polynomial_weights(min(degree, len(TAPS) - 1))  # (P,11)
    pairs = [(i, j) for i, j in np.ndindex(len(weights), len(weights)) if 0 < i + j <= degree]
    everywhere = np.arange(RADIUS, width - RADIUS, stride)
    for row in range(RADIUS, height - RADIUS, stride):
        inner = np.arange(len(everywhere)) if used is None else used[row, everywhere].nonzero()[0]
        if not len(inner):
            continue
        columns = everywhere[inner[0] : inner[-1] + 1]  # (K,)
        across = np.zeros((width, len(weights), len(columns)), dtype=np.float32)
        for k, column in enumerate(columns):
            across[column - RADIUS : column + RADIUS + 1, :, k] = weights.T
        strip = scaled[:, row - RADIUS : row + RADIUS + 1]  # (N,11,W)
        down = weights @ strip  # (N,P,W)
        coefficients = (down.reshape(-1, width) @ across.reshape(width, -1)).reshape(
            n, len(weights), len(weights), len(columns)
        )
        squares = (weights[0] @ strip**2) @ across[:, 0]  # (N,K)
        mean = np.ascontiguousarray(coefficients[:, 0, 0].T)  # (K,N)
        away = 1 - inside[:, row, columns].T.astype(np.float32)
        ones = np.ones_like(mean)
        square, spread = mean**2 + C1 / 2, squares.T - mean**2 + C2 / 2
        table = np.empty((len(columns), n, len(pairs) + 1), dtype=np.float32)
        for place, (i, j) in enumerate(pairs):
            table[..., place] = coefficients[:, i, j].T * (2 if left else 1)
        table[..., -1] = 1 if left else C2
        if left:
            light = (2 * mean, ones, -2 * away * mean, -away)
            bottom = (square * spread, square, spread, ones)
        else:
            light = (mean, C1 * ones, away * mean, C1 * away)
            bottom = (ones, spread, square, square * spread)
        yield Factors(
            *(
                torch.from_numpy(part).to(grid.device)
                for part in (table, np.stack(light, axis=-1), np.stack(bottom, axis=-1), away)
            )
        )


@torch.inference_mode()
def add_block(left: Factors, right: Factors, rows: slice, total: Tensor) -> None:
    """Add the SSIM of the windows to the rows `rows` of `total` (N,M)."""
    width = COLUMNS if total.device.type == "cpu" else total.shape[1]
    for start in range(0, total.shape[1], width):
        columns = slice(start, start + width)
        sums = torch.zeros_like(total[rows, columns])
        value, other = torch.empty_like(sums), torch.empty_like(sums)
        for k in range(len(left.cross)):
            torch.mm(left.cross[k, rows], right.cross[k, columns].T, out=value)
            torch.mm(left.light[k, rows], right.light[k, columns].T, out=other)
            value.mul_(other)
            torch.mm(left.bottom[k, rows], right.bottom[k, columns].T, out=other)
            sums.addcdiv_(value, other)
        total[rows, columns] += sums
