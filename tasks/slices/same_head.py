"""The split's last guard: two patients whose volumes show the same head.

One person under two ids stands on two sides of a split sooner or later. Every volume is reduced to
a small pattern of light and dark on the grid of its body's bounding box, in which grey values,
bias fields, voxel sizes and margins of air hardly show. All pairs are compared by one matrix
product for each of the 48 ways to flip and turn a box. The most similar pairs are then registered
(affine), because a crop or a turn moves the bounding box, and compared again. Patterns with hardly
any detail resemble each other by chance and are the same only where they are equal.

docs/slices.md says which copies are found and which are missed, by `benchmarks/same_head.py`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tasks.volumes.resampling import Volume

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]

GRID = 24  # points a side
NEIGHBOURHOOD = 3.0  # standard deviation in points, of what a point is light or dark beside
LARGEST = 3.0  # standard deviations; a tumour or an artefact weighs no more
SAME = 0.75  # correlation from which two patterns are one head's as they are
SAME_REGISTERED = 0.85  # and from which after a registration, which makes strangers alike too
SAME_PLAIN = 0.97  # without registration, of patterns with hardly any detail, such as test objects
DETAIL = 600.0  # waves; 80 phantom patients have 622 to 1680, glioma patients 877 and more
REGISTERED = 2  # partners of each volume that are registered, the likeliest
LIKELY = 0.25  # correlation below which a registration is not worth its time
BLURS = (2.0, 1.0, 0.5)  # points; the registration goes from coarse to fine
STEPS = 12  # at each blur
LEAST_OVERLAP = 0.4  # of the pattern that the other one must cover
SCALES = (0.4, 2.5)  # of the volume, by a registration that is believed
FEWEST_SLICES = 3  # fewer make no head
TURNS = tuple(product(permutations(range(3)), product((1, -1), repeat=3)))


@dataclass(frozen=True)
class Pattern:
    """Light and dark of one volume: `values` (G,G,G) of norm 1, 0 outside; `inside` (G,G,G)."""

    values: Floats
    inside: Bools

    @property
    def detail(self) -> float:
        """How many waves share the pattern's power: the participation ratio of its spectrum."""
        power = np.abs(np.fft.fftn(self.values)) ** 2
        return float(power.sum() ** 2 / (power**2).sum())


@dataclass(frozen=True)
class SameHead:
    """Two volumes, by their places in the list, of one head; `correlation` of their patterns."""

    first: int
    second: int
    correlation: float


def pattern(volume: Volume, body: Bools) -> Pattern | None:
    """Reduce a volume (X,Y,Z) with its body (X,Y,Z) to its pattern; None where it has none.

    Each point is compared with its neighbourhood (Gaussian mean and standard deviation inside the
    body), which takes brightness, contrast and slow bias fields out.
    """
    spans = [np.flatnonzero(body.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    if min(map(len, spans)) == 0 or len(spans[2]) < FEWEST_SLICES:
        return None
    low = np.array([span[0] - 0.5 for span in spans])
    step = np.array([(span[-1] - span[0] + 1) / GRID for span in spans])
    box = tuple(slice(max(0, span[0] - 2), span[-1] + 3) for span in spans)
    start = low + step / 2 - [part.start for part in box]
    grey = sampled(volume[box], start, step)
    inside = sampled(body[box].astype(np.float32), start, step) > 0.5
    inside = ndimage.binary_erosion(inside)  # the rim is the mask's, not the head's
    if inside.sum() < GRID**2:
        return None
    darkest, lightest = np.percentile(grey[inside], [1, 99])
    if not lightest > darkest:
        return None
    values = contrast(np.clip(grey, darkest, lightest), inside)
    return Pattern((values / np.linalg.norm(values)).astype(np.float32), inside)


def sampled(volume: Volume, start: Doubles, step: Doubles) -> Floats:
    """Sample a volume on the grid, smoothed against aliasing."""
    smooth = ndimage.gaussian_filter(volume, np.maximum(0, (step - 1) / 2), mode="nearest")
    found: Floats = ndimage.affine_transform(
        smooth, step, start, output_shape=(GRID,) * 3, order=1, mode="nearest"
    )
    return found


def contrast(grey: Floats, inside: Bools) -> Floats:
    """How much lighter each point is than its neighbourhood, in its standard deviations."""
    weight = inside.astype(np.float32)
    covered = blurred(weight, NEIGHBOURHOOD) + 1e-3
    difference = (grey - blurred(grey * weight, NEIGHBOURHOOD) / covered) * weight
    variance = blurred(difference**2, NEIGHBOURHOOD) / covered
    floor = 1e-4 * float(variance.max()) + 1e-12
    values = np.clip(difference / np.sqrt(variance + floor), -LARGEST, LARGEST) * weight
    values[inside] -= values[inside].mean()
    return np.asarray(values, np.float32)


def blurred(field: Floats, sigma: float) -> Floats:
    """Blur a field on the grid; beyond its border is nothing."""
    found: Floats = ndimage.gaussian_filter(field, sigma, mode="constant")
    return found


def same_heads(patterns: Sequence[Pattern], owners: Sequence[str]) -> list[SameHead]:
    """Find pairs of volumes of different owners that show the same head, the surest first.

    Args:
        patterns: one a volume.
        owners: the patient of each volume; volumes of one patient are not compared.
    """
    if len(set(owners)) < 2:
        return []
    return matches(patterns, owners, *best_turns(patterns, patterns))


def matches(
    patterns: Sequence[Pattern],
    owners: Sequence[str],
    correlation: Doubles,
    turn: NDArray[np.intp],
) -> list[SameHead]:
    """Tell which pairs are one head's from their correlations (n,n) in their best turns."""
    names = np.array(owners)
    apart = names[:, None] != names[None]
    details = np.array([one.detail for one in patterns])
    plain = np.maximum(details[:, None], details[None]) < DETAIL
    least = np.where(plain, SAME_PLAIN, SAME)
    found: dict[tuple[int, int], float] = {}
    for first, second in np.argwhere(np.triu(apart, 1) & (correlation >= least)):
        found[int(first), int(second)] = float(correlation[first, second])
    for first, second in likely_pairs(correlation, apart):
        if (first, second) in found or plain[first, second]:
            continue
        turned = oriented(patterns[second], TURNS[turn[first, second]])
        registered = registered_correlation(patterns[first], turned)
        if registered >= SAME_REGISTERED:
            found[first, second] = registered
    pairs = [SameHead(*pair, round(value, 3)) for pair, value in found.items()]
    return sorted(pairs, key=lambda pair: (-pair.correlation, pair.first, pair.second))


def best_turns(
    fixed: Sequence[Pattern], moving: Sequence[Pattern]
) -> tuple[Doubles, NDArray[np.intp]]:
    """The correlation (n,m) of each pair in its best of 48 turns of the second, and which one."""
    rows = np.stack([one.values.ravel() for one in fixed])  # (n, G^3)
    shape = (len(fixed), len(moving))
    best, turn = np.full(shape, -1.0), np.zeros(shape, np.intp)
    for number, way in enumerate(TURNS):
        turned = np.stack([oriented(one, way).values.ravel() for one in moving])
        correlation = rows @ turned.T
        better = correlation > best + 1e-6  # on a tie, the earlier turn
        best[better], turn[better] = correlation[better], number
    return best, turn


def oriented(one: Pattern, way: tuple[tuple[int, ...], tuple[int, ...]]) -> Pattern:
    """Permute and flip the axes of a pattern."""
    axes, signs = way
    flips = tuple(slice(None, None, sign) for sign in signs)
    return Pattern(one.values.transpose(axes)[flips], one.inside.transpose(axes)[flips])


def likely_pairs(correlation: Doubles, apart: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Yield the pairs worth a registration: each volume's likeliest partners of other patients.

    Some heads resemble all others; what counts is how far a pair lies above both's means.
    """
    valid = np.where(apart, correlation, np.nan)
    means = np.nanmean(valid, axis=1)
    above = np.where(apart, correlation - means[:, None] - means[None], -np.inf)
    pairs = set()
    for first, row in enumerate(above):
        for second in np.argsort(-row, kind="stable")[:REGISTERED]:
            if np.isfinite(row[second]) and correlation[first, second] >= LIKELY:
                pairs.add((min(first, int(second)), max(first, int(second))))
    yield from sorted(pairs)


def registered_correlation(fixed: Pattern, moving: Pattern) -> float:
    """The correlation of two patterns after an affine registration; -1 where there is none.

    Least squares by Gauss and Newton on the patterns themselves (Lucas and Kanade 1981), the
    moving one scaled to the fixed one at each step.
    """
    centre = (GRID - 1) / 2
    points: Doubles = np.argwhere(fixed.inside).T.astype(np.float64) - centre  # (3, n)
    affine: Doubles = np.hstack([np.eye(3), np.zeros((3, 1))])
    weight: Floats = moving.inside.astype(np.float32)
    for blur in BLURS:
        goal = blurred(fixed.values, blur)[fixed.inside]
        source = blurred(moving.values, blur)
        slopes: list[Floats] = list(np.gradient(source))
        for _ in range(STEPS):
            covered = warped(weight, affine, points) > 0.5
            if covered.mean() < LEAST_OVERLAP:
                return -1.0
            there = warped(source, affine, points)[covered]
            gain = max(float(goal[covered] @ there / (there @ there + 1e-12)), 0.0) or 1.0
            pull = [warped(slope, affine, points)[covered] for slope in slopes]
            columns = [pull[i] * points[j][covered] / centre for i in range(3) for j in range(3)]
            jacobian = gain * np.stack([*columns, *pull], axis=1)  # (n, 12)
            normal = jacobian.T @ jacobian
            normal += 1e-3 * np.trace(normal) / 12 * np.eye(12)
            change = np.linalg.solve(normal, jacobian.T @ (goal[covered] - gain * there))
            affine[:, :3] += change[:9].reshape(3, 3) / centre
            affine[:, 3] += change[9:]
            if np.abs(change).max() < 0.02:
                break
    covered = warped(weight, affine, points) > 0.5
    scale = abs(float(np.linalg.det(affine[:, :3])))
    if covered.mean() < LEAST_OVERLAP or not SCALES[0] < scale < SCALES[1]:
        return -1.0
    sides = (fixed.values[fixed.inside][covered], warped(moving.values, affine, points)[covered])
    return float(np.corrcoef(*sides)[0, 1])


def warped(field: Floats, affine: Doubles, points: Doubles) -> Doubles:
    """A field of the grid at the images of `points` (3,n), which count from the grid's middle."""
    places = affine[:, :3] @ points + affine[:, 3:] + (GRID - 1) / 2
    found: Doubles = ndimage.map_coordinates(field, places, order=1, mode="constant")
    return found
