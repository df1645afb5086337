"""Train one task's network on one arm, for each fold and seed, and judge it on test patients.

Reads `data/slices` and `data/pool/ARM`; writes `data/downstream/TASK-ARM/`.
"""

import json
from pathlib import Path
from typing import get_args

import pandas as pd
import pandera.pandas as pa

from tasks import params, stage
from tasks.arms import Arm
from tasks.arrays import SliceSet, load_set
from tasks.compute import prepare
from tasks.downstream.leaks import refuse_leaks, refuse_seen, relabel
from tasks.downstream.run import Fold, Run, Task, learn
from tasks.params.downstream import Downstream, Training
from tasks.params.downstream import Task as TaskName
from tasks.stage import StageError
from tasks.tables.predictions import Patients

SLICES = Path("data/slices")
HISTORY = ["fold", "seed", "attempt", "step", "train_loss", "val_metric"]


def main(task: str, arm: str) -> None:
    """Run the stage from the repository's root."""
    config = params.read(Downstream)
    folds = [str(fold) for fold in params.read_key("slices.folds")]
    network = task_named(task)
    spec = Arm.parse(arm)
    training: Training = getattr(config, task)
    device = prepare(config.threads)
    slices = load_set(SLICES, "slices.parquet")
    pool = load_set(Path("data/pool") / arm, "samples.parquet")
    given = json.loads((Path("data/pool") / arm / "pool.json").read_text())
    pixel_mm = float(json.loads((SLICES / "stats.json").read_text())["pixel_mm"])
    seeds = range(config.permutations) if spec.random_labels else config.seeds
    reruns = 0 if spec.random_labels else config.reruns  # there is nothing to learn
    status: dict[str, str] = {}
    runs: list[Run] = []
    for name in folds:
        refuse_leaks(slices.table, slices.images, name)
        fold = gather(name, slices, pool, pixel_mm)
        refuse_seen(fold.added.images, slices.table, slices.images, name)
        if spec.random_labels and task != "classify":
            status[name] = "not run"
            continue
        if spec.added and (given[name]["status"] == "too few" or not has_both(fold.added)):
            status[name] = "too few"
            continue
        ended = [
            learn(
                network, spec, relabel(fold, seed) if spec.random_labels else fold, training,
                seed=seed, reruns=reruns, device=device,
            )
            for seed in seeds
        ]  # fmt: skip
        runs += ended
        converged = spec.random_labels or all(run.learnt for run in ended)
        status[name] = "ok" if converged else "not converged"
        judged = ", ".join(f"{run.val_metric:.3f}" for run in ended)
        print(f"downstream: {task} {arm}, fold {name}: validation {judged}")
    write(Path("data/downstream") / f"{task}-{arm}", network, runs, status)


def task_named(name: str) -> Task:
    """The module of a task; only it is imported."""
    if name not in get_args(TaskName):
        raise StageError(f"task {name!r} is unknown; allowed: {', '.join(get_args(TaskName))}")
    if name == "classify":
        from tasks.downstream import classify

        return classify
    from tasks.downstream import segment

    return segment


def gather(name: str, slices: SliceSet, pool: SliceSet, pixel_mm: float) -> Fold:
    """The labelled slices of a fold's partitions, and the arm's added ones.

    Raises:
        StageError: when training or validation patients show only one of the two labels.
    """
    side = slices.table[f"partition_{name}"].to_numpy()
    labelled = slices.table["label"].to_numpy() >= 0
    parts = {part: slices.take(labelled & (side == part)) for part in ("train", "val", "test")}
    for part in ("train", "val"):
        if not has_both(parts[part]):
            raise StageError(
                f"fold {name}: the {part} patients need slices with and without tumour,"
                f" found {int((parts[part].table['label'] == 1).sum())} with and"
                f" {int((parts[part].table['label'] == 0).sum())} without; add patients to"
                " data.batches or change slices.seed"
            )
    added = pool.take((pool.table["fold"] == name).to_numpy())
    return Fold(name, parts["train"], parts["val"], parts["test"], added, pixel_mm)


def has_both(slices: SliceSet) -> bool:
    """Whether there are slices of both labels, as balanced batches need."""
    return set(slices.table["label"]) >= {0, 1}


def write(folder: Path, task: Task, runs: list[Run], status: dict[str, str]) -> None:
    """Check the tables against their schemas and write them, empty ones too."""
    predictions = stack([run.predictions for run in runs], task.SCHEMA)
    patients = stack([run.patients for run in runs], Patients)
    history = pd.concat([pd.DataFrame(columns=HISTORY)] + [run.history for run in runs])
    with stage.output(folder) as partial:
        predictions.to_parquet(partial / "predictions.parquet", index=False)
        patients.to_parquet(partial / "patients.parquet", index=False)
        history.to_csv(partial / "history.csv", index=False, float_format="%.6g")
        (partial / "status.json").write_text(json.dumps(status, indent=1) + "\n")


def stack(tables: list[pd.DataFrame], schema: type[pa.DataFrameModel]) -> pd.DataFrame:
    """The tables under one another; without any, an empty one of the schema's columns."""
    if not tables:
        return schema.empty()
    return schema.validate(pd.concat(tables, ignore_index=True))


if __name__ == "__main__":
    stage.run(main)
