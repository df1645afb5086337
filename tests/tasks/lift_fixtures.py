"""Made-up downstream results with known effects, for the tests of the comparison."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

ARMS = ["real", "real+classical", "real+synthetic", "real+classical+synthetic", "synthetic"]
METRICS = ("dice_volume", "dice", "dice_slice", "hd95_mm", "false_positive_mm2")


def subjects(count: int) -> list[str]:
    return [f"sub-{index:03d}" for index in range(count)]


def write_params(
    root: Path,
    tasks: list[str],
    arms: list[str] = ARMS,
    draws: int = 500,
    seeds: Sequence[int] = (0, 1),
    **lift: int,
) -> None:
    tree = {
        "downstream": {"tasks": tasks, "arms": arms, "seeds": list(seeds)},
        "lift": {"draws": draws, "seed": 3} | lift,
    }
    (root / "params.yaml").write_text(yaml.safe_dump(tree))


def segment_arm(values: Mapping[tuple[str, int], np.ndarray], names: list[str]) -> pd.DataFrame:
    """The patients' table of one arm from the Dice (P,) of each run."""
    return pd.DataFrame(
        [
            {"fold": fold, "seed": seed, "subject": name, "site": "a", "metric": metric,
             "value": value}
            for (fold, seed), row in values.items()
            for name, value in zip(names, row, strict=True)
            for metric in METRICS
        ]
    )  # fmt: skip


def write_segment(
    root: Path, arm: str, table: pd.DataFrame, status: str = "ok", **ended: object
) -> None:
    folder = root / "data/downstream" / f"segment-{arm}"
    folder.mkdir(parents=True, exist_ok=True)
    table.to_parquet(folder / "patients.parquet")
    slices = table[["fold", "seed", "subject"]].drop_duplicates()
    area = 10 + slices.groupby(["fold", "seed"]).cumcount()
    slices.assign(
        row=np.arange(len(slices)), label=1, true_area=area, predicted_area=area,
        overlap_area=area, hd95_mm=0.0, threshold=0.5,
    ).to_parquet(folder / "predictions.parquet")  # fmt: skip
    write_ended(folder, table, status, **ended)


def write_classify(
    root: Path, arm: str, table: pd.DataFrame, status: str = "ok", **ended: object
) -> None:
    folder = root / "data/downstream" / f"classify-{arm}"
    folder.mkdir(parents=True, exist_ok=True)
    table.to_parquet(folder / "predictions.parquet")
    patients = table[["fold", "seed", "subject"]].drop_duplicates()
    site = np.where(patients["subject"].str[-1].astype(int) % 2, "b", "a")
    patients.assign(site=site, metric="brier", value=0.2).to_parquet(folder / "patients.parquet")
    write_ended(folder, table, status, **ended)


def write_ended(
    folder: Path, table: pd.DataFrame, status: str, *, rise: float = 0.0, failed: tuple = ()
) -> None:
    """`status.json`, and `runs.parquet` with some seeds that learnt nothing."""
    runs = table[["fold", "seed"]].drop_duplicates()
    learnt = ~runs["seed"].isin(failed)
    runs = runs.assign(val_metric=0.7, rise=rise, learnt=learnt.astype(bool))
    runs.to_parquet(folder / "runs.parquet")
    folds = sorted(table["fold"].unique()) or ["0"]
    (folder / "status.json").write_text(json.dumps(dict.fromkeys(folds, status)))


def classify_arm(
    names: list[str],
    rng: np.random.Generator,
    *,
    shift: float,
    slices: int = 8,
    seeds: tuple[int, ...] = (0, 1),
    fold: str = "0",
) -> pd.DataFrame:
    """Predictions whose tumour slices lie `shift` standard deviations above the others."""
    rows = []
    for seed in seeds:
        for position, name in enumerate(names):
            label = np.arange(slices) % 2
            logit = rng.normal(shift * (label - 0.5), 1.0)
            rows.append(
                pd.DataFrame(
                    {"fold": fold, "seed": seed, "subject": name,
                     "row": np.arange(slices) + position * slices, "label": label,
                     "true_area": label * (10 + position),
                     "probability": 1 / (1 + np.exp(-logit)), "threshold": 0.5}
                )
            )  # fmt: skip
    return pd.concat(rows, ignore_index=True)


def results(root: Path) -> dict:
    return json.loads((root / "data/lift.json").read_text())


def write_dice(
    root,
    lifts,
    *,
    patients=20,
    seeds=(0, 1, 2),
    requested=None,
    folds=("0",),
    noise=0.02,
    arms=None,
):
    """Arms whose Dice is a shared patient profile, plus a lift, plus a little noise."""
    rng = np.random.default_rng(1)
    arms = arms or list(lifts)
    write_params(root, ["segment"], arms, seeds=requested or seeds)
    names = subjects(patients)
    own = {f: names[k :: len(folds)] for k, f in enumerate(folds)}
    level = {f: rng.uniform(0.3, 0.8, len(own[f])) for f in folds}
    for arm in arms:
        tables = [
            segment_arm(
                {(f, s): level[f] + lifts[arm] + noise * rng.normal(size=len(own[f]))}, own[f]
            )
            for f in folds
            for s in seeds
        ]
        write_segment(root, arm, pd.concat(tables, ignore_index=True))


def fail(root, arm, seeds, of=None):
    """Mark seeds of an arm as ones that learnt nothing, in one fold or in all."""
    path = root / f"data/downstream/segment-{arm}/runs.parquet"
    runs = pd.read_parquet(path)
    failed = runs["seed"].isin(seeds) & (runs["fold"] == of if of else True)
    runs.assign(learnt=~failed).to_parquet(path)
