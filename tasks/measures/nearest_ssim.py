"""The most similar slice of a set by SSIM, under flips and shifts.

Every pair is compared nearly and unshifted (`ssim_pairs`), as it is and mirrored, by few windows.
The best few of each query are compared by more windows; the best of these, and those that correlate
best with it (`neighbours`), are moved about: every third shift is looked at, then, of the `CLOSE`
best, those around the best one. The `EXACT` best of these pairs are compared exactly. A correlation
finds shifted copies at once; but the shift at which two slices correlate best is seldom the one at
which their SSIM is highest.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tasks.measures.neighbours import Nearest, Owners, flipped
from tasks.measures.shifted_ssim import AT_ONCE, Candidates, Flip, Pairs, Side
from tasks.measures.ssim_pairs import Grid, best_pairs
from tasks.measures.threads import one_product_each

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Ints = NDArray[np.intp]

CHUNK = 2048  # queries at a time; bounds the memory
LIKELY = 16  # references of a query that are compared by more windows, of the best by few
FEW = Grid(stride=8, degree=3)  # for all pairs
CORRELATED = 3  # of the best correlated references of a query are tried
CLOSE = 4  # of all that were tried, are tried at the shifts around the best one
EXACT = 3  # of all that were tried, are compared exactly
MIRRORED: tuple[Flip, ...] = ((False, False), (False, True))


@dataclass(frozen=True)
class NearestSsim:
    """For each of N queries the most similar reference.

    `rows` (N,) its position; `scores` (N,) the exact SSIM; `transforms` (N,4) as in `Nearest`.
    """

    rows: Ints
    scores: Floats
    transforms: NDArray[np.int16]


def nearest_ssim(
    queries: Floats,
    references: Floats,
    bodies: Bools,
    reference_bodies: Bools,
    *,
    correlated: Nearest,
    keep: int = 8,
    max_shift: int = 4,
    owners: Owners | None = None,
    workers: int = 1,
    device: str = "cpu",
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
        owners: numbers (N,) and (M,), of patients for example; pairs of equal ones do not count.
        workers: threads.
        device: where all pairs are compared.
    """
    parts = []
    with torch.inference_mode(), one_product_each(workers) as pool:
        known = Candidates.of(references, reference_bodies, pool.map)
        for start in range(0, len(queries), CHUNK):
            rows = slice(start, start + CHUNK)
            mine = None if owners is None else (owners[0][rows], owners[1])
            likely = [
                best_pairs(
                    (flipped(queries[rows], flip), bodies[rows, :, :: -1 if flip[1] else 1]),
                    (references, reference_bodies),
                    keep=LIKELY, owners=mine, grid=replace(FEW, device=device), pool=pool,
                )
                for flip in MIRRORED
            ]  # fmt: skip
            places, flips = chosen(correlated, rows, likely)
            allowed = np.ones(places.shape, dtype=bool)
            if mine is not None:
                allowed = mine[0][:, None] != mine[1][places]
            scores, shifts = refine(
                (queries[rows], bodies[rows]), known, (places, flips), allowed,
                keep=keep, ahead=correlated.rows[:, :CORRELATED].shape[1],
                max_shift=max_shift, map_=pool.map,
            )  # fmt: skip
            best = scores.argmax(axis=1)
            each = np.arange(len(best))
            transforms = np.concatenate([flips, shifts], axis=2).astype(np.int16)
            parts.append((places[each, best], scores[each, best], transforms[each, best]))
    return NearestSsim(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def chosen(
    correlated: Nearest, rows: slice, likely: list[tuple[Ints, Floats]]
) -> tuple[Ints, Bools]:
    """Positions (N,K) and flips (N,K,2): the best correlated, then those of the highest SSIM."""
    which = np.repeat(np.arange(len(MIRRORED)), [places.shape[1] for places, _ in likely])
    values = np.concatenate([values for _, values in likely], axis=1)
    order = np.argsort(-values, axis=1, kind="stable")[:, :LIKELY]
    similar = np.take_along_axis(np.concatenate([p for p, _ in likely], axis=1), order, axis=1)
    turned = correlated.transforms[rows, :CORRELATED, :2].astype(bool)
    return (
        np.concatenate([correlated.rows[rows, :CORRELATED], similar], axis=1),
        np.concatenate([turned, np.array(MIRRORED)[which[order]]], axis=1),
    )


def refine(
    queries: tuple[Floats, Bools],
    references: Candidates,
    pairs: tuple[Ints, Bools],
    allowed: Bools,
    *,
    keep: int,
    ahead: int,
    max_shift: int,
    map_: Callable[..., Any],
) -> tuple[Floats, NDArray[np.int16]]:
    """The exact SSIM (N,K) at the best shifts (N,K,2) found; -1 where a pair fell behind.

    `queries` are images and bodies, `pairs` positions of references (N,K) and the flips (N,K,2) of
    the queries. All are compared unshifted; of the `keep` best, and of the `ahead` first ones, each
    third shift; of the `CLOSE` best, those around the best one; then exactly the best `EXACT`.
    Pairs that are not `allowed` (N,K), or stand there twice, are left out.
    """
    (images, bodies), (rows, flips) = queries, pairs
    n, k = rows.shape
    scores = np.full((n, k), -1, dtype=np.float32)
    shifts = np.zeros((n, k, 2), dtype=np.int16)
    middle, thirds = max_shift, every_third(max_shift)

    def work(query: int) -> None:
        own = {kind: side.take(query % AT_ONCE) for kind, side in turned.items()}
        pairs = Pairs(own, references, rows[query], flips[query], max_shift)
        usable = pairs.first() & allowed[query]
        likely = [place for place in range(ahead, k) if usable[place]]
        if len(likely) > keep:
            plain = pairs.ssim([(place, middle, middle) for place in likely])
            likely = [likely[index] for index in np.argsort(-plain, kind="stable")[:keep]]
        tried = [place for place in range(ahead) if usable[place]] + likely
        rough = pairs.best([(place, i, j) for place in tried for i, j in product(thirds, thirds)])
        near = [
            (place, a, b)
            for place, (_, i, j) in sorted(rough.items(), key=highest)[:CLOSE]
            for a, b in product(around(i, max_shift), around(j, max_shift))
        ]
        found = sorted(pairs.best(near).items(), key=highest)[:EXACT]
        for place, (_, i, j) in found:
            shifts[query, place] = max_shift - i, max_shift - j
            scores[query, place] = pairs.ssim([(place, i, j)], stride=1)[0]

    for start in range(0, n, AT_ONCE):
        batch = np.arange(n)[start : start + AT_ONCE]
        few = Side.of(images[batch], bodies[batch])
        kinds: set[Flip] = {(bool(a), bool(b)) for a, b in flips[batch].reshape(-1, 2)}
        turned = {kind: few.flipped(kind).shifted(max_shift) for kind in kinds}
        list(map_(work, batch))
    return scores, shifts


def highest(found: tuple[int, tuple[float, int, int]]) -> float:
    """Sort places by falling SSIM."""
    return -found[1][0]


def every_third(reach: int) -> list[int]:
    """Every third of 2R+1 shifts about the middle one, so that each is at most one from these."""
    return sorted(
        {*range(reach % 3, 2 * reach + 1, 3), *((0, 2 * reach) if reach % 3 == 2 else ())}
    )


def around(place: int, reach: int) -> range:
    """A shift and the two beside it."""
    return range(max(place - 1, 0), min(place + 2, 2 * reach + 1))
