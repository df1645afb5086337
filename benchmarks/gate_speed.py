"""Measure the gate's speed, the error of its SSIM, and its memory: a table in Markdown.

    python -m benchmarks.gate_speed --slices 2000 --size 128 --threads 2

The slices come from the phantom's simulator, each set from other patients. The pairwise rates of
scikit-image and torchmetrics are measured in the same run with the same settings (Wang's). Every
time is given twice: by the clock, and in processor seconds per thread, which a busy machine changes
little. The lower bound of the search's time is that of its matrix products at the rate of a large
one.
"""

import argparse
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from skimage.metrics import structural_similarity
from threadpoolctl import threadpool_limits
from torchmetrics.functional.image import structural_similarity_index_measure

from tasks.common.slice_set import SliceSet
from tasks.gate.evaluate import evaluate
from tasks.gate.reference import prepare_reference
from tasks.measures.anatomy import body_mask
from tasks.measures.similarity import approximate_ssim, ncc_search, shifted_ssim, ssim_search
from tasks.measures.similarity.image_transforms import COARSE
from tasks.measures.similarity.ssim import RADIUS
from tasks.params.gate import Gate
from tests.tasks.synthetic_cohort import as_synthetic, simulated

Floats = NDArray[np.float32]

EACH = 26  # slices of a patient
SAMPLE = 200  # slices per set, on which approximate and exact SSIM are compared
TRUTH, AMONG = 4, 60  # queries searched exhaustively, in so many slices


@dataclass(frozen=True)
class Timed:
    """A result, and the seconds it took by the clock and of the processor."""

    value: Any
    clock: float
    processor: float


def timed(work: Callable[[], Any]) -> Timed:
    """Run `work` once and time it."""
    clock, processor = time.perf_counter(), time.process_time()
    value = work()
    return Timed(value, time.perf_counter() - clock, time.process_time() - processor)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--slices", type=int, default=2000)
    parser.add_argument("--validation", type=int, default=500)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers", type=int, default=100, help="pairs for the other libraries")
    parser.add_argument("--search-only", action="store_true", help="leave out the whole gate")
    parser.add_argument("--keep", type=Path, help="a folder for the simulated slices")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sides = {
        name: slices(name, first, count, arguments.size, arguments.keep)
        for name, first, count in (
            ("train", 0, arguments.slices),
            ("made", 10_000, arguments.slices),
            ("val", 20_000, arguments.validation),
        )
    }
    before = peak()
    print("| what | figure | by the clock, s | processor s / thread |\n|---|---|---|---|")
    ceiling = gemm_rate(arguments.threads)
    line(f"largest matrix product, {arguments.threads} threads", f"{ceiling / 1e9:.0f} GFLOP/s")
    rates = peers(sides["made"].images, sides["train"].images, arguments.peers)
    search(sides["made"], sides["train"], rates, ceiling, arguments.threads)
    errors(sides["made"], sides["train"])
    if not arguments.search_only:
        judged(sides, arguments.threads)
    line("peak memory", f"{peak():.0f} MiB, {before:.0f} before the first search")
    if torch.cuda.is_available() and not arguments.search_only:
        judged(sides, arguments.threads, device="cuda")
    else:
        line("on a GPU", "not measured")


def judged(sides: dict[str, SliceSet], threads: int, device: str = "cpu") -> None:
    """Time the whole gate: every measure with its interval, and the verdict."""
    train, made, val = (sides[name] for name in ("train", "made", "val"))
    config = Gate(seed=0, threads=threads)
    with threadpool_limits(threads):
        real = timed(lambda: prepare_reference(train, val, config, device=device))
        line(f"{len(train)} training and {len(val)} validation slices measured once", "", real,
             threads)  # fmt: skip
        found = timed(lambda: evaluate(as_synthetic(made), real.value, config, device=device))
    line(f"{len(made)} synthetic slices judged, {config.draws} draws an interval",
         found.value.verdict, found, threads)  # fmt: skip
    whole = Timed(None, real.clock + found.clock, real.processor + found.processor)
    line(f"**the whole gate**, {device}", "", whole, threads)


def line(what: str, figure: str, took: Timed | None = None, threads: int = 1) -> None:
    """Print one row of the table."""
    times = ("", "") if took is None else (f"{took.clock:.1f}", f"{took.processor / threads:.1f}")
    print(f"| {what} | {figure} | {times[0]} | {times[1]} |", flush=True)


def peak() -> float:
    """Return the peak memory so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def slices(name: str, first: int, count: int, size: int, keep: Path | None) -> SliceSet:
    """Simulate `count` slices of as few patients as suffice, or read them from `keep`."""
    path = None if keep is None else keep / f"{name}-{size}-{count}.npz"
    if path is not None and path.exists():
        with np.load(path, allow_pickle=False) as saved:
            images, masks = saved["images"].astype(np.float32), saved["masks"]
            table = {key: saved[key] for key in ("row", "subject", "site", "label")}
        return SliceSet(images, masks, pd.DataFrame(table))
    patients = -(-count // 15)
    made = simulated(first, patients, seed=5, size=size, pixel_mm=192 / size, each=EACH)
    chosen = made.select(np.arange(min(count, len(made))))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = {
            key: values.to_numpy().astype("U16") if values.dtype.kind in "OT" else values.to_numpy()
            for key, values in chosen.table.items()
        }
        np.savez(path, images=chosen.images.astype(np.float16), masks=chosen.masks, **columns)
    return chosen


def gemm_rate(threads: int) -> float:
    """Measure FLOP/s of a large single-precision product, the best of three."""
    n = 3000
    a = np.random.default_rng(0).random((n, n), dtype=np.float32)
    with threadpool_limits(threads):
        return max(2 * n**3 * threads / timed(lambda: a @ a).processor for _ in range(3))


def peers(queries: Floats, references: Floats, count: int) -> dict[str, float]:
    """Measure the pairs per processor second of the other libraries."""
    a, b = ((side[:count] + 1) / 2 for side in (queries, references))
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    one = timed(
        lambda: [
            structural_similarity(x[0], y[0], data_range=1, **settings)
            for x, y in zip(a, b, strict=True)
        ]
    )
    x, y = torch.from_numpy(a), torch.from_numpy(b)
    other = timed(lambda: structural_similarity_index_measure(x, y, data_range=1.0))
    rates = {
        "scikit-image": len(a) / one.processor,
        "torchmetrics": len(a) / other.processor,
    }
    for name, rate in rates.items():
        line(f"{name}, SSIM of {len(a)} pairs", f"{rate:.0f} pairs a processor second")
    return rates


def search(
    made: SliceSet, train: SliceSet, rates: dict[str, float], ceiling: float, threads: int
) -> None:
    """Time the search for nearest training slices by correlation and by SSIM."""
    bodies = [body_mask.body_masks(s.images) for s in (made, train)]
    with threadpool_limits(threads):
        near = timed(lambda: ncc_search.nearest_by_ncc(made.images, train.images, workers=threads))
    n, m, size = len(made), len(train), made.images.shape[-1]
    least = near_flops(n, m, size) / ceiling
    line(f"nearest of {n} x {m} by correlation", f"least {least:.1f} s", near, threads)
    exact = timed(
        lambda: ssim_search.nearest_ssim(
            made.images, train.images, *bodies, correlated=near.value, workers=threads
        )
    )
    least = pair_flops(n, m, size) / ceiling
    line(f"nearest of {n} x {m} by SSIM", f"least {least:.1f} s", exact, threads)
    both = Timed(None, near.clock + exact.clock, near.processor + exact.processor)
    rate = n * m / both.processor
    line("the whole search, shifts and all", f"{rate:,.0f} pairs a processor second", both, threads)
    for name, other in rates.items():
        line(f"times the rate of {name}, pairs counted", f"{rate / other:.0f}")
        line(f"times the rate of {name}, pairs and mirrored pairs counted",
             f"{2 * rate / other:.0f}")  # fmt: skip


def near_flops(n: int, m: int, size: int) -> float:
    """Count FLOPs of the products in `ncc_search`: coarse shifts of up to 4 pixels, all flips."""
    factor = max(size // COARSE, 1)
    shifts = (2 * -(-4 // factor) + 1) ** 2
    return 2.0 * n * m * (size // factor) ** 2 * shifts


def pair_flops(n: int, m: int, size: int) -> float:
    """Count FLOPs of the products over all pairs in `approximate_ssim`, with mirrored pairs."""
    grid = ssim_search.FEW
    windows = len(range(RADIUS, size - RADIUS, grid.stride)) ** 2
    terms = (grid.degree + 1) * (grid.degree + 2) // 2  # with the constant in the place of the mean
    return 2.0 * 2 * n * m * windows * (terms + 4 + 4)


def errors(made: SliceSet, train: SliceSet) -> None:
    """Compare approximate with exact SSIM, and the search with an exhaustive one."""
    a, b = (s.images[:: max(len(s) // SAMPLE, 1)] for s in (made, train))
    bodies = body_mask.body_masks(a), body_mask.body_masks(b)
    exact = approximate_ssim.ssim_pairs(a, b, *bodies, stride=1, degree=approximate_ssim.ALL)
    grid = ssim_search.FEW
    nearly = approximate_ssim.ssim_pairs(a, b, *bodies, stride=grid.stride, degree=grid.degree)
    gap = np.abs(nearly - exact)
    line(f"error of the nearly computed SSIM, {gap.size} pairs",
         f"mean {gap.mean():.4f}, largest {gap.max():.4f},"
         f" r {np.corrcoef(nearly.ravel(), exact.ravel())[0, 1]:.4f}")  # fmt: skip
    rank = (nearly > np.take_along_axis(nearly, exact.argmax(axis=1)[:, None], axis=1)).sum(axis=1)
    line(f"rank of the exact nearest by it ({len(a)} slices; {ssim_search.LIKELY} are looked at"
         " again)", f"first for {(rank == 0).mean():.1%}, at worst {rank.max() + 1}")  # fmt: skip
    a, b = a[:: len(a) // TRUTH][:TRUTH], b[:AMONG]
    bodies = body_mask.body_masks(a), body_mask.body_masks(b)
    near = ncc_search.nearest_by_ncc(a, b)
    found = ssim_search.nearest_ssim(a, b, *bodies, correlated=near).scores
    gap = exhaustive(a, b, *bodies) - found
    line(f"found, against the best of every flip and shift, {TRUTH} slices in {AMONG}",
         f"lower by {gap.mean():.4f} on average, {gap.max():.4f} at most")  # fmt: skip


def exhaustive(
    a: Floats, b: Floats, bodies: NDArray[np.bool_], others: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Find the highest exact SSIM (N,) over all references, mirrored or not, shifts of up to 4."""
    shifts = list(product(range(-4, 5), repeat=2))
    best = np.full(len(a), -1.0)
    with torch.inference_mode():
        references = shifted_ssim.References.of(b, others, map)
        queries = shifted_ssim.Images(a, bodies, 4, set(ssim_search.MIRRORED))
        for flip, query in product(ssim_search.MIRRORED, range(len(a))):
            pairs = [(number, flip) for number in range(len(b))]
            one = ssim_search.Query(queries, query, references, pairs, 4)
            found = [value for k in range(len(b)) for _, _, value in one.exact(k, shifts)]
            best[query] = max(best[query], *found)
    return best


if __name__ == "__main__":
    main()
