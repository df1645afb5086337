"""Find the most similar tumour of a set for each query's tumour.

A generator may repeat a training patient's tumour inside a new brain, which a comparison of whole
slices misses. The pixels under the query's mask and just around it are correlated with every other
tumour, under mirroring and shifts: normalised correlation under a mask (Padfield 2012, IEEE TIP
21(5), equation 4), where the sums under the mask are three matrix products. The blur is lighter
than for whole slices, because two bright blobs differ in their detail only.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, center_of_mass, gaussian_filter

from tasks.measures.blas_threads import single_threaded_blas

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Ints = NDArray[np.intp]
Masks = NDArray[np.uint8]
Owners = tuple[Ints, Ints]  # (N,) and (M,): pairs of equal numbers do not count

SHARE = 7 / 16  # of the image's width: a large tumour with its oedema
SIDE = 64  # pixels of the grid that tumours are compared on; larger images are shrunk
BLUR, MARGIN = 0.7, 2  # pixels of that grid
BLOCK = 256  # tumours of queries and of references at a time
LEAST = 20  # pixels under a mask, at least, for a correlation


@dataclass(frozen=True)
class NearestPatch:
    """The most similar tumour of each of N queries; NaN and -1 where there is none.

    `scores` (N,) normalised cross-correlations; `rows` (N,) positions in the reference set.
    """

    scores: Floats
    rows: Ints


def nearest_patch(
    queries: Floats,
    masks: Masks,
    references: Floats,
    reference_masks: Masks,
    *,
    max_shift: int,
    owners: Owners | None = None,
    workers: int = 1,
) -> NearestPatch:
    """Search the tumours of `references` (M,C,H,W) for that of each of `queries` (N,C,H,W).

    Args:
        queries: images in [-1, 1]; channels are averaged.
        masks: (N,H,W), above 0 where the tumour is.
        references: images of the same size.
        reference_masks: (M,H,W).
        max_shift: largest shift in pixels, in each direction, from one centre to the other.
        owners: numbers (N,) and (M,), of patients for example; pairs of equal ones do not count.
        workers: threads.
    """
    scores = np.full(len(queries), np.nan, dtype=np.float32)
    rows = np.full(len(queries), -1, dtype=np.intp)
    with_tumor, references_with_tumor = (
        np.flatnonzero(m.any(axis=(1, 2))) for m in (masks, reference_masks)
    )
    if not len(with_tumor) or not len(references_with_tumor):
        return NearestPatch(scores, rows)
    reach = reach_on_grid(max_shift, queries.shape[2:])
    parts = [with_tumor[start : start + BLOCK] for start in range(0, len(with_tumor), BLOCK)]

    def block(part: Ints, patches: Floats, squares: Floats, columns: Ints) -> tuple[Floats, Ints]:
        best = best_correlations(
            shrink_to_grid(queries[part], masks[part]), patches, squares, reach
        )
        if owners is not None:
            best[owners[0][part, None] == owners[1][columns]] = -np.inf
        place = best.argmax(axis=1)
        return np.take_along_axis(best, place[:, None], axis=1)[:, 0], columns[place]

    highest = np.full(len(with_tumor), -np.inf, dtype=np.float32)
    places = np.full(len(with_tumor), -1, dtype=np.intp)
    with single_threaded_blas(workers) as pool:
        for start in range(0, len(references_with_tumor), BLOCK):
            columns = references_with_tumor[start : start + BLOCK]
            images, marked = shrink_to_grid(references[columns], reference_masks[columns])
            patches = next(shifted_patches(images, marked, max_shift=0))[0]
            squares = patches**2
            results = pool.map(
                lambda part, k=patches, s=squares, c=columns: block(part, k, s, c), parts
            )
            values, numbers = (np.concatenate(column) for column in zip(*results, strict=True))
            better = values > highest
            highest[better], places[better] = values[better], numbers[better]
    usable = np.isfinite(highest)
    scores[with_tumor[usable]], rows[with_tumor[usable]] = highest[usable], places[usable]
    return NearestPatch(scores, rows)


def reach_on_grid(max_shift: int, shape: tuple[int, ...]) -> int:
    """Return the largest shift on the smaller grid, rounded up so that no shift is lost."""
    return -(-max_shift // max(min(shape) // SIDE, 1))


def best_correlations(
    images_and_masks: tuple[Floats, Bools], patches: Floats, squares: Floats, reach: int
) -> Floats:
    """Compute the best correlation (N,M) of each query's tumour over mirroring and shifts."""
    best = np.full((len(images_and_masks[0]), len(patches)), -np.inf, dtype=np.float32)
    for patch, weight in shifted_patches(*images_and_masks, max_shift=reach):
        mean = (weight * patch).sum(axis=1, keepdims=True)  # (N,1)
        spread = (weight * patch**2).sum(axis=1, keepdims=True) - mean**2
        means = weight @ patches.T  # (N,M)
        spreads = weight @ squares.T
        spreads -= means**2
        here = (weight * patch) @ patches.T
        here -= means * mean
        here /= np.sqrt(np.maximum(spread, 1e-5))
        here /= np.sqrt(np.maximum(spreads, 1e-5, out=spreads), out=spreads)
        here[~weight.any(axis=1)] = -np.inf
        np.maximum(best, here, out=best)
    return best


def shifted_patches(
    images: Floats, marked: Bools, *, max_shift: int
) -> Iterator[tuple[Floats, Floats]]:
    """Yield patches and weights (N, side side) around the masks' centres.

    There is one pair for each shift, and one mirrored. `images` are grey and `marked` masks, both
    (N,H,W). The weights are equal under the mask and its margin, and sum to 1; they are all 0 where
    the mask is too small.
    """
    side = max(int(images.shape[-1] * SHARE), 8)
    edge = side // 2 + max_shift + 1
    grey = gaussian_filter(images, BLUR, axes=(1, 2))
    wide = binary_dilation(marked, iterations=MARGIN, axes=(1, 2))
    views = [
        np.lib.stride_tricks.sliding_window_view(
            np.pad(table, ((0, 0), (edge, edge), (edge, edge))), (side, side), axis=(1, 2)
        )
        for table in (grey, wide)
    ]
    corners = np.array([center_of_mass(mask) for mask in marked]).round().astype(int)
    top, left = (corners + edge - side // 2).T
    each, shifts = np.arange(len(images)), range(-max_shift, max_shift + 1)
    for down, across in product(shifts, shifts):
        patch, under = (view[each, top + down, left + across] for view in views)  # (N,side,side)
        count = under.sum(axis=(1, 2), keepdims=True)
        weight = (under / np.maximum(count, 1) * (count >= LEAST)).astype(np.float32)
        for step in (1, -1):
            rows = (x[:, :, ::step].reshape(len(images), -1) for x in (patch, weight))
            yield next(rows), next(rows)


def shrink_to_grid(images: Floats, masks: Masks) -> tuple[Floats, Bools]:
    """Shrink mean channel (0 is air) and mask (N,H,W) to a grid of 64 to 127 pixels per side."""
    n, _, height, width = images.shape
    factor = max(min(height, width) // SIDE, 1)
    rows, columns = height // factor, width // factor
    blocks = n, rows, factor, columns, factor
    cut = slice(rows * factor), slice(columns * factor)
    grey: Floats = (images.mean(axis=1) + 1)[:, *cut].reshape(blocks).mean(axis=(2, 4))
    marked = (masks > 0)[:, *cut].reshape(blocks).any(axis=(2, 4))
    return grey, np.asarray(marked)
