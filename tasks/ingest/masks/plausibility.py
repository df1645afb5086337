"""Check whether a mask can be a tumour's outline in an image; only gross errors are found.

Three questions, each with a code. Does it lie in the head (`mask-in-air`)? Is it smaller than a
head, a brain or a tissue (`mask-of-head`)? Does its outline follow anything (`mask-ignores-image`)?
The limits are far from the values of true glioma masks; docs/ingest.md gives both, as measured by
`benchmarks/mask_checks.py`.
"""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.core.volume import Volume

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
OutlineVisibility = Literal["clear", "faint", "unseen", "elsewhere"]

SMALLEST_WIDTH = 32  # voxels in plane: a smaller image shows no head that can be measured
COARSE = 64  # voxels along an axis of the grid on which the head is found
AIR = 0.1  # of the way from the background to the brightest tissue
BACKGROUND = 0.2  # share of voxels of one value that makes it the background
MOST_AIR = 0.5  # share of a mask
MOST_HEAD = 0.35  # share of the head that a tumour may fill
TISSUE_SHARE, TISSUE_SPAN, TISSUE_MIRROR = 0.12, 0.6, 0.5  # a mask above all three is a tissue
BAND_MM = 3.6  # distance of the two voxels, inside and outside, that are compared
PAIRS = 600  # of such voxels that are compared
FEWEST_PAIRS, FEWEST_PLACES = 12, 8  # of pairs and of displaced outlines, to judge an outline
FAINTEST = 0.2  # contrast across the outline, in standard deviations
SMALLEST_STEP = 0.02  # across the outline, of the range of the head's values
BEST_PLACES = 0.9  # share of displaced outlines that a true one beats
DISPLACED_CONTRAST = 0.6  # across a displaced outline, at which a mask may lie elsewhere
DISPLACED_FACTOR = 3.0  # the same as a multiple of the contrast across the mask's own outline
CLEAR, MARGIN = 0.4, 1.5  # contrast that confirms a placement, and as a multiple of the next best
DISTANCES = (2.5, 4.0, 6.0, 8.5)  # of displaced outlines, in bands
DIRECTIONS = 12


@dataclass(frozen=True)
class Head:
    """The voxels that are tissue or surrounded by tissue, on a coarse grid.

    `inside` (I,J,K); `steps` from one coarse voxel to the next in voxels of the image; `range` of
    the image's values inside, without the lowest and highest fiftieth.
    """

    inside: Bools
    steps: tuple[int, int, int]
    range: float

    def coarse_index(self, at: Indices) -> tuple[Indices, ...]:
        """Return the indices into `inside` of voxels (...,3) of the image."""
        nearest = np.minimum(at // self.steps, np.array(self.inside.shape) - 1)
        return tuple(np.moveaxis(nearest, -1, 0))


@dataclass(frozen=True)
class Outline:
    """A mask's voxels in an image whose first two axes are the plane of the slices.

    `at` (N,3) voxels of the mask; `part` its bounding box, which begins at `corner`; `shape` of the
    image, `left_right` the axis along which a head is symmetric.
    """

    at: Indices
    part: Bools
    corner: Indices
    shape: Indices
    left_right: int


@dataclass(frozen=True)
class OutlineContrast:
    """The contrast across an outline, and across displaced copies of it.

    `here` is the mean step across the outline, from a voxel inside to one outside a band away, over
    the standard deviation of these steps; `step` the same over the range of the head's values.
    `beaten` is the share of displaced outlines with a lower contrast, `best` the highest contrast
    of them.
    """

    here: float
    step: float
    beaten: float
    best: float


@dataclass(frozen=True)
class CheckedImage:
    """An image on which masks are checked: `data` (I,J,K) with the slices along the last axis.

    `thick` is the axis of the slices in the image; `head` is None if none is found; `band` in
    voxels.
    """

    data: NDArray[np.generic]
    thick: int
    head: Head | None
    band: int

    @classmethod
    def of(cls, image: Volume) -> "CheckedImage":
        """Find the head in an image; an image narrower than `SMALLEST_WIDTH` has none."""
        thick = 2 - int(np.argmax(np.round(image.spacing_mm[::-1], 2)))  # the last of equal ones
        data = np.moveaxis(image.data, thick, 2)
        head = find_head(data) if min(data.shape[:2]) >= SMALLEST_WIDTH else None
        band = int(np.clip(round(BAND_MM / min(image.spacing_mm)), 2, 6))
        return cls(data, thick, head if head is not None and head.inside.any() else None, band)

    def outline(self, mask: NDArray[np.uint8]) -> Outline | None:
        """Return the outline of a mask (I,J,K) in {0,1} of the image; None if the mask is empty."""
        at = mask_voxels(np.moveaxis(mask.view(np.bool_), self.thick, 2))
        if not len(at):
            return None
        corner = at.min(axis=0)
        part = np.zeros(at.max(axis=0) - corner + 1, np.bool_)
        part[tuple((at - corner).T)] = True
        shape = np.array(self.data.shape)
        return Outline(at, part, corner, shape, 2 if self.thick == 0 else 0)


def check_place(mask: NDArray[np.uint8], image: CheckedImage) -> None:
    """Reject a mask outside the head, or as large as the head, the brain or a tissue of it.

    Raises:
        RejectionError: `mask-in-air`, `mask-of-head`.
    """
    outline = image.outline(mask)
    if outline is not None and image.head is not None:
        check_outline(outline, image.head)


def judge_outline(mask: NDArray[np.uint8], image: CheckedImage) -> OutlineVisibility | None:
    """Return how clearly an image shows a mask's outline; None if it cannot be judged."""
    outline = image.outline(mask)
    if outline is None or image.head is None:
        return None
    contrast = outline_contrast(outline, image.data, image.head, image.band)
    if contrast is None:
        return None
    if contrast.best >= max(DISPLACED_CONTRAST, DISPLACED_FACTOR * contrast.here):
        return "elsewhere"
    stands_out = contrast.beaten >= BEST_PLACES
    if contrast.step < SMALLEST_STEP or not (contrast.here >= FAINTEST or stands_out):
        return "unseen"
    return "clear" if contrast.here >= CLEAR and stands_out else "faint"


def ignores_image(views: Collection[OutlineVisibility]) -> bool:
    """Check whether a mask follows none of its images, or lies elsewhere and is clear in none."""
    if not views or "clear" in views:
        return False
    return "elsewhere" in views or "faint" not in views


def mask_voxels(drawn: Bools) -> Indices:
    """Return the voxels (N,3) of a mask, found in memory order, which takes a tenth of the time."""
    order = np.argsort(drawn.strides)[::-1]
    flat = np.flatnonzero(drawn.transpose(order).reshape(-1))
    at = np.empty((len(flat), 3), np.intp)
    for axis, index in zip(
        order, np.unravel_index(flat, drawn.transpose(order).shape), strict=True
    ):
        at[:, axis] = index
    return at


def find_head(data: NDArray[np.generic]) -> Head:
    """Find the head of an image (I,J,K), with or without its skull.

    Background is the value of a fifth of all voxels, else the first percentile. A voxel is inside
    if its row and its column meet tissue on both sides, so that dark cysts count.
    """
    steps = tuple(max(1, round(length / COARSE)) for length in data.shape)
    coarse = np.asarray(data[tuple(slice(None, None, step) for step in steps)], np.float32)
    levels, counts = np.unique(coarse, return_counts=True)
    most = int(counts.argmax())
    common = counts[most] >= BACKGROUND * coarse.size
    background = float(levels[most] if common else np.percentile(coarse, 1))
    above = np.abs(coarse - background)
    tissue = above > AIR * float(np.percentile(above, 98))
    inside = np.ones(tissue.shape, np.bool_)
    for axis in (0, 1):
        count = np.cumsum(tissue, axis=axis, dtype=np.int16)
        rest = count.take([-1], axis=axis) - count
        inside &= (count >= 2) & (rest >= 2)  # one voxel may be noise
    values = coarse[inside] if inside.any() else coarse
    low, high = np.percentile(values, [2, 98])
    return Head(inside, (steps[0], steps[1], steps[2]), float(high - low) or 1.0)


def check_outline(outline: Outline, head: Head) -> None:
    """Reject by the share of an outline's voxels in air, and by their share of the head."""
    coarse = head.coarse_index(outline.at)
    air = 1 - float(head.inside[coarse].mean())
    if air > MOST_AIR:
        raise RejectionError("mask-in-air", f"{air:.0%} of it outside the head")
    share = min(1.0, len(outline.at) / int(outline.shape.prod()) / float(head.inside.mean()))
    if share > MOST_HEAD:
        raise RejectionError("mask-of-head", f"{share:.0%} of the head")
    if share < TISSUE_SHARE:
        return
    covered = np.zeros(head.inside.shape, np.bool_)
    covered[coarse] = True
    wide = min(span(covered, axis) / span(head.inside, axis) for axis in (0, 1))
    if (
        wide > TISSUE_SPAN
        and mirrored_share(covered, head.inside, outline.left_right) > TISSUE_MIRROR
    ):
        raise RejectionError(
            "mask-of-head", f"{share:.0%} of the head, spread over both sides as a tissue is"
        )


def span(inside: Bools, axis: int) -> float:
    """Return the length along an axis without a hundredth of the voxels at either end."""
    counts = inside.sum(axis=tuple(other for other in range(3) if other != axis))
    total = np.cumsum(counts) / counts.sum()
    low, high = np.searchsorted(total, [0.01, 0.99])
    return float(high - low + 1)


def mirrored_share(covered: Bools, head: Bools, axis: int) -> float:
    """Return the share of a mask that overlaps its mirror image about the middle of the head."""
    counts = head.sum(axis=tuple(other for other in range(3) if other != axis))
    middle = round(2 * float(counts @ np.arange(len(counts)) / counts.sum()))  # index + mirror
    at = list(np.nonzero(covered))
    at[axis] = middle - at[axis]
    there = (at[axis] >= 0) & (at[axis] < covered.shape[axis])
    return float(covered[tuple(index[there] for index in at)].sum() / covered.sum())


def outline_contrast(
    outline: Outline, data: NDArray[np.generic], head: Head, band: int
) -> OutlineContrast | None:
    """Compute the contrast of an outline and of displaced ones; None if too little can be compared.

    The displaced outlines are copies moved by a few bands in the plane, and, for the best of them,
    mirror images, as far as they stay in the head.
    """
    inner, outer = pairs_across(outline.part, band)
    inner, outer = inner + outline.corner, outer + outline.corner
    if len(inner) < FEWEST_PAIRS:
        return None
    moves = np.array(
        [
            (round(np.cos(angle) * length), round(np.sin(angle) * length), 0)
            for length in np.array(DISTANCES) * band
            for angle in 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS + length
        ]
    )
    displaced = [at + moves[:, None] for at in (inner, outer)]  # (moves, pairs, 3)
    mirror_pairs = mirror_images([inner, outer], outline.shape)[1:]
    places = [np.concatenate([a, [m[i] for m in mirror_pairs]]) for i, a in enumerate(displaced)]
    usable = np.ones(len(places[0]), np.bool_)
    for at in places:
        within = ((at >= 0) & (at < outline.shape)).all(axis=2)
        held = head.inside[head.coarse_index(np.clip(at, 0, outline.shape - 1))] & within
        usable &= held.mean(axis=1) > 0.75
    near = usable[: len(moves)]
    if near.sum() < FEWEST_PLACES:
        return None
    mean, deviation = step_across(data, inner, outer, outline.shape)
    here = float(contrast_ratio(mean, deviation))
    others = contrast_ratio(*step_across(data, places[0][usable], places[1][usable], outline.shape))
    beaten = float((others[: near.sum()] < here).mean())
    return OutlineContrast(here, float(mean) / head.range, beaten, float(others.max()))


def pairs_across(part: Bools, band: int) -> tuple[Indices, Indices]:
    """Return voxels inside (N,3) and outside (N,3), a band apart along a row or a column."""
    padded = np.pad(part, ((band, band), (band, band), (0, 0)))
    inner, outer = [], []
    for axis, sign in product((0, 1), (1, -1)):
        step = np.zeros(3, int)
        step[axis] = sign * band
        at = np.argwhere(padded & ~np.roll(padded, -sign * band, axis)) - [band, band, 0]
        inner.append(at)
        outer.append(at + step)
    a, b = np.concatenate(inner), np.concatenate(outer)
    chosen = np.linspace(0, len(a) - 1, min(len(a), PAIRS)).astype(int)
    return a[chosen], b[chosen]


def step_across(
    data: NDArray[np.generic], inner: Indices, outer: Indices, shape: Indices
) -> tuple[Floats, Floats]:
    """Return the absolute mean difference of (...,N,3) and (...,N,3) and its standard deviation.

    A voxel outside the image counts as the one at the image's edge.
    """
    a, b = (
        np.asarray(data[tuple(np.moveaxis(np.clip(at, 0, shape - 1), -1, 0))], np.float64)
        for at in (inner, outer)
    )
    return np.abs((a - b).mean(axis=-1)), (a - b).std(axis=-1)


def contrast_ratio(mean: Floats, deviation: Floats) -> Floats:
    """Divide the mean steps by their standard deviations."""
    return np.asarray(mean / (deviation + 1e-9))


def confirms_placement(mask: NDArray[np.uint8], image: Volume) -> bool:
    """Check whether the image shows that a mask on its grid is neither flipped nor transposed.

    The outline's contrast must be clear, and well above that of all its mirror images.
    """
    checked_image = CheckedImage.of(image)
    outline = checked_image.outline(mask)
    if outline is None or checked_image.head is None:
        return False
    pair = [at + outline.corner for at in pairs_across(outline.part, checked_image.band)]
    here, *others = (
        float(contrast_ratio(*step_across(checked_image.data, inner, outer, outline.shape)))
        for inner, outer in mirror_images(pair, outline.shape)
    )
    return here >= CLEAR and here >= MARGIN * max(others)


def mirror_images(pair: list[Indices], shape: Indices) -> list[list[Indices]]:
    """Mirror voxels (N,3) along all axes; also exchange rows and columns of a square image."""
    turned = []
    for swap in (False, True) if shape[0] == shape[1] else (False,):
        for flips in product((False, True), repeat=3 if shape[2] > 1 else 2):
            some = [at[:, [1, 0, 2]] if swap else at for at in pair]
            for axis, flip in enumerate(flips):
                if flip:
                    some = [np.where(np.arange(3) == axis, shape[axis] - 1 - at, at) for at in some]
            turned.append(some)
    return turned
