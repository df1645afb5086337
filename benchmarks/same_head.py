"""Measure which copies the check for two patients of one head finds, and how often it is wrong.

    python -m benchmarks.same_head phantom 200 --copies 20
    python -m benchmarks.same_head ../shared/data/lgg --copies 20

False alarms: all pairs of the patients, who all differ. Copies: each kind of copy of `--copies`
patients, added to all patients, as it would be in a batch. Prints a table in Markdown.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from tasks.phantom.simulator import RandomStream, SimulatedPatient, Simulator
from tasks.slices.same_head import (
    MIN_CORRELATION,
    MIN_CORRELATION_REGISTERED,
    ORIENTATIONS,
    HeadPattern,
    best_orientations,
    correlation_after_registration,
    head_pattern,
    likely_pairs,
    reorient,
)
from tasks.volumes.resampling import Volume, largest_body_mask

Spacing = NDArray[np.float64]


class SecondVisit(Simulator):
    """The same patients on another day: other slices, other noise; `patient` takes the site."""

    def rng(self, index: int, stream: int) -> np.random.Generator:
        """Return the random generator of a stream, another one for what a visit changes."""
        visit = 1 if stream in (RandomStream.GEOMETRY, RandomStream.NOISE) else 0
        return np.random.default_rng([self.seed, index, stream, visit][: 3 + visit])


def to_ras(volume: Volume, affine: NDArray[np.float64]) -> tuple[Volume, Spacing]:
    """Reorder a volume to RAS, and return its voxel size in mm."""
    image = nib.as_closest_canonical(nib.Nifti1Image(volume, affine))
    return np.asarray(image.dataobj, np.float32), np.array(image.header.get_zooms()[:3], float)


def simulate_volumes(first: int, count: int) -> Iterator[tuple[Volume, Spacing]]:
    """Simulate patients of one template's anatomy, so that they are hard to distinguish."""
    for patient in Simulator(7).patients(first, count):
        yield to_ras(patient.volume, patient.affine)


def read_volumes(folder: Path) -> Iterator[tuple[Volume, Spacing]]:
    """Read the FLAIR volumes of a BIDS folder."""
    for path in sorted(folder.glob("sub-*/anat/*_FLAIR.nii.gz")):
        image = nib.load(path)
        yield to_ras(np.asarray(image.dataobj, np.float32), image.affine)


def add_bias_field(volume: Volume, rng: np.random.Generator, strength: float) -> Volume:
    """Multiply by a slow field of factors from exp(-strength) to exp(strength)."""
    knots = rng.normal(0, 1, (3, 3, 3))
    factors = [n / 3 for n in volume.shape]
    field = ndimage.zoom(knots, factors, order=3, grid_mode=True, mode="nearest")
    return np.asarray(volume * np.exp(strength * field / np.abs(field).max()), np.float32)


def resample_volume(volume: Volume, spacing: Spacing, to_mm: tuple[float, ...]) -> Volume:
    """Resample the volume to another grid."""
    zoom = spacing / np.array(to_mm)
    smooth = ndimage.gaussian_filter(volume, np.maximum(0, (1 / zoom - 1) / 2))
    return np.asarray(ndimage.zoom(smooth, zoom, order=1), np.float32)


def transform_volume(
    volume: Volume,
    spacing: Spacing,
    degrees: tuple[float, ...],
    scale: tuple[float, ...] = (1, 1, 1),
) -> Volume:
    """Rotate the volume, and scale it along the axes, about the middle."""
    turn = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ np.diag(scale)
    matrix = np.diag(1 / spacing) @ turn @ np.diag(spacing)
    centre = (np.array(volume.shape) - 1) / 2
    return np.asarray(
        ndimage.affine_transform(volume, matrix, centre - matrix @ centre, order=1), np.float32
    )


def make_copies(
    volume: Volume, spacing: Spacing, rng: np.random.Generator
) -> Iterator[tuple[str, Volume]]:
    """Make each kind of copy of one volume."""
    body = largest_body_mask(volume)
    unit = volume / np.percentile(volume, 99.5)
    low, high = (edge(np.argwhere(body), axis=0) for edge in (np.min, np.max))
    deep = ndimage.distance_transform_edt(body, sampling=spacing)
    thick = (*spacing[:2], spacing[2] * 1.6)
    yield "stored twice", volume
    yield "other scale (3.7 x + 12)", volume * np.float32(3.7) + np.float32(12)
    yield "gamma .6", np.clip(unit, 0, 1) ** np.float32(0.6)
    yield "windowed (15 to 85 %)", np.clip((unit - 0.15) / 0.7, 0, 1).astype(np.float32)
    noise = 0.05 * np.percentile(volume, 99) * rng.standard_normal(volume.shape)
    yield "noise 5 %", (volume + noise * (volume > 0)).astype(np.float32)
    yield "bias field, factors .8 to 1.25", add_bias_field(volume, rng, 0.22)
    yield "bias field, factors .6 to 1.65", add_bias_field(volume, rng, 0.5)
    yield "resampled to 2 mm", resample_volume(volume, spacing, (2, 2, 2))
    yield "resampled, slices 1.6 times as thick", resample_volume(volume, spacing, thick)
    yield "flipped left to right", volume[::-1]
    yield "axes exchanged and flipped", volume.transpose(2, 0, 1)[:, ::-1]
    yield "air cut away", volume[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))]
    for share in (0.1, 0.2, 0.3):
        start = low[2] + int((high[2] + 1 - low[2]) * share)
        yield f"lowest {share:.0%} of the slices left out", volume[:, :, start:]
    yield "a tenth cut off at one side", volume[low[0] + int((high[0] - low[0]) * 0.1) :]
    yield "turned by 7 degrees", transform_volume(volume, spacing, (3, 4, 5))
    yield "turned by 14 degrees", transform_volume(volume, spacing, (8, -6, 10))
    yield (
        "registered to a template (affine)",
        transform_volume(volume, spacing, (5, 3, -4), (1.1, 0.93, 1.05)),
    )
    yield "outer 8 mm taken off (as a stripped skull)", volume * (deep > 8)
    yield (
        "turned, cut, scaled and biased",
        add_bias_field(
            transform_volume(volume, spacing, (4, -3, 5))[
                :, :, low[2] + int((high[2] - low[2]) * 0.1) :
            ],
            rng,
            0.22,
        ),
    )


def second_visits(index: int) -> Iterator[tuple[str, Volume]]:
    """Simulate a phantom patient's other examinations."""
    simulator = SecondVisit(7)
    kind = simulator.kind(index)
    other = kind._replace(site="B" if kind.site == "A" else "A")
    yield "second visit, same scanner (simulated)", ras_volume(simulator.patient(index))
    yield (
        "second visit, other scanner (simulated)",
        ras_volume(simulator.patient(index, kind=other)),
    )
    grown = simulator.patient(index, has_tumor=not kind.tumor)
    yield "second visit, tumour gone or new (simulated)", ras_volume(grown)


def ras_volume(patient: SimulatedPatient) -> Volume:
    """Return the patient's volume in RAS order."""
    return to_ras(patient.volume, patient.affine)[0]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohort", help="phantom, or a BIDS folder")
    parser.add_argument("count", type=int, nargs="?", default=200, help="of the phantom's patients")
    parser.add_argument("--copies", type=int, default=20, help="patients to copy in every way")
    options = parser.parse_args()
    simulated = options.cohort == "phantom"
    volumes = (
        simulate_volumes(0, options.count) if simulated else read_volumes(Path(options.cohort))
    )
    patterns, to_copy, seconds = [], [], 0.0
    for index, (volume, spacing) in enumerate(volumes):
        start = time.process_time()
        head = head_pattern(volume, largest_body_mask(volume))
        seconds += time.process_time() - start
        assert head is not None
        patterns.append(head)
        if len(to_copy) < options.copies and index % 3 == 0:
            to_copy.append((index, volume, spacing))
    print(f"{options.cohort}: {seconds / len(patterns):.2f} s a pattern", flush=True)
    compared = best_orientations(patterns, patterns)
    print(compare_patients(patterns, *compared), flush=True)
    rng = np.random.default_rng(0)
    hits_by_kind: dict[str, list[bool]] = {}
    false_matches = 0
    for index, volume, spacing in to_copy:
        all_copies = [
            *make_copies(volume, spacing, rng),
            *(second_visits(index) if simulated else ()),
        ]
        for kind, copy in all_copies:
            head = head_pattern(np.ascontiguousarray(copy), largest_body_mask(copy))
            matched = [] if head is None else find_copy(patterns, head, *compared)
            hits_by_kind.setdefault(kind, []).append(index in matched)
            false_matches += len(set(matched) - {index})
        print(f"patient {index}", file=sys.stderr, flush=True)
    print("\n| copy | found |\n|---|---|")
    for kind, hits in hits_by_kind.items():
        print(f"| {kind} | {sum(hits)} of {len(hits)} |")
    print(f"\n{false_matches} pairs of a copy with another patient were accused")


def compare_patients(
    patterns: list[HeadPattern], correlation: NDArray[np.float64], orientation: NDArray[np.intp]
) -> str:
    """Compare patients who all differ, and summarise the false alarms."""
    apart = ~np.eye(len(patterns), dtype=bool)
    pairs = list(likely_pairs(correlation, apart))
    start = time.process_time()
    registered = [
        correlation_after_registration(
            patterns[a], reorient(patterns[b], ORIENTATIONS[orientation[a, b]])
        )
        for a, b in pairs
    ]
    registered = registered or [-1.0]  # no pair is similar enough to register
    seconds = (time.process_time() - start) / len(registered)
    n, details = len(patterns), [pattern.detail for pattern in patterns]
    false_matches = int((correlation[apart] >= MIN_CORRELATION).sum() // 2)
    false_matches += int((np.array(registered) >= MIN_CORRELATION_REGISTERED).sum())
    return (
        f"{n} patients, {n * (n - 1) // 2} pairs: {false_matches} accused; highest correlation"
        f" {correlation[apart].max():.3f}, after registration {max(registered):.3f} (99 %:"
        f" {np.quantile(registered, 0.99):.3f}) of the {len(pairs)} likeliest pairs,"
        f" {seconds:.2f} s each; detail {min(details):.0f} to {max(details):.0f}"
    )


def find_copy(
    patterns: list[HeadPattern],
    copy_pattern: HeadPattern,
    correlation: NDArray[np.float64],
    orientation: NDArray[np.intp],
) -> list[int]:
    """List the patients who match a copy that is added to all of them.

    `correlation` and `orientation` (n,n) of the patients among themselves; a copy adds one column.
    """
    n = len(patterns)
    column, copy_orientations = best_orientations(patterns, [copy_pattern])
    all_correlations = np.pad(correlation, ((0, 1), (0, 1)), constant_values=-1)
    all_orientations = np.pad(orientation, ((0, 1), (0, 1)))
    all_correlations[:n, n], all_correlations[n, :n], all_orientations[:n, n] = (
        column[:, 0],
        column[:, 0],
        copy_orientations[:, 0],
    )
    apart = ~np.eye(n + 1, dtype=bool)
    matched = [
        int(position) for position in np.flatnonzero(all_correlations[:n, n] >= MIN_CORRELATION)
    ]
    for first, second in likely_pairs(all_correlations, apart):
        if second == n and first not in matched:
            reoriented = reorient(copy_pattern, ORIENTATIONS[all_orientations[first, n]])
            if (
                correlation_after_registration(patterns[first], reoriented)
                >= MIN_CORRELATION_REGISTERED
            ):
                matched.append(first)
    return matched


if __name__ == "__main__":
    main()
