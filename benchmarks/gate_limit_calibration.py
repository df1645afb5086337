"""Compute the limits of measures that chance alone would give, and what they would detect.

    python -m benchmarks.gate_limit_calibration DIR --blocks 10

Patients come from simulated cohorts in DIR (`benchmarks.phantom_cohorts`). Results are written
there, one file per block, so a later run continues. A block trains on 26 patients. For each number
of validation patients it draws ten times those patients and 30 more, whose slices are the oracle.
The ratios of the oracle to real slices are the null distribution; their 95 % quantile is the limit
of a measure from chance. The same slices, slightly damaged, show the power of such a limit. Checks
of single slices are left out: only sets are judged.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from benchmarks.phantom_cohorts import read_or_simulate
from tasks.common.slice_set import SliceSet
from tasks.gate.measure_catalogue import catalogue
from tasks.gate.reference_models import ReferenceModels, fit_reference_models
from tasks.gate.set_measures import Sets, SubsampleSet, evaluate_measure_group, usable_subsamples
from tasks.gate.slice_features import SliceFeatures, compute_slice_features
from tasks.measures.patient_subsampling import subsamples
from tasks.measures.similarity import ncc_search
from tasks.measures.similarity.ssim_search import nearest_ssim
from tasks.params.gate import Gate
from tests.tasks.known_generators import collapsed, damaged

CONFIG = Gate(seed=0, threads=1)
TRAIN, VALIDATION, ORACLE, MADE = (
    26,
    60,
    60,
    30,
)  # patients of a block; last, of one draw of the oracle
NUMBERS = (8, 12, 20, 40)
REPEATS = 10
POINTS = 6  # subsamples averaged into a figure
MASKS = ("mask_label", "mask_contrast", "mask_agreement")


def main() -> None:
    """Run the missing blocks, then print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--blocks", type=int, default=10)
    parser.add_argument("--cohorts", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    paths = [arguments.folder / f"calibration-{index}.csv" for index in range(arguments.blocks)]
    missing = [index for index, path in enumerate(paths) if not path.exists()]
    if missing:
        all_patients = pool([1000 + index for index in range(arguments.cohorts)], arguments.folder)
        for index in missing:
            with threadpool_limits(1, user_api="blas"):
                block(all_patients, index).to_csv(paths[index], index=False)
    found = pd.concat([pd.read_csv(path) for path in paths], ignore_index=True)
    show(found, blocks=arguments.blocks)


def pool(seeds: list[int], folder: Path) -> SliceSet:
    """Return all patients of some cohorts as one set."""
    sides = [
        SliceSet(one.images, one.masks, one.table.assign(subject=f"{seed}-" + one.table["subject"]))
        for seed in seeds
        for one in read_or_simulate(seed, folder)
    ]
    return joined(sides)


def joined(sides: list[SliceSet]) -> SliceSet:
    """Concatenate several sets."""
    return SliceSet(
        np.concatenate([side.images for side in sides]),
        np.concatenate([side.masks for side in sides]),
        pd.concat([side.table for side in sides], ignore_index=True),
    )


def block(all_patients: SliceSet, index: int) -> pd.DataFrame:
    """Compute every generator's ratios for one training set, at every number of patients."""
    rng = np.random.default_rng(index)
    patients = rng.permutation(all_patients.table["subject"].unique())
    ends = np.cumsum([TRAIN, VALIDATION, ORACLE])
    train, val, oracle = (
        all_patients.select(all_patients.table["subject"].isin(part).to_numpy())
        for part in np.split(patients, ends)[:3]
    )
    seen, unseen = (
        compute_slice_features(train, device="cpu"),
        compute_slice_features(val, device="cpu"),
    )
    models, seen, unseen = fit_reference_models(train, val, seen, unseen, CONFIG, device="cpu")
    unseen = like_training(unseen, train, seen)
    measure_groups = catalogue(CONFIG, models.hashes(), side=train.images.shape[-1])
    known = {
        name: described(made, models, train, seen) for name, made in generators(oracle, rng).items()
    }
    rows = []
    for n in NUMBERS:
        for repeat in range(REPEATS):
            reference = chosen(unseen, n, rng)
            made = pd.Series(rng.permutation(oracle.table["subject"].unique())[:MADE])
            for name, slices in known.items():
                mine = slices.select(slices.table["owner"].isin(made).to_numpy())
                sets = Sets(replace(mine, table=mine.table.drop(columns="owner")), seen, reference)
                for measure, ratio in ratios(sets, measure_groups, seed=repeat).items():
                    rows.append((index, n, repeat, name, measure, ratio))
    return pd.DataFrame(rows, columns=["block", "n", "repeat", "generator", "measure", "ratio"])


def generators(oracle: SliceSet, rng: np.random.Generator) -> dict[str, SliceSet]:
    """Return the oracle and weak generators; `owner` is the patient a slice was made from."""
    own = SliceSet(oracle.images, oracle.masks, oracle.table.assign(owner=oracle.table["subject"]))
    site = own.table["site"].to_numpy()
    weak = {
        "oracle": own,
        "blurred by .5 px": softer(own, 0.5),
        "noise .02": SliceSet(
            (own.images + rng.normal(0, 0.04, own.images.shape)).clip(-1, 1).astype(np.float32),
            own.masks, own.table,
        ),
        "masks swapped": damaged(own, "masks swapped", rng),
        "one site (A)": own.select(site == "A"),
        "one site (B)": own.select(site == "B"),
        "large tumours": large(own),
    }  # fmt: skip
    repeated = collapsed(own, len(own), rng)
    # Every draw of patients must contain all ten images.
    anyone = rng.permutation(own.table["owner"])
    weak["ten images"] = SliceSet(
        repeated.images, repeated.masks, repeated.table.assign(owner=anyone)
    )
    return weak


def softer(own: SliceSet, sigma: float) -> SliceSet:
    """Blur the images lightly."""
    from scipy.ndimage import gaussian_filter

    blurred = gaussian_filter(own.images, sigma, axes=(2, 3), mode="nearest")
    return SliceSet(blurred, own.masks, own.table)


def large(own: SliceSet) -> SliceSet:
    """Drop the smaller half of the tumours."""
    area = own.masks.sum(axis=(1, 2))
    return own.select((area == 0) | (area > np.median(area[area > 0])))


def described(
    made: SliceSet, models: ReferenceModels, train: SliceSet, seen: SliceFeatures
) -> SliceFeatures:
    """Compute features as the gate does for synthetic slices: without patients and sites."""
    bare = SliceSet(made.images, made.masks, made.table[["row", "label", "owner"]])
    one = models.add_outputs(compute_slice_features(bare, device="cpu"), bare, device="cpu")
    return like_training(one, train, seen)


def like_training(one: SliceFeatures, train: SliceSet, seen: SliceFeatures) -> SliceFeatures:
    """Add the SSIM to the nearest training slice and whether upright."""
    found = ncc_search.nearest_by_ncc(one.images, train.images, max_shift=CONFIG.max_shift)
    near = nearest_ssim(
        one.images, train.images, one.bodies, seen.bodies,
        correlated=found, max_shift=CONFIG.max_shift,
    )  # fmt: skip
    table = one.table.assign(
        nearest_train_ssim=near.scores.astype(np.float64),
        upright=(found.upright >= found.inverted).astype(np.float64),
    )
    return replace(one, table=table)


def chosen(unseen: SliceFeatures, n: int, rng: np.random.Generator) -> SliceFeatures:
    """Choose `n` of the validation patients at random."""
    patients = rng.permutation(unseen.table["subject"].unique())[:n]
    return unseen.select(unseen.table["subject"].isin(patients).to_numpy())


def ratios(sets: Sets, measure_groups: list, *, seed: int) -> dict[str, float]:  # type: ignore[type-arg]
    """Compute the ratio of every measure that has a limit."""
    tables = (sets.synthetic.table, sets.train.table, sets.val.table)
    drawn = SubsampleSet(usable_subsamples(subsamples(*tables, count=POINTS, share=1.0, seed=seed)))
    found = {}
    for measure_group in measure_groups:
        if any(rule is not None for rule, _ in measure_group.names.values()):
            found |= {
                name: one.ratio
                for name, one in evaluate_measure_group(sets, measure_group, drawn).items()
            }
    return {name: np.nan if ratio is None else ratio for name, ratio in found.items()}


def show(ratios: pd.DataFrame, *, blocks: int) -> None:
    """Print the null quantiles, then what they and the limits of `params.yaml` reject."""
    rules = {
        name: rule
        for measure_group in catalogue(
            CONFIG, {next(iter(ratios["measure"].unique())): "0" * 12}, side=64
        )
        for name, (rule, _) in measure_group.names.items()
        if rule is not None
    }
    null = ratios[ratios["generator"] == "oracle"]
    print(f"{blocks} training sets, {blocks * REPEATS} draws a column\n")
    print("| measure | side | " + " | ".join(f"{n} patients" for n in NUMBERS) + " | limit |")
    print("|---|---|" + "---|" * (len(NUMBERS) + 1))
    limits: dict[tuple[str, int], tuple[float, float]] = {}
    for name, rule in rules.items():
        cells = []
        for n in NUMBERS:
            values = null[(null["measure"] == name) & (null["n"] == n)]["ratio"].dropna()
            tail = 0.025 if rule.end == "both" else 0.05
            low, high = np.quantile(values, [tail, 1 - tail])
            limits[name, n] = (
                low if rule.end != "high" else -np.inf,
                high if rule.end != "low" else np.inf,
            )
            shown = {"low": f"{low:.2f}", "high": f"{high:.2f}"}
            cells.append(shown.get(rule.end, f"{low:.2f} to {high:.2f}"))
        low, high = rule.limit(None) or (None, None)
        limit = " to ".join(f"{end:g}" for end in (low, high) if end is not None)
        print(f"| {name} | {rule.end} | {' | '.join(cells)} | {limit} |")
    given = {name: rule.limit(None) or (None, None) for name, rule in rules.items()}
    for title, broken in (
        ("limits from chance", lambda row: outside(row, limits[row.measure, row.n])),
        ("limits of params", lambda row: outside(row, given[row.measure])),
    ):
        ratios["broken"] = [broken(row) for row in ratios.itertuples()]
        print(
            f"\nRejected by sets alone, {title}; in brackets the measure that breaks most often:\n"
        )
        print("| generator | " + " | ".join(f"{n} patients" for n in NUMBERS) + " |")
        print("|---|" + "---|" * len(NUMBERS))
        for name, group in ratios.groupby("generator", sort=False):
            print(f"| {name} | {' | '.join(cell(group[group['n'] == n]) for n in NUMBERS)} |")


def outside(row: object, limit: tuple[float | None, float | None]) -> bool:
    """Check whether a ratio is outside a limit."""
    low, high = limit
    ratio = row.ratio  # type: ignore[attr-defined]
    return bool((low is not None and ratio < low) or (high is not None and ratio > high))


def cell(group: pd.DataFrame) -> str:
    """Format the share of rejected draws, and the measure that rejects most often."""
    rate = group.groupby(["block", "repeat"])["broken"].any().mean()
    alone = group.groupby("measure")["broken"].mean()
    return f"{rate:.0%} ({alone.idxmax()} {alone.max():.0%})" if rate else "0%"


if __name__ == "__main__":
    main()
