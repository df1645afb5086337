"""Distances between rows of features, block by block, without a table of all pairs."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

BLOCK = 1024  # rows of queries and of references at a time


def squared_distances(a: Floats, b: Floats) -> Floats:
    """Compute squared Euclidean distances (N,M) of rows (N,D) and (M,D), by one matrix product.

    Rounding may leave some 1e-13 of the squared norms between equal rows, never less than 0.
    """
    centre = b.mean(axis=0)  # small norms round less
    a, b = a - centre, b - centre
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * (a @ b.T)
    return np.asarray(np.maximum(squares, 0, out=squares))


def nearest_rows(
    queries: Floats, references: Floats, *, keep: int, owners: tuple[Ints, Ints] | None = None
) -> tuple[Ints, Floats]:
    """Find the `keep` nearest references of each query: positions and distances (N,K), by distance.

    Args:
        queries: features (N,D).
        references: features (M,D).
        keep: how many, at most M.
        owners: numbers (N,) and (M,); pairs of equal ones do not count. Their distance is infinite.
    """
    keep = min(keep, len(references))
    rows = np.empty((len(queries), keep), dtype=np.intp)
    distances = np.empty((len(queries), keep))
    for top in range(0, len(queries), BLOCK):
        block = slice(top, top + BLOCK)
        n = len(queries[block])
        best = np.full((n, 0), np.inf)
        places = np.empty((n, 0), dtype=np.intp)
        for left in range(0, len(references), BLOCK):
            others = slice(left, left + BLOCK)
            here = squared_distances(queries[block], references[others])
            if owners is not None:
                here[owners[0][block, None] == owners[1][others]] = np.inf
            best = np.concatenate([best, here], axis=1)
            numbers = np.broadcast_to(np.arange(left, left + here.shape[1]), here.shape)
            places = np.concatenate([places, numbers], axis=1)
            if best.shape[1] > keep:
                chosen = np.argpartition(best, keep - 1, axis=1)[:, :keep]
                best, places = (np.take_along_axis(x, chosen, axis=1) for x in (best, places))
        # Computed again without the product's rounding, which would separate equal rows.
        exact = np.linalg.norm(queries[block, None] - references[places], axis=2)
        exact[~np.isfinite(best)] = np.inf
        order = np.argsort(exact, axis=1, kind="stable")
        rows[block], distances[block] = (
            np.take_along_axis(x, order, axis=1) for x in (places, exact)
        )
    return rows, distances
