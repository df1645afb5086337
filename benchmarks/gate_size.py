"""Measure how the gate's searches grow with the number of slices: processor seconds and memory.

    python -m benchmarks.gate_size --queries 20000 --references 20000 --size 64
    python -m benchmarks.gate_size --memory 250 20000 --size 64
    python -m benchmarks.gate_size --grow 250 500 1000 --size 64

Slices of the phantom's simulator are shifted by up to 4 pixels and made noisy until there are
enough: the cost of the searches does not depend on what the slices show. Each search prints its own
row, so that a stopped run leaves results. `--grow` measures every pair of the sizes, fits
a + b queries + c references + d queries x references, and extrapolates to larger sets.
`--memory` takes two sizes. Each search works in blocks of a fixed size, so memory grows only by
tables per query and per reference. The command measures few x few, many x few and few x many, each
in a process of its own; the peak of many x many is the sum of the two larger ones without few x
few.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls

from benchmarks.gate_speed import slices
from tasks.measures.anatomy import body_mask
from tasks.measures.features.feature_distances import nearest_rows
from tasks.measures.similarity import ncc_search, tumor_patch_search
from tasks.measures.similarity.ssim_search import nearest_ssim

Floats = NDArray[np.float32]

SOURCE = 500  # simulated slices from which all others are made
FEATURES = 152
LARGE = ((2000, 2000), (20_000, 20_000), (10_000, 50_000))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--references", type=int, default=2000)
    parser.add_argument("--grow", type=int, nargs="+", help="measure all pairs of these sizes")
    parser.add_argument("--memory", type=int, nargs=2, metavar=("FEW", "MANY"))
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="a folder for the simulated slices")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory:
        measure_memory(arguments)
        return
    source = slices("val", 20_000, SOURCE, arguments.size, arguments.keep)
    few = source.images, source.masks
    print("| queries x references | search | processor s | peak memory, GiB |\n|---|---|---|---|")
    if not arguments.grow:
        print(
            f"| | slices in memory | | {fill(few, arguments.queries, arguments.references):.2f} |"
        )
        searches(few, arguments.queries, arguments.references, arguments.threads)
        return
    rows, seconds = [], []
    for n, m in product(arguments.grow, repeat=2):
        seconds.append(searches(few, n, m, arguments.threads))
        rows.append((1, n, m, n * m))
    terms = np.array(rows, dtype=float)
    scale = terms.max(axis=0)
    found = nnls(terms / scale, np.array(seconds))[0] / scale
    print(f"\nfit: {found[0]:.1f} s + {found[1] * 1e3:.2f} ms a query + {found[2] * 1e3:.2f} ms a"
          f" reference + {found[3] * 1e6:.2f} µs a pair; least squares, none below 0")  # fmt: skip
    for n, m in LARGE:
        print(f"{n} x {m}: {found @ (1, n, m, n * m):.0f} processor s")


def measure_memory(arguments: argparse.Namespace) -> None:
    """Measure peak memory with many queries or many references, and derive that of many of both."""
    few, many = arguments.memory
    peaks = {}
    for n, m in ((few, few), (many, few), (few, many)):
        command = [sys.executable, "-m", "benchmarks.gate_size", "--queries", str(n),
                   "--references", str(m), "--size", str(arguments.size), "--threads",
                   str(arguments.threads)]  # fmt: skip
        if arguments.keep:
            command += ["--keep", str(arguments.keep)]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        rows = [line for line in said.splitlines() if line.startswith(f"| {n} x {m}")]
        print("\n".join(rows), flush=True)
        peaks[n, m] = float(rows[-1].split("|")[-2])
    both = peaks[many, few] + peaks[few, many] - peaks[few, few]
    print(f"\n{many} x {many}: {both:.2f} GiB")


def fill(few: tuple[Floats, NDArray[np.uint8]], n: int, m: int) -> float:
    """Measure peak memory, GiB, with only both sets of slices and their bodies."""
    sides = [varied(few, count, seed) for seed, count in enumerate((n, m))]
    bodies = [bodies_of(side[0]) for side in sides]
    return peak() if bodies else 0.0


def searches(few: tuple[Floats, NDArray[np.uint8]], n: int, m: int, threads: int) -> float:
    """Run every search of n slices among m; return the processor seconds of all."""
    (queries, ours), (references, theirs) = (varied(few, c, s) for s, c in enumerate((n, m)))
    bodies, others = bodies_of(queries), bodies_of(references)
    rng = np.random.default_rng(2)
    features = [rng.normal(size=(count, FEATURES)) for count in (n, m)]
    near = None
    total = 0.0

    def timed(what: str, work: Callable[[], Any]) -> Any:
        nonlocal total
        start = time.process_time()
        value = work()
        took = time.process_time() - start
        total += took
        print(f"| {n} x {m} | {what} | {took:.1f} | {peak():.2f} |", flush=True)
        return value

    near = timed(
        "correlation", lambda: ncc_search.nearest_by_ncc(queries, references, workers=threads)
    )
    timed("SSIM", lambda: nearest_ssim(queries, references, bodies, others, correlated=near,
                                       workers=threads))  # fmt: skip
    timed("tumours", lambda: tumor_patch_search.nearest_patch(
        queries, ours, references, theirs, max_shift=4, workers=threads))  # fmt: skip
    timed("features", lambda: nearest_rows(*features, keep=3))
    each = np.arange(n)
    timed("near-copies in the set", lambda: ncc_search.nearest_by_ncc(
        queries, queries, keep=1, max_shift=0, owners=(each, each), workers=threads))  # fmt: skip
    return total


def varied(
    few: tuple[Floats, NDArray[np.uint8]], count: int, seed: int
) -> tuple[Floats, NDArray[np.uint8]]:
    """Return `count` slices and masks: the few, shifted and made noisy."""
    rng = np.random.default_rng(seed)
    images = np.empty((count, *few[0].shape[1:]), dtype=np.float32)
    masks = np.empty((count, *few[1].shape[1:]), dtype=np.uint8)
    for row in range(count):
        one, by = rng.integers(len(few[0])), rng.integers(-4, 5, 2)
        images[row] = np.roll(few[0][one], by, axis=(1, 2))
        images[row] += rng.normal(0, 0.02, images.shape[1:]).astype(np.float32)
        masks[row] = np.roll(few[1][one], by, axis=(0, 1))
    return images.clip(-1, 1, out=images), masks


def bodies_of(images: Floats) -> NDArray[np.bool_]:
    """Compute body masks, 500 images at a time."""
    parts = [body_mask.body_masks(images[s : s + 500]) for s in range(0, len(images), 500)]
    return np.concatenate(parts)


def peak() -> float:
    """Return the peak memory so far, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
