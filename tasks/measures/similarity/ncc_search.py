"""Find the most similar slice of a set, under flips and shifts, by normalised cross-correlation.

After a light blur (sigma 1.5 pixels), copies with added noise, a changed gain or a soft blur still
correlate with their originals. The search is coarse to fine: on a grid of about 32 x 32 every flip
and shift of all queries is compared with all references by matrix products, then the best few
references of each query are correlated at full size (Lewis 1995, "Fast normalized
cross-correlation").

On the coarse grid an image is the sum of four parts, each even or odd vertically and horizontally.
Parts of different parity are orthogonal, and a flip only changes the signs of the odd parts. So
products of the parts, a quarter of the size each, give the correlations under all four flips.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft

from tasks.measures.blas_threads import single_threaded_blas
from tasks.measures.similarity.image_transforms import (
    apply_flip,
    blur_and_normalise,
    coarse_factor,
    downsample,
)

Floats = NDArray[np.float32]
Ints = NDArray[np.intp]
Owners = tuple[Ints, Ints]  # (N,) and (M,): pairs of equal numbers do not count

SPECTRA_AT_ONCE = 32  # that fit into the processor's cache
BLOCK = 2048  # references at a time
# Cycles per pixel up to which spectra are kept; the blur leaves .0002 of the amplitude there.
HIGHEST = 0.4375
UPRIGHT = ((False, False), (False, True))  # unchanged, and left and right exchanged
INVERTED = ((True, False), (True, True))  # upside-down, and turned by 180°


@dataclass(frozen=True)
class Nearest:
    """The nearest references of each query, best first.

    `rows` (N,K) positions in the reference set; `scores` (N,K) normalised cross-correlations in
    [-1, 1]; `upright` and `inverted` (N,) the best scores with the query as it is and
    upside-down; `transforms` (N,K,4) flip of rows, flip of columns, shift of rows and of columns
    (pixels) that bring the query onto the reference.
    """

    rows: Ints
    scores: Floats
    upright: Floats
    inverted: Floats
    transforms: NDArray[np.int16]


@dataclass(frozen=True)
class References:
    """The images with which queries are compared, prepared for the search.

    `parts` (4,M,D) of the coarse images; `spectra` (M,C,F,G) of the fine images, low frequencies
    only.
    """

    parts: torch.Tensor
    spectra: NDArray[np.complex64]


def nearest_by_ncc(
    queries: Floats,
    references: Floats,
    *,
    keep: int = 5,
    max_shift: int = 4,
    owners: Owners | None = None,
    chunk: int = 256,
    workers: int = 1,
    device: str = "cpu",
) -> Nearest:
    """Search `references` (M,C,H,W) for each of `queries` (N,C,H,W).

    Args:
        queries: images in [-1, 1].
        references: images in [-1, 1], of the same size.
        keep: how many references to correlate at full size and to return, at most M.
        max_shift: largest shift in pixels of full size, in each direction.
        owners: numbers (N,) and (M,), of patients for example; pairs of equal ones do not count.
        chunk: how many queries at a time; it bounds the memory.
        workers: threads.
        device: where the matrix products run.

    Raises:
        ValueError: when a query has no allowed reference.
    """
    if not len(references) or (owners is not None and not every_query_has_reference(owners)):
        raise ValueError("every query needs at least one reference that it may be compared with")

    def part(start: int) -> tuple[Ints, Floats, Floats, Floats, NDArray[np.int16]]:
        rows = slice(start, start + chunk)
        chunk_owners = None if owners is None else (owners[0][rows], owners[1])
        return search_chunk(
            blur_and_normalise(queries[rows]), prepared,
            keep=keep, max_shift=max_shift, owners=chunk_owners,
        )  # fmt: skip

    with single_threaded_blas(workers) as pool:
        prepared = prepare_references(references, pool, device)
        parts = list(pool.map(part, range(0, len(queries), chunk)))
    return Nearest(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def every_query_has_reference(owners: Owners) -> bool:
    """Check whether every query has a reference of another owner."""
    query_owners, reference_owners = (set(np.unique(numbers).tolist()) for numbers in owners)
    return len(reference_owners) > 1 or not query_owners & reference_owners


def prepare_references(references: Floats, pool: ThreadPoolExecutor, device: str) -> References:
    """Compute coarse parts and low frequencies of the references, in blocks."""

    def block(start: int) -> tuple[torch.Tensor, NDArray[np.complex64]]:
        fine = blur_and_normalise(references[start : start + chunk])
        return torch.from_numpy(parity_parts(downsample(fine))), low_frequencies(
            fft.rfft2(fine), fine.shape[2]
        )

    chunk = BLOCK // 8
    blocks = list(pool.map(block, range(0, len(references), chunk)))
    parts = torch.cat([parts for parts, _ in blocks], dim=1).to(device)
    return References(parts, np.concatenate([spectra for _, spectra in blocks]))


def low_frequencies(spectra: NDArray[np.complex64], height: int) -> NDArray[np.complex64]:
    """Select the low frequencies of spectra (N,C,H,W/2+1)."""
    width = int(HIGHEST * 2 * (spectra.shape[3] - 1)) + 1
    low: NDArray[np.complex64] = np.take(spectra[..., :width], low_frequency_rows(height), axis=2)
    return low


def low_frequency_rows(height: int) -> Ints:
    """Return the rows of a spectrum that hold low frequencies of either sign."""
    return np.flatnonzero(np.abs(np.fft.fftfreq(height)) <= HIGHEST)


def parity_parts(images: Floats) -> Floats:
    """Split images (N,C,H,W) into four parts (4,N,D): even-even, even-odd, odd-even, odd-odd.

    The first word is the vertical parity, the second the horizontal one. Each part is given by its
    upper left quarter, scaled so that products of parts add up to the product of the images.
    """

    def split(array: Floats, axis: int) -> tuple[Floats, Floats]:
        size = array.shape[axis]
        half = np.arange(-(-size // 2))
        ahead, behind = array.take(half, axis), array.take(size - 1 - half, axis)
        scale = np.full(len(half), np.sqrt(0.5), dtype=np.float32)
        if size % 2:
            scale[-1] = 0.5  # the middle row or column is its own mirror image
        shape = [1] * array.ndim
        shape[axis] = -1
        weight = scale.reshape(shape)
        return (ahead + behind) * weight, (ahead - behind) * weight

    parts = [part for rows in split(images, 2) for part in split(rows, 3)]
    flat: Floats = np.stack([part.reshape(len(images), -1) for part in parts])
    return flat


def search_chunk(
    fine: Floats, references: References, *, keep: int, max_shift: int, owners: Owners | None
) -> tuple[Ints, Floats, Floats, Floats, NDArray[np.int16]]:
    """Compute the fields of `Nearest` for one chunk of queries."""
    keep = min(keep, len(references.spectra))
    coarse = downsample(fine)
    reach = -(-max_shift // coarse_factor(*fine.shape[2:]))
    candidates = best_coarse(coarse, references.parts, keep=keep, reach=reach, owners=owners)
    pools = []
    for flips, (places, allowed) in zip((UPRIGHT, INVERTED), candidates, strict=True):
        scores, transforms = correlate_candidates(
            fine, references.spectra, places, flips=flips, max_shift=max_shift
        )
        pools.append((places, np.where(allowed, scores, -1), transforms))
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


@torch.inference_mode()
def best_coarse(
    coarse: Floats, parts: torch.Tensor, *, keep: int, reach: int, owners: Owners | None
) -> list[tuple[Ints, NDArray[np.bool_]]]:
    """Find the `keep` references (N,K) that correlate best with coarse queries.

    The second array (N,K) says which of them the owners allow. Both are returned for upright and
    for inverted queries. All shifts of up to `reach` coarse pixels are tried.
    """
    shifts = list(product(range(-reach, reach + 1), repeat=2))
    moved = [
        torch.from_numpy(parity_parts(np.roll(coarse, shift, axis=(2, 3)))).to(parts.device)
        for shift in shifts
    ]
    query_owners, reference_owners = (
        (None, None) if owners is None
        else (torch.as_tensor(numbers, device=parts.device) for numbers in owners)
    )  # fmt: skip
    best: list[list[torch.Tensor]] = [[], []]
    places: list[list[torch.Tensor]] = [[], []]
    for start in range(0, parts.shape[1], BLOCK):
        block = parts[:, start : start + BLOCK].transpose(1, 2)
        tables: list[torch.Tensor] = []
        for query in moved:
            ee, eo, oe, oo = torch.bmm(query, block)  # (4,N,B)
            mirrored = (eo + oo).abs_(), (eo - oo).abs_()
            here = (ee + oe).add_(mirrored[0]), (ee - oe).add_(mirrored[1])
            tables = list(map(torch.maximum, tables, here)) if tables else list(here)
        for kind, table in enumerate(tables):
            if query_owners is not None and reference_owners is not None:
                same_owner = query_owners[:, None] == reference_owners[start : start + BLOCK]
                table[same_owner] = -torch.inf
            value, place = table.topk(min(keep, table.shape[1]), dim=1)
            best[kind].append(value)
            places[kind].append(place + start)
    nearest = []
    for values, numbers in zip(best, places, strict=True):
        value, order = torch.cat(values, dim=1).topk(keep, dim=1)
        place = torch.cat(numbers, dim=1).gather(1, order)
        nearest.append((place.cpu().numpy().astype(np.intp), value.isfinite().cpu().numpy()))
    return nearest


def correlate_candidates(
    fine: Floats,
    spectra: NDArray[np.complex64],
    candidates: Ints,
    *,
    flips: tuple[tuple[bool, bool], ...],
    max_shift: int,
) -> tuple[Floats, NDArray[np.int16]]:
    """Compute the best score (N,K) over flips and shifts of each pair, and its transform (N,K,4).

    `spectra` (M,C,F,G) are the references' Fourier transforms, low frequencies only.

    A circular shift changes neither mean nor norm, so one product of spectra gives all shifts at
    once. Images have air at the frame, so only air wraps around. Only shifts of up to `max_shift`
    are transformed back.
    """
    n, keep = candidates.shape
    height, width = fine.shape[2:]
    shifts = np.arange(-max_shift, max_shift + 1)
    span = len(shifts)
    down = inverse_dft_rows(shifts, low_frequency_rows(height), height) / height  # (S,F)
    across = inverse_dft_rows(shifts, np.arange(spectra.shape[3]), width) / width  # (S,G)
    across[:, 1 : (width + 1) // 2] *= 2  # the other half is conjugate
    scores = np.full((n, keep), -np.inf, dtype=np.float32)
    transforms = np.zeros((n, keep, 4), dtype=np.int16)
    for flip in flips:
        flipped = np.conj(low_frequencies(fft.rfft2(apply_flip(fine, flip)), height))
        for k in range(keep):
            scores_at_shifts = np.empty((n, span * span), dtype=np.float32)
            for start in range(0, n, SPECTRA_AT_ONCE):
                rows = slice(start, start + SPECTRA_AT_ONCE)
                products = (flipped[rows] * spectra[candidates[rows, k]]).sum(axis=1)  # (B,F,G)
                scores_at_shifts[rows] = (down @ products @ across.T).real.reshape(-1, span * span)
            place = scores_at_shifts.argmax(axis=1)
            value = scores_at_shifts[np.arange(n), place]
            better = value > scores[:, k]
            scores[better, k] = value[better]
            transform = np.stack(
                [
                    np.full(n, flip[0]),
                    np.full(n, flip[1]),
                    shifts[place // span],
                    shifts[place % span],
                ],
                axis=1,
            )
            transforms[better, k] = transform[better]
    return scores, transforms


def inverse_dft_rows(places: Ints, frequencies: Ints, size: int) -> NDArray[np.complex64]:
    """Return rows (P,F) of the inverse discrete Fourier transform."""
    rows: NDArray[np.complex64] = np.exp(2j * np.pi * places[:, None] * frequencies / size).astype(
        np.complex64
    )
    return rows
