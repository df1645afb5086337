"""What the guard against two patients of one head finds, and whether it accuses strangers.

    python -m benchmarks.same_head phantom 200 --copies 20
    python -m benchmarks.same_head ../shared/data/lgg --copies 20

Strangers: all pairs of the patients, who all differ. Copies: each kind of copy of `--copies`
patients, put beside all patients, as it would stand in a batch. Prints a table in Markdown.
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
    SAME,
    SAME_REGISTERED,
    TURNS,
    Pattern,
    best_turns,
    likely_pairs,
    oriented,
    pattern,
    registered_correlation,
)
from tasks.volumes.resampling import Volume, brain_mask

Spacing = NDArray[np.float64]


class SecondVisit(Simulator):
    """The same patients on another day: other slices, other noise; `patient` takes the site."""

    def rng(self, index: int, stream: int) -> np.random.Generator:
        """The random numbers of a thing, other ones for what a visit changes."""
        visit = 1 if stream in (RandomStream.GEOMETRY, RandomStream.NOISE) else 0
        return np.random.default_rng([self.seed, index, stream, visit][: 3 + visit])


def to_ras(volume: Volume, affine: NDArray[np.float64]) -> tuple[Volume, Spacing]:
    """A volume in RAS order, and its voxels' size in mm."""
    image = nib.as_closest_canonical(nib.Nifti1Image(volume, affine))
    return np.asarray(image.dataobj, np.float32), np.array(image.header.get_zooms()[:3], float)


def phantom(first: int, count: int) -> Iterator[tuple[Volume, Spacing]]:
    """Simulated patients: one template's anatomy, so that they are hard to tell apart."""
    for patient in Simulator(7).patients(first, count):
        yield to_ras(patient.volume, patient.affine)


def on_disk(folder: Path) -> Iterator[tuple[Volume, Spacing]]:
    """The FLAIR volumes of a BIDS folder."""
    for path in sorted(folder.glob("sub-*/anat/*_FLAIR.nii.gz")):
        image = nib.load(path)
        yield to_ras(np.asarray(image.dataobj, np.float32), image.affine)


def bias(volume: Volume, rng: np.random.Generator, strength: float) -> Volume:
    """A slow field of factors from exp(-strength) to exp(strength)."""
    knots = rng.normal(0, 1, (3, 3, 3))
    factors = [n / 3 for n in volume.shape]
    field = ndimage.zoom(knots, factors, order=3, grid_mode=True, mode="nearest")
    return np.asarray(volume * np.exp(strength * field / np.abs(field).max()), np.float32)


def resampled(volume: Volume, spacing: Spacing, to_mm: tuple[float, ...]) -> Volume:
    """The volume on another grid."""
    zoom = spacing / np.array(to_mm)
    smooth = ndimage.gaussian_filter(volume, np.maximum(0, (1 / zoom - 1) / 2))
    return np.asarray(ndimage.zoom(smooth, zoom, order=1), np.float32)


def moved(
    volume: Volume,
    spacing: Spacing,
    degrees: tuple[float, ...],
    scale: tuple[float, ...] = (1, 1, 1),
) -> Volume:
    """Turned, and scaled along the axes, about the middle."""
    turn = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ np.diag(scale)
    matrix = np.diag(1 / spacing) @ turn @ np.diag(spacing)
    centre = (np.array(volume.shape) - 1) / 2
    return np.asarray(
        ndimage.affine_transform(volume, matrix, centre - matrix @ centre, order=1), np.float32
    )


def copies(
    volume: Volume, spacing: Spacing, rng: np.random.Generator
) -> Iterator[tuple[str, Volume]]:
    """Each kind of copy of one volume."""
    body = brain_mask(volume)
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
    yield "bias field, factors .8 to 1.25", bias(volume, rng, 0.22)
    yield "bias field, factors .6 to 1.65", bias(volume, rng, 0.5)
    yield "resampled to 2 mm", resampled(volume, spacing, (2, 2, 2))
    yield "resampled, slices 1.6 times as thick", resampled(volume, spacing, thick)
    yield "flipped left to right", volume[::-1]
    yield "axes exchanged and flipped", volume.transpose(2, 0, 1)[:, ::-1]
    yield "air cut away", volume[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))]
    for share in (0.1, 0.2, 0.3):
        start = low[2] + int((high[2] + 1 - low[2]) * share)
        yield f"lowest {share:.0%} of the slices left out", volume[:, :, start:]
    yield "a tenth cut off at one side", volume[low[0] + int((high[0] - low[0]) * 0.1) :]
    yield "turned by 7 degrees", moved(volume, spacing, (3, 4, 5))
    yield "turned by 14 degrees", moved(volume, spacing, (8, -6, 10))
    yield "registered to a template (affine)", moved(volume, spacing, (5, 3, -4), (1.1, 0.93, 1.05))
    yield "outer 8 mm taken off (as a stripped skull)", volume * (deep > 8)
    yield (
        "turned, cut, scaled and biased",
        bias(
            moved(volume, spacing, (4, -3, 5))[:, :, low[2] + int((high[2] - low[2]) * 0.1) :],
            rng,
            0.22,
        ),
    )


def second_visits(index: int) -> Iterator[tuple[str, Volume]]:
    """A phantom patient's other examinations, simulated."""
    simulator = SecondVisit(7)
    kind = simulator.kind(index)
    other = kind._replace(site="B" if kind.site == "A" else "A")
    yield "second visit, same scanner (simulated)", whole(simulator.patient(index))
    yield "second visit, other scanner (simulated)", whole(simulator.patient(index, kind=other))
    grown = simulator.patient(index, has_tumor=not kind.tumor)
    yield "second visit, tumour gone or new (simulated)", whole(grown)


def whole(patient: SimulatedPatient) -> Volume:
    """Its volume in RAS order."""
    return to_ras(patient.volume, patient.affine)[0]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohort", help="phantom, or a BIDS folder")
    parser.add_argument("count", type=int, nargs="?", default=200, help="of the phantom's patients")
    parser.add_argument("--copies", type=int, default=20, help="patients to copy in every way")
    words = parser.parse_args()
    simulated = words.cohort == "phantom"
    read = phantom(0, words.count) if simulated else on_disk(Path(words.cohort))
    patterns, kept, seconds = [], [], 0.0
    for index, (volume, spacing) in enumerate(read):
        start = time.process_time()
        one = pattern(volume, brain_mask(volume))
        seconds += time.process_time() - start
        assert one is not None
        patterns.append(one)
        if len(kept) < words.copies and index % 3 == 0:
            kept.append((index, volume, spacing))
    print(f"{words.cohort}: {seconds / len(patterns):.2f} s a pattern", flush=True)
    compared = best_turns(patterns, patterns)
    print(strangers(patterns, *compared), flush=True)
    rng = np.random.default_rng(0)
    found: dict[str, list[bool]] = {}
    wrong = 0
    for index, volume, spacing in kept:
        made = [*copies(volume, spacing, rng), *(second_visits(index) if simulated else ())]
        for kind, copy in made:
            one = pattern(np.ascontiguousarray(copy), brain_mask(copy))
            accused = [] if one is None else against(patterns, one, *compared)
            found.setdefault(kind, []).append(index in accused)
            wrong += len(set(accused) - {index})
        print(f"patient {index}", file=sys.stderr, flush=True)
    print("\n| copy | found |\n|---|---|")
    for kind, hits in found.items():
        print(f"| {kind} | {sum(hits)} of {len(hits)} |")
    print(f"\n{wrong} pairs of a copy with another patient were accused")


def strangers(
    patterns: list[Pattern], correlation: NDArray[np.float64], turn: NDArray[np.intp]
) -> str:
    """What comes of patients who all differ."""
    apart = ~np.eye(len(patterns), dtype=bool)
    pairs = list(likely_pairs(correlation, apart))
    start = time.process_time()
    after = [
        registered_correlation(patterns[a], oriented(patterns[b], TURNS[turn[a, b]]))
        for a, b in pairs
    ]
    after = after or [-1.0]  # nobody resembles anybody
    seconds = (time.process_time() - start) / len(after)
    n, details = len(patterns), [one.detail for one in patterns]
    accused = int((correlation[apart] >= SAME).sum() // 2)
    accused += int((np.array(after) >= SAME_REGISTERED).sum())
    return (
        f"{n} patients, {n * (n - 1) // 2} pairs: {accused} accused; highest correlation"
        f" {correlation[apart].max():.3f}, after registration {max(after):.3f} (99 %:"
        f" {np.quantile(after, 0.99):.3f}) of the {len(pairs)} likeliest pairs, {seconds:.2f} s"
        f" each; detail {min(details):.0f} to {max(details):.0f}"
    )


def against(
    patterns: list[Pattern], one: Pattern, correlation: NDArray[np.float64], turn: NDArray[np.intp]
) -> list[int]:
    """Which patients are taken for the head of a copy that stands beside all of them.

    `correlation` and `turn` (n,n) of the patients among themselves; a copy adds one column.
    """
    n = len(patterns)
    column, turns = best_turns(patterns, [one])
    wider = np.pad(correlation, ((0, 1), (0, 1)), constant_values=-1)
    ways = np.pad(turn, ((0, 1), (0, 1)))
    wider[:n, n], wider[n, :n], ways[:n, n] = column[:, 0], column[:, 0], turns[:, 0]
    apart = ~np.eye(n + 1, dtype=bool)
    found = [int(place) for place in np.flatnonzero(wider[:n, n] >= SAME)]
    for first, second in likely_pairs(wider, apart):
        if second == n and first not in found:
            turned = oriented(one, TURNS[ways[first, n]])
            if registered_correlation(patterns[first], turned) >= SAME_REGISTERED:
                found.append(first)
    return found


if __name__ == "__main__":
    main()
