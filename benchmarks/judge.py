"""Judge the judge: known generators from the phantom's simulator, as a table in Markdown.

    python -m benchmarks.judge --seeds 5 --oracles 20

Each seed is a fresh cohort: 26 training and 15 validation patients, as in the demo, and 30 more
whose slices are an oracle generator's. `--oracles` counts further cohorts on which only the oracle
is judged: the rate of false alarms. `--slices DIR --fold NAME` adds real data from `data/slices`,
where the oracle is the test patients.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tasks.arrays import SliceSet, load_slices
from tasks.gate.judge import judge, reference
from tasks.params.gate import Gate
from tests.tasks.cohort import as_synthetic, simulated
from tests.tasks.known_generators import collapsed, copier, damaged

COPIES = (
    "as-is", "flip", "shift", "blur", "gain", "noise", "flip+shift", "shift+noise", "blur+noise",
    "flip+gain", "rotate", "scale", "blend",
)  # fmt: skip
FAULTS = (
    "blurred", "noisy", "pure noise", "checkerboard", "upside-down", "masks shifted",
    "masks swapped", "masks empty", "black",
)  # fmt: skip


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--oracles", type=int, default=0)
    parser.add_argument("--slices", type=Path)
    parser.add_argument("--fold", default="0")
    words = parser.parse_args()
    torch.set_num_threads(1)
    if words.slices:
        sides = [load_slices(words.fold, name, words.slices) for name in ("train", "val", "test")]
        show(pd.DataFrame(judged(*sides, seed=0)))
        return
    rows = [row for seed in range(words.seeds) for row in judged(*cohort(seed), seed=seed)]
    if rows:
        show(pd.DataFrame(rows))
    alarms = [alone(*cohort(1000 + seed), seed=seed) for seed in range(words.oracles)]
    if alarms:
        found = pd.DataFrame(alarms)
        accepted = int((found["verdict"] == "accepted").sum())
        print(f"\noracle accepted in {accepted} of {len(found)} cohorts; FD ratio 95 %:", end=" ")
        print(np.quantile(found["fd"], [0.025, 0.5, 0.975]).round(2))
        for reason in found.loc[found["verdict"] == "rejected", "reason"]:
            print(f"  {reason}")


def cohort(seed: int) -> tuple[SliceSet, SliceSet, SliceSet]:
    """Training, validation and oracle slices of patients of one seed."""
    return tuple(simulated(*span, seed=seed) for span in ((0, 26), (26, 15), (100, 30)))  # type: ignore[return-value]


def alone(train: SliceSet, val: SliceSet, oracle: SliceSet, *, seed: int) -> dict[str, object]:
    """The oracle's row."""
    config = Gate(seed=seed, threads=1, draws=20)
    return row_of("oracle", oracle, reference(train, val, config), config)


def judged(
    train: SliceSet, val: SliceSet, oracle: SliceSet, *, seed: int
) -> list[dict[str, object]]:
    """A row for each known generator, and for copies planted among the oracle's images."""
    config = Gate(seed=seed, threads=1, draws=20)
    real = reference(train, val, config)
    rng = np.random.default_rng(seed)
    known = {"oracle": oracle}
    known |= {f"copy, {how}": copier(train, how, 100, rng) for how in COPIES}
    known |= {"collapsed": collapsed(oracle, 200, rng)}
    known |= {how: damaged(oracle, how, rng) for how in FAULTS}
    rows = [row_of(name, made, real, config) for name, made in known.items()]
    for share in (0.05, 0.1, 0.25, 0.5):
        rows.append(planted(share, oracle, real, config, rng))
    return rows


def row_of(name: str, made: SliceSet, real: object, config: Gate) -> dict[str, object]:
    """What the gate says of one generator."""
    found = judge(as_synthetic(made), real, config)  # type: ignore[arg-type]
    ratio = next(iter(found.measures.values())).ratio
    words = found.reasons[0].split(":")[0] if found.reasons else ""
    commonest = found.samples["reason"].dropna().mode()
    return {
        "generator": name,
        "verdict": found.verdict,
        "reason": words,
        "fault": commonest[0] if len(commonest) and found.reasons else "",
        "accepted": found.images["accepted"] / found.images["n"],
        "memorised": found.images["memorised"] / found.images["n"],
        "fd": np.nan if ratio is None else ratio,
    }


def planted(
    share: float, oracle: SliceSet, real: object, config: Gate, rng: np.random.Generator
) -> dict[str, object]:
    """Copies, each changed in one of four ways, among the oracle's images."""
    count = round(share / (1 - share) * len(oracle))
    hows = ("shift+noise", "flip+gain", "blur+shift", "flip+noise")
    train = real.train  # type: ignore[attr-defined]
    parts = [copier(train, how, -(-count // 4), rng) for how in hows]
    images = np.concatenate([part.images for part in parts])[:count]
    masks = np.concatenate([part.masks for part in parts])[:count]
    table = pd.concat([part.table for part in parts], ignore_index=True)[:count]
    mixed = SliceSet(
        np.concatenate([oracle.images, images]),
        np.concatenate([oracle.masks, masks]),
        pd.concat([oracle.table, table], ignore_index=True),
    )
    found = judge(as_synthetic(mixed), real, config)  # type: ignore[arg-type]
    guilty = (found.samples["reason"] == "memorised").to_numpy()
    return {
        "generator": f"oracle, {share:.0%} copies",
        "verdict": found.verdict,
        "reason": f"found {guilty[len(oracle) :].mean():.1%}, accused "
        f"{guilty[: len(oracle)].mean():.1%}",
        "fault": "",
        "accepted": found.images["accepted"] / found.images["n"],
        "memorised": found.images["memorised"] / found.images["n"],
        "fd": np.nan,
    }


def show(rows: pd.DataFrame) -> None:
    """One line a generator over all seeds."""
    print(
        "| generator | rejected | first reason | commonest fault | accepted | copies | FD ratio |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, group in rows.groupby("generator", sort=False):
        said = "; ".join(sorted(set(group["reason"]) - {""}))
        faults = ", ".join(sorted(set(group["fault"]) - {""}))
        low, high = group["fd"].min(), group["fd"].max()
        print(
            f"| {name} | {(group['verdict'] == 'rejected').sum()} of {len(group)} | {said} | "
            f"{faults} | {group['accepted'].mean():.0%} | {group['memorised'].mean():.0%} | "
            f"{'–' if np.isnan(low) else f'{low:.1f} to {high:.1f}'} |"  # noqa: RUF001
        )


if __name__ == "__main__":
    main()
