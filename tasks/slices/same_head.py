"""Find two patients whose volumes show the same head: the last guard of the patient split.

A patient with two ids sooner or later ends up in two partitions. Every volume is reduced to a
small pattern of light and dark on the grid of its body's bounding box, which grey values, bias
fields, voxel sizes and margins of air hardly affect. All pairs are compared by one matrix product
for each of the 48 flips and axis permutations of a box. The most similar pairs are then registered
(affine), because a crop or a rotation moves the bounding box, and compared again. Patterns with
hardly any detail resemble each other by chance and count as the same only where they are equal.

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

GRID = 24  # points along each edge
NEIGHBOURHOOD = (
    3.0  # standard deviation in points of the neighbourhood that a point is compared with
)
MAX_CONTRAST = 3.0  # standard deviations; a tumour or an artefact weighs no more
MIN_CORRELATION = 0.75  # of two patterns of one head, without registration
MIN_CORRELATION_REGISTERED = (
    0.85  # and from which after a registration, which makes different patients alike too
)
MIN_CORRELATION_PLAIN = (
    0.97  # without registration, of patterns with hardly any detail, such as test objects
)
MIN_DETAIL = 600.0  # waves; 80 phantom patients have 622 to 1680, glioma patients 877 and more
PARTNERS_REGISTERED = 2  # partners of each volume that are registered, the likeliest
MIN_CORRELATION_TO_REGISTER = 0.25  # correlation below which a registration is not worth its time
BLURS = (2.0, 1.0, 0.5)  # points; the registration goes from coarse to fine
STEPS_PER_BLUR = 12  # at each blur
MIN_OVERLAP = 0.4  # of the pattern that the other one must cover
SCALE_RANGE = (0.4, 2.5)  # of the volume, by a registration that is believed
MIN_SLICES = 3  # fewer make no head
ORIENTATIONS = tuple(product(permutations(range(3)), product((1, -1), repeat=3)))


@dataclass(frozen=True)
class HeadPattern:
    """Light and dark of one volume: `values` (G,G,G) of norm 1, 0 outside; `inside` (G,G,G)."""

    values: Floats
    inside: Bools

    @property
    def detail(self) -> float:
        """Number of waves that share the pattern's power: its spectrum's participation ratio."""
        power = np.abs(np.fft.fftn(self.values)) ** 2
        return float(power.sum() ** 2 / (power**2).sum())


@dataclass(frozen=True)
class SameHeadPair:
    """Two volumes of one head, by their positions in the list; `correlation` of their patterns."""

    first: int
    second: int
    correlation: float


def head_pattern(volume: Volume, body: Bools) -> HeadPattern | None:
    """Reduce a volume (X,Y,Z) with its body (X,Y,Z) to its pattern; None where it has none.

    Each point is compared with its neighbourhood (Gaussian mean and standard deviation inside the
    body), which removes brightness, contrast and slow bias fields.
    """
    spans = [np.flatnonzero(body.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    if min(map(len, spans)) == 0 or len(spans[2]) < MIN_SLICES:
        return None
    low = np.array([span[0] - 0.5 for span in spans])
    spacing = np.array([(span[-1] - span[0] + 1) / GRID for span in spans])
    box = tuple(slice(max(0, span[0] - 2), span[-1] + 3) for span in spans)
    start = low + spacing / 2 - [part.start for part in box]
    grey = sample_on_grid(volume[box], start, spacing)
    inside = sample_on_grid(body[box].astype(np.float32), start, spacing) > 0.5
    inside = ndimage.binary_erosion(inside)  # the rim is the mask's, not the head's
    if inside.sum() < GRID**2:
        return None
    darkest, lightest = np.percentile(grey[inside], [1, 99])
    if not lightest > darkest:
        return None
    values = local_contrast(np.clip(grey, darkest, lightest), inside)
    return HeadPattern((values / np.linalg.norm(values)).astype(np.float32), inside)


def sample_on_grid(volume: Volume, start: Doubles, spacing: Doubles) -> Floats:
    """Sample a volume on the grid, smoothed against aliasing."""
    smooth = ndimage.gaussian_filter(volume, np.maximum(0, (spacing - 1) / 2), mode="nearest")
    sampled: Floats = ndimage.affine_transform(
        smooth, spacing, start, output_shape=(GRID,) * 3, order=1, mode="nearest"
    )
    return sampled


def local_contrast(grey: Floats, inside: Bools) -> Floats:
    """Compute how much lighter each point is than its neighbourhood, in its standard deviations."""
    weight = inside.astype(np.float32)
    covered = blur_pattern(weight, NEIGHBOURHOOD) + 1e-3
    difference = (grey - blur_pattern(grey * weight, NEIGHBOURHOOD) / covered) * weight
    variance = blur_pattern(difference**2, NEIGHBOURHOOD) / covered
    floor = 1e-4 * float(variance.max()) + 1e-12
    values = np.clip(difference / np.sqrt(variance + floor), -MAX_CONTRAST, MAX_CONTRAST) * weight
    values[inside] -= values[inside].mean()
    return np.asarray(values, np.float32)


def blur_pattern(field: Floats, sigma: float) -> Floats:
    """Blur a field on the grid; beyond its border values are 0."""
    blurred: Floats = ndimage.gaussian_filter(field, sigma, mode="constant")
    return blurred


def find_same_heads(patterns: Sequence[HeadPattern], patients: Sequence[str]) -> list[SameHeadPair]:
    """Find pairs of volumes of different patients that show the same head, the most similar first.

    Args:
        patterns: one a volume.
        patients: the patient of each volume; volumes of one patient are not compared.
    """
    if len(set(patients)) < 2:
        return []
    return match_patterns(patterns, patients, *best_orientations(patterns, patterns))


def match_patterns(
    patterns: Sequence[HeadPattern],
    patients: Sequence[str],
    correlation: Doubles,
    orientation: NDArray[np.intp],
) -> list[SameHeadPair]:
    """Decide which pairs show one head from their correlations (n,n) in their best orientations."""
    patient_names = np.array(patients)
    different_patients = patient_names[:, None] != patient_names[None]
    detail = np.array([pattern.detail for pattern in patterns])
    low_detail = np.maximum(detail[:, None], detail[None]) < MIN_DETAIL
    min_correlation = np.where(low_detail, MIN_CORRELATION_PLAIN, MIN_CORRELATION)
    matches: dict[tuple[int, int], float] = {}
    for first, second in np.argwhere(
        np.triu(different_patients, 1) & (correlation >= min_correlation)
    ):
        matches[int(first), int(second)] = float(correlation[first, second])
    for first, second in likely_pairs(correlation, different_patients):
        if (first, second) in matches or low_detail[first, second]:
            continue
        reoriented = reorient(patterns[second], ORIENTATIONS[orientation[first, second]])
        registered_correlation = correlation_after_registration(patterns[first], reoriented)
        if registered_correlation >= MIN_CORRELATION_REGISTERED:
            matches[first, second] = registered_correlation
    pairs = [SameHeadPair(*pair, round(value, 3)) for pair, value in matches.items()]
    return sorted(pairs, key=lambda pair: (-pair.correlation, pair.first, pair.second))


def best_orientations(
    fixed: Sequence[HeadPattern], moving: Sequence[HeadPattern]
) -> tuple[Doubles, NDArray[np.intp]]:
    """Compute the correlation (n,m) of each pair in the best of 48 orientations, and its number."""
    rows = np.stack([pattern.values.ravel() for pattern in fixed])  # (n, G^3)
    shape = (len(fixed), len(moving))
    best, orientation = np.full(shape, -1.0), np.zeros(shape, np.intp)
    for number, axes_and_signs in enumerate(ORIENTATIONS):
        reoriented = np.stack(
            [reorient(pattern, axes_and_signs).values.ravel() for pattern in moving]
        )
        correlation = rows @ reoriented.T
        better = correlation > best + 1e-6  # on a tie, the earlier turn
        best[better], orientation[better] = correlation[better], number
    return best, orientation


def reorient(
    pattern: HeadPattern, axes_and_signs: tuple[tuple[int, ...], tuple[int, ...]]
) -> HeadPattern:
    """Permute and flip the axes of a pattern."""
    axes, signs = axes_and_signs
    flips = tuple(slice(None, None, sign) for sign in signs)
    return HeadPattern(pattern.values.transpose(axes)[flips], pattern.inside.transpose(axes)[flips])


def likely_pairs(
    correlation: Doubles, different_patients: NDArray[np.bool_]
) -> Iterator[tuple[int, int]]:
    """Yield the pairs worth a registration: each volume's likeliest partners of other patients.

    Some heads resemble all others, so the score is how far a pair lies above the means of both.
    """
    valid = np.where(different_patients, correlation, np.nan)
    means = np.nanmean(valid, axis=1)
    excess = np.where(different_patients, correlation - means[:, None] - means[None], -np.inf)
    pairs = set()
    for first, row in enumerate(excess):
        for second in np.argsort(-row, kind="stable")[:PARTNERS_REGISTERED]:
            if (
                np.isfinite(row[second])
                and correlation[first, second] >= MIN_CORRELATION_TO_REGISTER
            ):
                pairs.add((min(first, int(second)), max(first, int(second))))
    yield from sorted(pairs)


def correlation_after_registration(fixed: HeadPattern, moving: HeadPattern) -> float:
    """Compute the correlation of two patterns after an affine registration; -1 where it fails.

    Least squares by Gauss and Newton on the patterns themselves (Lucas and Kanade 1981), the
    moving one scaled to the fixed one at each step.
    """
    centre = (GRID - 1) / 2
    points: Doubles = np.argwhere(fixed.inside).T.astype(np.float64) - centre  # (3, n)
    affine: Doubles = np.hstack([np.eye(3), np.zeros((3, 1))])
    weight: Floats = moving.inside.astype(np.float32)
    for blur in BLURS:
        target = blur_pattern(fixed.values, blur)[fixed.inside]
        source = blur_pattern(moving.values, blur)
        gradient_fields: list[Floats] = list(np.gradient(source))
        for _ in range(STEPS_PER_BLUR):
            covered = interpolate_at(weight, affine, points) > 0.5
            if covered.mean() < MIN_OVERLAP:
                return -1.0
            moved = interpolate_at(source, affine, points)[covered]
            gain = max(float(target[covered] @ moved / (moved @ moved + 1e-12)), 0.0) or 1.0
            gradients = [
                interpolate_at(field, affine, points)[covered] for field in gradient_fields
            ]
            columns = [
                gradients[i] * points[j][covered] / centre for i in range(3) for j in range(3)
            ]
            jacobian = gain * np.stack([*columns, *gradients], axis=1)  # (n, 12)
            normal = jacobian.T @ jacobian
            normal += 1e-3 * np.trace(normal) / 12 * np.eye(12)
            change = np.linalg.solve(normal, jacobian.T @ (target[covered] - gain * moved))
            affine[:, :3] += change[:9].reshape(3, 3) / centre
            affine[:, 3] += change[9:]
            if np.abs(change).max() < 0.02:
                break
    covered = interpolate_at(weight, affine, points) > 0.5
    scale = abs(float(np.linalg.det(affine[:, :3])))
    if covered.mean() < MIN_OVERLAP or not SCALE_RANGE[0] < scale < SCALE_RANGE[1]:
        return -1.0
    overlap = (
        fixed.values[fixed.inside][covered],
        interpolate_at(moving.values, affine, points)[covered],
    )
    return float(np.corrcoef(*overlap)[0, 1])


def interpolate_at(field: Floats, affine: Doubles, points: Doubles) -> Doubles:
    """Interpolate a field at the images of `points` (3,n), relative to the grid's middle."""
    positions = affine[:, :3] @ points + affine[:, 3:] + (GRID - 1) / 2
    values: Doubles = ndimage.map_coordinates(field, positions, order=1, mode="constant")
    return values
