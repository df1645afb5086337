"""Train one task's network on one arm, for each fold and seed, and judge it on test patients.

Reads `data/slices`, `data/pool/ARM` and, for `segment`, the test patients' whole volumes from
`data/volumes`; writes `data/downstream/TASK-ARM/`.
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pandera.pandas as pa

from tasks import params
from tasks.common.arms import Arm
from tasks.common.slice_set import SliceSet, check_pixel_range, read_slice_set
from tasks.common.torch_setup import setup_torch
from tasks.downstream.leakage_checks import (
    check_pool_leakage,
    check_split_leakage,
    random_patient_labels,
    split_by_slice,
)
from tasks.downstream.run_cache import folder_of, load_or_run
from tasks.downstream.train_and_test import Fold, Run, Task, train_and_test
from tasks.downstream.volume_dice import TestVolume, read_test_volumes
from tasks.params.downstream import Downstream, TaskTraining
from tasks.params.downstream import Task as TaskName
from tasks.params.slices import Slices
from tasks.schemas.predictions import Patients, Runs
from tasks.stage.errors import InputError
from tasks.stage.stage_io import atomic_output, discard, explain_read_errors
from tasks.stage.stage_runtime import run_stage

SLICES, VOLUMES = Path("data/slices"), Path("data/volumes")
SIDES = ("train", "val", "test")
HISTORY = ["fold", "seed", "step", "train_loss", "val_metric"]


def main(task: str, arm: str) -> None:
    """Run the stage from the repository's root."""
    config = params.read_section(Downstream)
    grid = params.read_section(Slices)
    network = task_named(task)
    try:
        spec = Arm.parse(arm)
    except ValueError as error:
        raise InputError(str(error)) from None
    training: TaskTraining = getattr(config, task)
    device = setup_torch(config.threads)
    slices = read_slice_set(SLICES, "slices.parquet")
    pool_folder = Path("data/pool") / arm
    pool = read_slice_set(pool_folder, "samples.parquet")
    check_pixel_range(slices, SLICES)
    check_pixel_range(pool, pool_folder)
    given, stats = read_json(pool_folder / "pool.json"), read_json(SLICES / "stats.json")
    seeds = range(config.permutations) if spec.random_labels else config.all_seeds
    kept = folder_of(
        [task, arm, training.model_dump_json(), str(config.threads), str(device)],
        sorted([*SLICES.iterdir(), *pool_folder.iterdir()]),
    )
    status: dict[str, str] = {}
    runs: list[Run] = []
    for name in map(str, grid.folds):
        check_split_leakage(slices.table, slices.images, name)
        fold = gather(name, slices, pool, float(stats["pixel_mm"]), outlined=task == "segment")
        check_pool_leakage(fold.added.images, slices.table, slices.images, name)
        if reason := why_not(task, spec, fold, seeds):
            status[name] = "not run"
            print(f"downstream: {task} {arm}, fold {name}: not run, {reason}")
            continue
        if spec.added and (given[name]["status"] == "too few" or not has_both(fold.added)):
            status[name] = "too few"
            print(f"downstream: {task} {arm}, fold {name}: not trained, too few added slices")
            continue
        if task == "segment" and not spec.is_diagnostic:
            fold = replace(fold, volumes=volumes_of_test_patients(fold.test.table, grid, stats))
        ended = [
            load_or_run(
                kept / f"{name}-{seed}",
                partial(
                    train_and_test, network, spec, apply_diagnostic_arm(fold, spec, seed),
                    training, seed=seed, device=device,
                ),
            )
            for seed in seeds
        ]  # fmt: skip
        runs += ended
        status[name] = "ok"
        judged = ", ".join(f"{float(run.ended['val_metric'].iloc[0]):.3f}" for run in ended)
        print(f"downstream: {task} {arm}, fold {name}: validation {judged}")
    write(Path("data/downstream") / f"{task}-{arm}", network, runs, status)
    discard(kept)


def read_json(path: Path) -> dict[str, Any]:
    """An object in a file."""
    with explain_read_errors(path):
        found: dict[str, Any] = json.loads(path.read_text())
    return found


def apply_diagnostic_arm(fold: Fold, spec: Arm, seed: int) -> Fold:
    """The fold, with the labels or the split that the arm asks for."""
    if spec.random_labels:
        fold = random_patient_labels(fold, seed)
    return split_by_slice(fold, seed) if spec.slice_split else fold


def why_not(task: str, spec: Arm, fold: Fold, seeds: Iterable[int]) -> str:
    """Why an arm with other labels or another split cannot be trained; empty where it can."""
    if not spec.is_diagnostic:
        return ""
    if spec.random_labels:
        if task != "classify":
            return "random labels are for slices and not for outlines"
        patients = {side: getattr(fold, side).table["subject"].nunique() for side in SIDES}
        for side, count in patients.items():
            if count < 2:
                return f"{count} {side} patient shows one random label only, two are needed"
    for seed in seeds:
        new = apply_diagnostic_arm(fold, spec, seed)
        if not (has_both(new.train) and has_both(new.val)):
            return f"seed {seed} deals train or val slices of one label only"
    return ""


def volumes_of_test_patients(
    test: pd.DataFrame, grid: Slices, stats: dict[str, Any]
) -> tuple[TestVolume, ...]:
    """The whole volumes of the test patients."""
    # A session's modalities may lie in several batches; its slices are named after the first one.
    batches = stats.get("batches") or [
        path.parent.name for path in sorted(VOLUMES.glob("*/manifest.parquet"))
    ]
    landmarks = stats.get("normalisation", {}).get("landmarks")
    scales = [np.asarray(landmarks[name]) for name in grid.modalities] if landmarks else None
    return tuple(read_test_volumes(batches, set(test["subject"]), grid, scales))


def task_named(name: str) -> Task:
    """The module of a task; only it is imported."""
    if name not in get_args(TaskName):
        raise InputError(f"task {name!r} is unknown; allowed: {', '.join(get_args(TaskName))}")
    if name == "classify":
        from tasks.downstream import classify

        return classify
    from tasks.downstream import segment

    return segment


def gather(name: str, slices: SliceSet, pool: SliceSet, pixel_mm: float, *, outlined: bool) -> Fold:
    """The labelled slices of a fold's partitions, and the arm's added ones.

    Args:
        name: of the fold.
        slices, pool: of all folds.
        pixel_mm: edge of a pixel.
        outlined: leaves out slices, added ones too, whose tumours nobody outlined.

    Raises:
        StageError: when training or validation patients show only one of the two labels.
    """
    side = slices.table[f"partition_{name}"].to_numpy()
    labelled = slices.table["label"].to_numpy() >= 0
    if outlined and "mask_known" in slices.table:
        labelled &= slices.table["mask_known"].to_numpy()
    parts = {part: slices.select(labelled & (side == part)) for part in SIDES}
    for part in ("train", "val"):
        if not has_both(parts[part]):
            shown = parts[part].table["label"]
            kind, remedy = "slices", "add patients to data.batches or change slices.seed"
            if outlined:
                kind = "outlined slices"
                remedy += ", or remove segment from downstream.tasks where there are no masks"
            raise InputError(
                f"fold {name}: the {part} patients need {kind} with and without tumour, found"
                f" {int((shown == 1).sum())} with and {int((shown == 0).sum())} without; {remedy}"
            )
    of_fold = (pool.table["fold"] == name).to_numpy()
    if outlined and "mask_known" in pool.table:
        of_fold = of_fold & pool.table["mask_known"].to_numpy()
    added = pool.select(of_fold)
    return Fold(name, parts["train"], parts["val"], parts["test"], added, pixel_mm)


def has_both(slices: SliceSet) -> bool:
    """Whether there are slices of both labels, as balanced batches need."""
    return set(slices.table["label"]) >= {0, 1}


def write(folder: Path, task: Task, runs: list[Run], status: dict[str, str]) -> None:
    """Check the tables against their schemas and write them, empty ones too."""
    predictions = stack([run.predictions for run in runs], task.SCHEMA)
    patients = stack([run.patients for run in runs], Patients)
    ended = stack([run.ended for run in runs], Runs)
    history = pd.concat([pd.DataFrame(columns=HISTORY)] + [run.history for run in runs])
    with atomic_output(folder) as written:
        predictions.to_parquet(written / "predictions.parquet", index=False)
        patients.to_parquet(written / "patients.parquet", index=False)
        ended.to_parquet(written / "runs.parquet", index=False)
        history.to_csv(written / "history.csv", index=False, float_format="%.6g")
        (written / "status.json").write_text(json.dumps(status, indent=1) + "\n")


def stack(tables: list[pd.DataFrame], schema: type[pa.DataFrameModel]) -> pd.DataFrame:
    """The tables under one another; without any, an empty one of the schema's columns."""
    if not tables:
        return schema.empty()
    return schema.validate(pd.concat(tables, ignore_index=True))


if __name__ == "__main__":
    run_stage(main)
