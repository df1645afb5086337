"""Find the most similar slice of a set by SSIM, under flips and shifts.

Every pair is first compared unshifted, as it is and mirrored, by the approximate SSIM of few
windows (`approximate_ssim`). The best references of each query, and those that correlate best with
it (`ncc_search`), are then shifted and compared by more windows (`shifted_ssim`): at every third
shift, then at the shifts around the `CLOSE` best pairs. The `EXACT` best of these are compared
exactly. A correlation finds shifted copies at once, but two slices seldom have their highest SSIM
at the shift at which they correlate best.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tasks.measures.blas_threads import single_threaded_blas
from tasks.measures.similarity.approximate_ssim import Grid, best_pairs
from tasks.measures.similarity.image_transforms import apply_flip
from tasks.measures.similarity.ncc_search import Nearest, Owners
from tasks.measures.similarity.shifted_ssim import (
    AT_ONCE,
    STRIDE,
    Flip,
    Images,
    References,
    Shift,
    approximate_windows,
    enclosing_box,
    exact_ssim,
    to_unit_range,
)
from tasks.measures.similarity.ssim import RADIUS

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Ints = NDArray[np.intp]

CHUNK = 2048  # queries at a time; it bounds the memory
FEW = Grid(stride=8, degree=3)  # for all pairs
LIKELY = 16  # references with the highest unshifted SSIM that are shifted, per query
CORRELATED = 3  # references with the highest correlation that are shifted, per query
CLOSE = 8  # pairs at a shift around which neighbouring shifts are tried
EXACT = 4  # pairs at a shift that are compared exactly
MIRRORED: tuple[Flip, ...] = ((False, False), (False, True))


@dataclass(frozen=True)
class NearestSsim:
    """The most similar reference of each of N queries.

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
    keep: int = LIKELY,
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
    with torch.inference_mode(), single_threaded_blas(workers) as pool:
        prepared = References.of(references, reference_bodies, pool.map)
        for start in range(0, len(queries), CHUNK):
            rows = slice(start, start + CHUNK)
            chunk_owners = None if owners is None else (owners[0][rows], owners[1])
            likely = [
                best_pairs(
                    (apply_flip(queries[rows], flip), bodies[rows, :, :: -1 if flip[1] else 1]),
                    (references, reference_bodies),
                    keep=keep, owners=chunk_owners, grid=replace(FEW, device=device), pool=pool,
                )
                for flip in MIRRORED
            ]  # fmt: skip
            places, flips = choose_candidates(correlated, rows, likely, keep)
            allowed = np.ones(places.shape, dtype=bool)
            if chunk_owners is not None:
                allowed = chunk_owners[0][:, None] != chunk_owners[1][places]
            scores, shifts = refine_shifts(
                (queries[rows], bodies[rows]), prepared, (places, flips), allowed,
                max_shift=max_shift, map_=pool.map,
            )  # fmt: skip
            best = scores.argmax(axis=1)
            each = np.arange(len(best))
            transforms = np.concatenate([flips, shifts], axis=2).astype(np.int16)
            parts.append((places[each, best], scores[each, best], transforms[each, best]))
    return NearestSsim(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def choose_candidates(
    correlated: Nearest, rows: slice, likely: list[tuple[Ints, Floats]], keep: int
) -> tuple[Ints, Bools]:
    """Return positions (N,K) and flips (N,K,2): best correlated first, then by highest SSIM."""
    which = np.repeat(np.arange(len(MIRRORED)), [places.shape[1] for places, _ in likely])
    values = np.concatenate([values for _, values in likely], axis=1)
    order = np.argsort(-values, axis=1, kind="stable")[:, :keep]
    similar = np.take_along_axis(np.concatenate([p for p, _ in likely], axis=1), order, axis=1)
    turned = correlated.transforms[rows, :CORRELATED, :2].astype(bool)
    return (
        np.concatenate([correlated.rows[rows, :CORRELATED], similar], axis=1),
        np.concatenate([turned, np.array(MIRRORED)[which[order]]], axis=1),
    )


def refine_shifts(
    queries: tuple[Floats, Bools],
    references: References,
    pairs: tuple[Ints, Bools],
    allowed: Bools,
    *,
    max_shift: int,
    map_: Callable[..., Any],
) -> tuple[Floats, NDArray[np.int16]]:
    """Compute the exact SSIM (N,K) at the best shifts (N,K,2); -1 for pairs that were dropped.

    `queries` are images and bodies, `pairs` positions of references (N,K) and the flips (N,K,2) of
    the queries. Pairs that are not `allowed` (N,K) are left out.
    """
    (images, bodies), (rows, flips) = queries, pairs
    scores = np.full(rows.shape, -1, dtype=np.float32)
    shifts = np.zeros((*rows.shape, 2), dtype=np.int16)

    @torch.inference_mode()
    def work(start: int) -> None:
        batch = slice(start, start + AT_ONCE)
        kinds: set[Flip] = {(bool(a), bool(b)) for a, b in flips[batch].reshape(-1, 2)}
        batch_images = Images(images[batch], bodies[batch], max_shift, kinds)
        for row in range(start, min(start + AT_ONCE, len(images))):
            candidates = [
                (int(r), (bool(a), bool(b)))
                for r, (a, b) in zip(rows[row], flips[row], strict=True)
            ]
            places = [place for place in np.flatnonzero(allowed[row]).tolist()
                      if candidates.index(candidates[place]) == place]  # fmt: skip
            query = Query(batch_images, row - start, references, candidates, max_shift)
            for place, shift, value in query.best(places):
                if value > scores[row, place]:
                    scores[row, place], shifts[row, place] = value, shift

    list(map_(work, range(0, len(images), AT_ONCE)))
    return scores, shifts


class Query:
    """One image and the references that may be nearest to it.

    Args:
        images: images with their windows.
        row: position of the image among them.
        references: the whole reference set.
        pairs: position of the reference and flip of the image, of each pair.
        reach: largest shift, in pixels.
    """

    def __init__(
        self,
        images: Images,
        row: int,
        references: References,
        pairs: list[tuple[int, Flip]],
        reach: int,
    ) -> None:
        self.images, self.row, self.references, self.reach = images, row, references, reach
        self.numbers = np.array([number for number, _ in pairs], dtype=np.intp)
        self.flips = [flip for _, flip in pairs]
        query_boxes = np.stack([images.boxes[flip][row] for flip in set(self.flips)])
        shape = references.bodies.shape[1:]
        boxes = np.concatenate([query_boxes, references.boxes[self.numbers]])
        # The air around all bodies, at every shift of the query, is left out.
        self.pixels = enclosing_box(boxes, RADIUS + reach, shape)
        top, bottom, left, right = enclosing_box(boxes, reach, shape)
        height, width = references.windows.shape[2:]
        self.box = (*windows_between(top, bottom, height), *windows_between(left, right, width))
        t, b, x, y = self.box
        self.reference_windows = references.windows[:, :, t:b, x:y]

    def best(self, places: list[int]) -> list[tuple[int, Shift, float]]:
        """Return places, shifts and exact SSIM of the best pairs among those at `places`."""
        steps = every_third(self.reach)
        thirds = [(i, j) for i in steps for j in steps]
        rough: dict[tuple[int, Shift], float] = {}
        for flip in set(self.flips):
            flipped = [place for place in places if self.flips[place] == flip]
            for place, values in zip(flipped, self.near(flip, flipped, thirds), strict=True):
                rough |= {(place, s): value for s, value in zip(thirds, values, strict=True)}
        tried: dict[int, dict[Shift, None]] = {}
        for place, (i, j) in sorted(rough, key=lambda key: -rough[key])[:CLOSE]:
            near = product(neighbouring_shifts(i, self.reach), neighbouring_shifts(j, self.reach))
            tried.setdefault(place, {}).update(dict.fromkeys(near))
        fine: dict[tuple[int, Shift], float] = {}
        for place, about in tried.items():
            (values,) = self.near(self.flips[place], [place], list(about))
            fine |= {(place, s): value for s, value in zip(about, values, strict=True)}
        last: dict[int, list[Shift]] = {}
        for place, shift in sorted(fine, key=lambda key: -fine[key])[:EXACT]:
            last.setdefault(place, []).append(shift)
        return [match for place, shifts in last.items() for match in self.exact(place, shifts)]

    def near(self, flip: Flip, places: list[int], shifts: list[Shift]) -> list[list[float]]:
        """Approximate the SSIM of the pairs at `places`, at each of `shifts`."""
        if not places:
            return []
        windows = self.images.at(self.row, flip, shifts, self.box)
        numbers = torch.from_numpy(self.numbers[places])
        ssim: list[list[float]] = approximate_windows(
            windows[None], self.reference_windows[numbers][:, None]
        ).tolist()
        return ssim

    def exact(self, place: int, shifts: list[Shift]) -> list[tuple[int, Shift, float]]:
        """Compute the exact SSIM of one pair at each of `shifts`: place, shift, SSIM."""
        number, (t, b, x, y) = self.numbers[place], self.pixels
        maps = self.images.whole(self.row, self.flips[place], shifts, self.pixels)
        image = to_unit_range(self.references.images[number : number + 1, :, t:b, x:y])[0]
        values = exact_ssim(maps, image, self.references.bodies[number, t:b, x:y])
        return [(place, shift, float(v)) for shift, v in zip(shifts, values, strict=True)]


def windows_between(first: int, last: int, size: int) -> tuple[int, int]:
    """Return the range of windows, of `size`, whose centres lie in the pixels `first` to `last`."""
    start = max(-(-(first - RADIUS) // STRIDE), 0)
    stop = min((last - 1 - RADIUS) // STRIDE + 1, size)
    return (start, stop) if start < stop else (0, size)


def every_third(reach: int) -> list[int]:
    """Return every third shift up to `reach`, so that each shift is at most one pixel from one."""
    return sorted({*range(-reach + reach % 3, reach + 1, 3), *((-reach, reach) if reach % 3 == 2
                                                             else ())})  # fmt: skip


def neighbouring_shifts(shift: int, reach: int) -> range:
    """Return a shift and the two next to it, within `reach`."""
    return range(max(shift - 1, -reach), min(shift + 1, reach) + 1)
