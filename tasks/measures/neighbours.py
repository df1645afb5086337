"""The most similar slice of a set, under flips and shifts, by normalised cross-correlation.

A light blur (sigma 1.5 pixels) makes copies with added noise, a changed gain or a soft blur look
like what they are. Coarse to fine: on a grid of about 32 x 32 every flip and shift of all queries
is compared with all references by one matrix product, then the best few references of a query are
correlated at full size (Lewis 1995, "Fast normalized cross-correlation").
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import gaussian_filter
from threadpoolctl import threadpool_limits

Floats = NDArray[np.float32]
Ints = NDArray[np.intp]

SIGMA = 1.5  # pixels
COARSE = 32  # pixels a side of the coarse grid
FEW = 32  # spectra that a cache holds
UPRIGHT = ((False, False), (False, True))  # as it is, left and right exchanged
INVERTED = ((True, False), (True, True))  # upside-down, turned by 180°


@dataclass(frozen=True)
class Nearest:
    """For each query its nearest references, best first.

    `rows` (N,K) positions in the reference set; `scores` (N,K) normalised cross-correlations in
    [-1, 1]; `upright` and `inverted` (N,) the best scores with the anatomy as it is and
    upside-down; `transforms` (N,K,4) flip of rows, flip of columns, shift of rows and of columns
    (pixels) that bring the query onto the reference.
    """

    rows: Ints
    scores: Floats
    upright: Floats
    inverted: Floats
    transforms: NDArray[np.int16]


def nearest(
    queries: Floats,
    references: Floats,
    *,
    keep: int = 5,
    max_shift: int = 4,
    forbidden: NDArray[np.bool_] | None = None,
    chunk: int = 256,
    workers: int = 1,
) -> Nearest:
    """Search `references` (M,C,H,W) for each of `queries` (N,C,H,W).

    Args:
        queries: images in [-1, 1].
        references: images in [-1, 1], of the same size.
        keep: how many references to correlate at full size and to return, at most M.
        max_shift: largest shift in pixels of full size, in each direction.
        forbidden: (N,M) pairs that do not count, such as slices of one patient.
        chunk: how many queries at a time; bounds the memory.
        workers: threads.

    Raises:
        ValueError: when a query has no allowed reference.
    """
    if not len(references) or (forbidden is not None and forbidden.all(axis=1).any()):
        raise ValueError("every query needs at least one reference that it may be compared with")

    def part(start: int) -> tuple[Ints, Floats, Floats, Floats, NDArray[np.int16]]:
        banned = None if forbidden is None else forbidden[start : start + chunk]
        return search(prepare(queries[start : start + chunk]), spectra, coarse_references,
                      keep=keep, max_shift=max_shift, forbidden=banned)  # fmt: skip

    # The products are small: threads of BLAS would wait for each other longer than they work.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(workers) as pool:
        fine_references = prepare(references)
        coarse_references = shrink(fine_references)
        spectra = fft.rfft2(fine_references, workers=workers)
        parts = list(pool.map(part, range(0, len(queries), chunk)))
    return Nearest(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def prepare(images: Floats) -> Floats:
    """Blur, and scale every image to mean 0 and norm 1, so that a product is a correlation."""
    blurred = gaussian_filter(images.astype(np.float32), SIGMA, axes=(2, 3), mode="nearest")
    return normalise(blurred)


def normalise(images: Floats) -> Floats:
    """Mean 0, norm 1 for each image; a constant image becomes 0 and correlates with nothing."""
    flat = images.reshape(len(images), -1)
    centred = flat - flat.mean(axis=1, keepdims=True)
    norm = np.sqrt(np.einsum("np,np->n", centred, centred))
    centred *= np.where(norm > 1e-3, 1 / np.maximum(norm, 1e-3), 0)[:, None]
    scaled: Floats = centred.reshape(images.shape)
    return scaled


def shrink(images: Floats) -> Floats:
    """Means of blocks on a grid of at least 32 pixels a side, normalised again."""
    factor = factor_of(*images.shape[2:])
    down, across = (
        np.repeat(np.eye(size // factor, size), factor, axis=1)[:, :size].astype(np.float32)
        for size in images.shape[2:]
    )
    return normalise((down @ images @ across.T).astype(np.float32, copy=False))


def factor_of(height: int, width: int) -> int:
    """By how much the coarse grid is smaller."""
    return max(min(height, width) // COARSE, 1)


def search(
    fine: Floats,
    spectra: NDArray[np.complex64],
    coarse_references: Floats,
    *,
    keep: int,
    max_shift: int,
    forbidden: NDArray[np.bool_] | None,
) -> tuple[Ints, Floats, Floats, Floats, NDArray[np.int16]]:
    """The fields of `Nearest` for one chunk of queries."""
    n, m = len(fine), len(spectra)
    keep = min(keep, m)
    coarse = shrink(fine)
    reach = -(-max_shift // factor_of(*fine.shape[2:]))
    pools = []
    for flips in (UPRIGHT, INVERTED):
        best = np.full((n, m), -np.inf, dtype=np.float32)
        columns = coarse_references.reshape(m, -1).T
        for flip, down, right in product(flips, range(-reach, reach + 1), range(-reach, reach + 1)):
            moved = np.roll(flipped(coarse, flip), (down, right), axis=(2, 3))
            np.maximum(best, moved.reshape(n, -1) @ columns, out=best)
        if forbidden is not None:
            best[forbidden] = -np.inf
        candidates = np.argpartition(-best, keep - 1, axis=1)[:, :keep]  # (N, K)
        allowed = np.isfinite(np.take_along_axis(best, candidates, axis=1))
        scores, transforms = correlate(fine, spectra, candidates, flips=flips, max_shift=max_shift)
        pools.append((candidates, np.where(allowed, scores, -1), transforms))
    rows = np.concatenate([pool[0] for pool in pools], axis=1)  # (N, 2K)
    scores = np.concatenate([pool[1] for pool in pools], axis=1)
    transforms = np.concatenate([pool[2] for pool in pools], axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :keep]
    return (
        np.take_along_axis(rows, order, axis=1),
        np.take_along_axis(scores, order, axis=1),
        pools[0][1].max(axis=1),
        pools[1][1].max(axis=1),
        np.take_along_axis(transforms, order[..., None], axis=1),
    )


def correlate(
    fine: Floats,
    spectra: NDArray[np.complex64],
    candidates: Ints,
    *,
    flips: tuple[tuple[bool, bool], ...],
    max_shift: int,
) -> tuple[Floats, NDArray[np.int16]]:
    """Best score (N,K) over flips and shifts for each query and candidate, and the transform.

    `spectra` (M,C,H,W/2+1) are the references' transforms.

    A circular shift leaves mean and norm as they are, so that all shifts at once are one product
    of spectra; at the frame there is air, so what wraps around is air. Only the near shifts are
    transformed back.
    """
    n, keep = candidates.shape
    height, width = fine.shape[2:]
    shifts = np.arange(-max_shift, max_shift + 1)
    span = len(shifts)
    down = waves(shifts, np.arange(height), height) / height  # (S,H)
    across = waves(shifts, np.arange(width // 2 + 1), width) / width  # (S,W/2+1)
    across[:, 1 : (width + 1) // 2] *= 2  # the other half is conjugate
    scores = np.full((n, keep), -np.inf, dtype=np.float32)
    transforms = np.zeros((n, keep, 4), dtype=np.int16)
    for flip in flips:
        turned = np.conj(fft.rfft2(flipped(fine, flip)))
        for k in range(keep):
            near = np.empty((n, span * span), dtype=np.float32)
            for start in range(0, n, FEW):
                few = slice(start, start + FEW)
                products = (turned[few] * spectra[candidates[few, k]]).sum(axis=1)  # (F,H,W/2+1)
                near[few] = (down @ products @ across.T).real.reshape(-1, span * span)
            place = near.argmax(axis=1)
            value = near[np.arange(n), place]
            better = value > scores[:, k]
            scores[better, k] = value[better]
            found = np.stack(
                [
                    np.full(n, flip[0]),
                    np.full(n, flip[1]),
                    shifts[place // span],
                    shifts[place % span],
                ],
                axis=1,
            )
            transforms[better, k] = found[better]
    return scores, transforms


def waves(places: Ints, frequencies: Ints, size: int) -> NDArray[np.complex64]:
    """Rows of the inverse discrete Fourier transform (P,F)."""
    rows: NDArray[np.complex64] = np.exp(2j * np.pi * places[:, None] * frequencies / size).astype(
        np.complex64
    )
    return rows


def flipped(images: Floats, flip: tuple[bool, bool]) -> Floats:
    """Exchange top and bottom, left and right."""
    return images[:, :, :: -1 if flip[0] else 1, :: -1 if flip[1] else 1]


def moved(image: Floats, transform: NDArray[np.int16]) -> Floats:
    """One image (C,H,W) after a row of `Nearest.transforms`."""
    turned = flipped(image[None], (bool(transform[0]), bool(transform[1])))
    shifted: Floats = np.roll(turned, (int(transform[2]), int(transform[3])), axis=(2, 3))[0]
    return shifted
