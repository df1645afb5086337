"""Run the gate on generators of known quality, and print tables in Markdown.

    python -m benchmarks.gate_on_known_generators known DIR --seeds 5
    python -m benchmarks.gate_on_known_generators alarms DIR --draws 100
    python -m benchmarks.gate_on_known_generators slices DIR --slices data/slices --fold 0
    python -m benchmarks.gate_on_known_generators tables DIR

Each seed of `known` and each draw of `alarms` is a fresh cohort of the phantom's simulator
(`benchmarks.phantom_cohorts`). `slices` takes real patients from `data/slices`; the test patients
are then the oracle. Every verdict is appended to a CSV file in DIR at once, so a stopped run
continues where it ended; `tables` prints the rows so far.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import binomtest

from benchmarks.phantom_cohorts import read_or_simulate
from tasks.common.slice_set import SliceSet, read_slices
from tasks.gate.evaluate import evaluate
from tasks.gate.reference import Reference, prepare_reference
from tasks.params.gate import Gate
from tests.tasks.known_generators import CHANGES, PAIRS, copier, generators
from tests.tasks.synthetic_cohort import as_synthetic

FIRST_ORACLE = 1000
SHARES = (0.05, 0.1, 0.25, 0.5)


def main() -> None:
    """Run the gate where a verdict is missing, or print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("known", "alarms", "slices", "tables"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--slices", type=Path)
    parser.add_argument("--fold", default="0")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.what == "known":
        for seed in range(arguments.seeds):
            path = arguments.folder / f"known-{arguments.size}.csv"
            judge_all(
                path,
                seed,
                lambda s=seed: read_or_simulate(s, arguments.folder, size=arguments.size),
            )  # type: ignore[misc]
    elif arguments.what == "alarms":
        for seed in range(FIRST_ORACLE, FIRST_ORACLE + arguments.draws):
            path = arguments.folder / f"alarms-{arguments.size}.csv"
            if (seed, "oracle") not in done(path):
                train, val, oracle = read_or_simulate(seed, arguments.folder, size=arguments.size)
                config = Gate(seed=seed, threads=1, draws=20)
                add(
                    path,
                    row_of(seed, "oracle", oracle, prepare_reference(train, val, config), config),
                )
    elif arguments.what == "slices":
        names = ("train", "val", "test")
        judge_all(
            arguments.folder / f"slices-{arguments.fold}.csv",
            int(arguments.fold),
            lambda: tuple(read_slices(arguments.fold, name, arguments.slices) for name in names),  # type: ignore[return-value]
        )
    else:
        tables(arguments.folder)


def judge_all(
    path: Path, seed: int, sides: Callable[[], tuple[SliceSet, SliceSet, SliceSet]]
) -> None:
    """Add a row for each known generator, and for copies planted among the oracle's images."""
    train, val, oracle = sides()
    config = Gate(seed=seed, threads=1, draws=20)
    real = None
    have = done(path)
    for index, (name, (make, expected)) in enumerate(generators(train, oracle).items()):
        if (seed, name) not in have:
            real = real or prepare_reference(train, val, config)
            made = make(np.random.default_rng([seed, index]))
            add(path, row_of(seed, name, made, real, config, expected=expected))
    for share in SHARES:
        name = f"oracle, {share:.0%} copies"
        if (seed, name) not in have:
            real = real or prepare_reference(train, val, config)
            rng = np.random.default_rng([seed, 99])
            mixed = with_planted_copies(share, oracle, train, rng)
            add(path, row_of(seed, name, mixed, real, config, innocent=len(oracle)))


def row_of(
    seed: int,
    name: str,
    made: SliceSet,
    real: Reference,
    config: Gate,
    *,
    expected: tuple[str, ...] = (),
    innocent: int | None = None,
) -> dict[str, Any]:
    """Return the row of one generator: the verdict, and the shares of copies found and accused."""
    result = evaluate(as_synthetic(made), real, config)
    guilty = (result.samples["reason"] == "memorised").to_numpy()
    reasons = "; ".join(result.reasons)
    innocent = (0 if name.startswith("copy") else len(made)) if innocent is None else innocent
    right = any(word in reasons for word in expected) if expected else not result.reasons
    by = result.samples["memorised_by"].str.split(",").explode().value_counts()
    return {
        "seed": seed,
        "generator": name,
        "verdict": result.verdict,
        "right": right,
        "n": len(made),
        "accepted": result.images["accepted"] / len(made),
        "found": guilty[innocent:].mean() if innocent < len(made) else np.nan,
        "accused": guilty[:innocent].mean() if innocent else np.nan,
        "by": json.dumps({str(word): int(count) for word, count in by.items() if word}),
        "reasons": reasons,
        "ratios": json.dumps({key: one.ratio for key, one in result.measures.items()}),
    }


def with_planted_copies(
    share: float, oracle: SliceSet, train: SliceSet, rng: np.random.Generator
) -> SliceSet:
    """Return the oracle's images, followed by copies of all kinds in equal parts."""
    count = round(share / (1 - share) * len(oracle))
    hows = rng.permutation([*CHANGES, *PAIRS])
    parts = [copier(train, how, -(-count // len(hows)), rng) for how in hows]
    table = pd.concat([oracle.table, *(part.table for part in parts)], ignore_index=True)
    mixed = SliceSet(
        np.concatenate([oracle.images, *(part.images for part in parts)]),
        np.concatenate([oracle.masks, *(part.masks for part in parts)]),
        table,
    )
    keep = np.arange(len(oracle) + count)
    copies = rng.permutation(np.arange(len(oracle), len(mixed)))[:count]
    keep[len(oracle) :] = copies
    return mixed.select(keep)


def done(path: Path) -> set[tuple[int, str]]:
    """Return the seeds and generators whose verdicts the file holds."""
    if not path.exists():
        return set()
    rows = pd.read_csv(path)
    return set(zip(rows["seed"], rows["generator"], strict=True))


def add(path: Path, row: dict[str, Any]) -> None:
    """Append one verdict."""
    pd.DataFrame([row]).to_csv(path, mode="a", header=not path.exists(), index=False)
    print(row["seed"], row["generator"], row["verdict"], row["reasons"][:100], flush=True)


def tables(folder: Path) -> None:
    """Print the files as tables in Markdown."""
    for path in sorted(folder.glob("*.csv")):
        rows = pd.read_csv(path)
        print(f"\n{path.name}\n")
        if path.name.startswith("alarms"):
            alarms(rows)
        else:
            show(rows)


def show(rows: pd.DataFrame) -> None:
    """Print one line per generator over all seeds."""
    print(
        "| generator | rejected | for the right reason | accepted | found | accused | called by |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, group in rows.groupby("generator", sort=False):
        by = pd.DataFrame([json.loads(one) for one in group["by"]]).sum().sort_values()[::-1]
        share = by / group["n"].sum()
        called = ", ".join(f"{word} {part:.0%}" for word, part in share.items() if part >= 0.005)
        rejected = (group["verdict"] == "rejected").sum()
        plain = name == "oracle" or "copies" in str(name)
        right = "" if plain else f"{group['right'].sum()} of {len(group)}"
        print(
            f"| {name} | {rejected} of {len(group)} | {right} | {group['accepted'].mean():.0%} |"
            f" {spread(group['found'])} | {spread(group['accused'])} | {called} |"
        )
    print()
    for name, group in rows.groupby("generator", sort=False):
        if name == "oracle" or "one site" in str(name):
            shares = pd.Series([json.loads(one)["site_coverage"] for one in group["ratios"]])
            print(f"site_coverage of {name}: {shares.min():.2f} to {shares.max():.2f}")


def spread(values: pd.Series) -> str:
    """Format the mean, with lowest and highest value where they differ."""
    if values.isna().all():
        return ""
    low, high = f"{values.min():.1%}", f"{values.max():.1%}"
    return low if low == high else f"{values.mean():.1%} ({low} to {high})"


def alarms(rows: pd.DataFrame) -> None:
    """Print how often the oracle is accepted, and the quantiles of each measure's ratio."""
    accepted = int((rows["verdict"] == "accepted").sum())
    chance = binomtest(accepted, len(rows)).proportion_ci(method="exact")
    print(f"Oracle accepted in {accepted} of {len(rows)} cohorts, 95 % interval (Clopper-Pearson)")
    print(f"{chance.low:.1%} to {chance.high:.1%}; of its slices")
    print(f"{rows['accused'].mean():.2%} are accused, at most {rows['accused'].max():.1%}.\n")
    for reasons in rows.loc[rows["verdict"] == "rejected", "reasons"]:
        print(f"- {reasons}")
    ratios = pd.DataFrame([json.loads(one) for one in rows["ratios"]]).astype(float)
    print("\n| measure | 1 % | 2.5 % | median | 97.5 % | 99 % |\n|---|---|---|---|---|---|")
    for name in ratios:
        cuts = np.nanquantile(ratios[name], [0.01, 0.025, 0.5, 0.975, 0.99])
        print(f"| {name} | " + " | ".join(f"{cut:.3g}" for cut in cuts) + " |")


if __name__ == "__main__":
    main()
