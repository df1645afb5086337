"""Judge the same synthetic sets by other validation patients, and count how often a verdict holds.

    python -m benchmarks.verdict_stability known DIR --cohorts 2 --draws 50
    python -m benchmarks.verdict_stability graded DIR --cohorts 2 --draws 20
    python -m benchmarks.verdict_stability tables DIR

A cohort has 26 training patients of the phantom's simulator and the slices of 30 others, which are
those of an oracle. Its sets are made once: of `known`, those of the known generators, of the copies
only as they are, the hard changes and one pair; of `graded`, the oracle's slices with a fault in
steps, from none to one that anybody sees. Each draw has 15 other validation patients of the same
simulator. Every verdict is appended to a CSV file in DIR at once, so a stopped run goes on.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from scipy.stats import binomtest

from benchmarks.gate_on_known_generators import add, done, row_of
from benchmarks.phantom_cohorts import read_or_simulate
from tasks.common.slice_set import SliceSet
from tasks.gate.reference import prepare_reference
from tasks.params.gate import Gate
from tests.tasks.known_generators import CHANGES, PAIRS, generators
from tests.tasks.synthetic_cohort import simulated

FIRST_COHORT = 2000
FIRST_PATIENT, PATIENTS = 200, 15  # behind those of the cohort itself
STEPS = (0.2, 0.4, 0.6, 0.8, 1.0)  # of the strongest fault


def main() -> None:
    """Judge the sets where a verdict is missing, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("known", "graded", "tables"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cohorts", type=int, default=2)
    parser.add_argument("--first-draw", type=int, default=0)
    parser.add_argument("--draws", type=int, default=50)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "tables":
        print_tables(options.folder)
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    for draw in range(options.first_draw, options.draws):
        for cohort in range(FIRST_COHORT, FIRST_COHORT + options.cohorts):
            judge_by_draw(options.what, options.folder, cohort, draw)


def judge_by_draw(what: str, folder: Path, cohort: int, draw: int) -> None:
    """Judge every set of a cohort by the validation patients of one draw."""
    path = folder / f"{what}-{cohort}.csv"
    have = done(path)
    train, _, oracle = read_or_simulate(cohort, folder)
    sets = known_sets(train, oracle) if what == "known" else graded_sets(oracle)
    first = FIRST_PATIENT + PATIENTS * draw
    config = Gate(seed=draw, threads=1, draws=20)
    reference = None
    for name, made in sets:
        if (draw, name) not in have:
            if reference is None:
                val = simulated(first, PATIENTS, seed=cohort)
                reference = prepare_reference(train, val, config)
            add(path, row_of(draw, name, made, reference, config))


def known_sets(train: SliceSet, oracle: SliceSet) -> Iterator[tuple[str, SliceSet]]:
    """Yield name and slices of each known generator, the same at every call."""
    for index, (name, (make, _)) in enumerate(generators(train, oracle).items()):
        if name.removeprefix("copy, ") in {*CHANGES, *PAIRS[1:]}:
            continue  # the simplest copies: 14 more sets, all of them found
        yield name, make(np.random.default_rng([index, len(train)]))


def graded_sets(oracle: SliceSet) -> Iterator[tuple[str, SliceSet]]:
    """Yield the oracle's slices without a fault, then with each fault in growing strength."""
    images, masks = oracle.images, oracle.masks
    rng = np.random.default_rng(len(oracle))
    noise = rng.normal(size=images.shape)
    marked = rng.permutation(np.flatnonzero(masks.any(axis=(1, 2))))
    sites = oracle.table["site"].to_numpy()
    others = rng.permutation(np.flatnonzero(sites != oracle.table["site"].mode()[0]))
    yield "no fault", oracle
    for step in STEPS:
        sigma, deviation, pixels = 1.2 * step, 0.02 * step, round(5 * step)
        blurred = ndimage.gaussian_filter(images, sigma, axes=(2, 3))
        yield f"blur of {sigma:.2f} px", changed(oracle, images=blurred)
        yield f"noise of {deviation:.3f}", changed(oracle, images=images + 2 * deviation * noise)
        yield f"masks {pixels} px aside", changed(oracle, masks=np.roll(masks, pixels, axis=2))
        exchanged, some = masks.copy(), marked[: round(step * len(marked))]
        exchanged[some] = masks[np.roll(some, 1)]
        yield f"{step:.0%} of masks exchanged", changed(oracle, masks=exchanged)
        kept = np.setdiff1d(np.arange(len(oracle)), others[: round(step * len(others))])
        yield f"{step:.0%} of small sites left out", oracle.select(kept)


def changed(
    slices: SliceSet, *, images: np.ndarray | None = None, masks: np.ndarray | None = None
) -> SliceSet:
    """Return slices with other images, clipped to -1 to 1, or other masks."""
    return SliceSet(
        slices.images if images is None else images.clip(-1, 1).astype(np.float32),
        slices.masks if masks is None else masks,
        slices.table,
    )


def print_tables(folder: Path) -> None:
    """Print how often each set got its most frequent verdict, and how often sets did in all."""
    for what in ("known", "graded"):
        files = {path.stem: pd.read_csv(path) for path in sorted(folder.glob(f"{what}-*.csv"))}
        if not files:
            continue
        rows = pd.concat([table.assign(cohort=name) for name, table in files.items()])
        sets = rows.groupby(["generator", "cohort"], sort=False)["verdict"]
        table = pd.DataFrame({
            "draws": sets.size(),
            "most frequent verdict": sets.agg(lambda verdicts: verdicts.mode()[0]),
            "share": sets.agg(lambda verdicts: (verdicts == verdicts.mode()[0]).mean()),
        })  # fmt: skip
        print(f"\n{what}\n")
        print(table.reset_index().round(3).to_markdown(index=False))
        same = int((table["share"] * table["draws"]).round().sum())
        interval = binomtest(same, len(rows)).proportion_ci(method="exact")
        print(
            f"\n{same} of {len(rows)} verdicts ({same / len(rows):.1%}, {interval.low:.1%} to"
            f" {interval.high:.1%}) are the most frequent of their set; it is that in at least"
            f" 95 of 100 draws of {(table['share'] >= 0.95).sum()} of {len(table)} sets.\n"
        )
        usual = rows.groupby(["generator", "cohort"])["verdict"].transform(lambda v: v.mode()[0])
        for row in rows[rows["verdict"] != usual].itertuples():
            print(f"- {row.generator}, draw {row.seed}: {row.verdict} {str(row.reasons)[:150]}")


if __name__ == "__main__":
    main()
