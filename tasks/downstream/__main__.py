"""Train one task's network on one arm, for each fold and seed, and test it on test patients.

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
from tasks.common.torch_setup import setup_torch, uses_bf16
from tasks.downstream.leakage_checks import (
    check_pool_leakage,
    check_split_leakage,
    random_patient_labels,
    split_by_slice,
)
from tasks.downstream.run_cache import cache_folder, digest_volumes, load_or_run
from tasks.downstream.train_and_test import DownstreamTask, FoldSlices, RunTables, train_and_test
from tasks.downstream.volume_dice import TestVolume, read_test_volumes
from tasks.params.downstream import Downstream, TaskTraining
from tasks.params.downstream import Task as TaskName
from tasks.params.slices import Slices
from tasks.schemas.predictions import PatientScores, RunOutcomes
from tasks.stage.errors import InputError
from tasks.stage.stage_io import atomic_output, discard, explain_read_errors
from tasks.stage.stage_runtime import run_stage

SLICES, VOLUMES = Path("data/slices"), Path("data/volumes")
PARTITIONS = ("train", "val", "test")
HISTORY_COLUMNS = ["fold", "seed", "step", "train_loss", "val_metric"]


def main(task: str, arm: str) -> None:
    """Run the stage from the repository's root."""
    config = params.read_section(Downstream)
    grid = params.read_section(Slices)
    task_module = import_task(task)
    try:
        arm_spec = Arm.parse(arm)
    except ValueError as error:
        raise InputError(str(error)) from None
    training: TaskTraining = getattr(config, task)
    device = setup_torch(config.threads)
    bf16 = uses_bf16(config.precision, device)
    slices = read_slice_set(SLICES, "slices.parquet")
    pool_folder = Path("data/pool") / arm
    pool = read_slice_set(pool_folder, "samples.parquet")
    check_pixel_range(slices, SLICES)
    check_pixel_range(pool, pool_folder)
    pool_status, stats = (
        read_json_object(pool_folder / "pool.json"),
        read_json_object(SLICES / "stats.json"),
    )
    seeds = range(config.permutations) if arm_spec.random_labels else config.all_seeds
    cache = cache_folder(
        [task, arm, training.model_dump_json(), str(config.threads), str(device), str(bf16)],
        sorted([*SLICES.iterdir(), *pool_folder.iterdir()]),
    )
    status: dict[str, str] = {}
    runs: list[RunTables] = []
    for fold_name in map(str, grid.folds):
        check_split_leakage(slices.table, slices.images, fold_name)
        fold = select_fold(
            fold_name, slices, pool, float(stats["pixel_mm"]), outlined=task == "segment"
        )
        check_pool_leakage(fold.added.images, slices.table, slices.images, fold_name)
        if reason := reason_not_trainable(task, arm_spec, fold, seeds):
            status[fold_name] = "not run"
            print(f"downstream: {task} {arm}, fold {fold_name}: not run, {reason}")
            continue
        if pool_status[fold_name]["status"] == "not applicable":
            status[fold_name] = "not applicable"
            print(
                f"downstream: {task} {arm}, fold {fold_name}: not trained, no training slice is"
                " without an outline"
            )
            continue
        if arm_spec.added and (
            pool_status[fold_name]["status"] == "too few" or not has_both_labels(fold.added)
        ):
            status[fold_name] = "too few"
            print(f"downstream: {task} {arm}, fold {fold_name}: not trained, too few added slices")
            continue
        if task == "segment" and not arm_spec.is_diagnostic:
            fold = replace(
                fold, volumes=read_volumes_of_test_patients(fold.test.table, grid, stats)
            )
        volumes = digest_volumes(fold.volumes)
        fold_runs = [
            load_or_run(
                cache / f"{fold_name}-{seed}-{volumes}",
                partial(
                    train_and_test, task_module, arm_spec,
                    apply_diagnostic_arm(fold, arm_spec, seed), training,
                    seed=seed, bf16=bf16, device=device,
                ),
            )
            for seed in seeds
        ]  # fmt: skip
        runs += fold_runs
        status[fold_name] = "ok"
        metrics = ", ".join(f"{float(run.outcome['val_metric'].iloc[0]):.3f}" for run in fold_runs)
        print(f"downstream: {task} {arm}, fold {fold_name}: validation {metrics}")
    write_results(Path("data/downstream") / f"{task}-{arm}", task_module, runs, status)
    discard(cache)


def read_json_object(path: Path) -> dict[str, Any]:
    """Read an object from a JSON file."""
    with explain_read_errors(path):
        tree: dict[str, Any] = json.loads(path.read_text())
    return tree


def apply_diagnostic_arm(fold: FoldSlices, arm: Arm, seed: int) -> FoldSlices:
    """Return the fold with the labels or the split that a diagnostic arm requires."""
    if arm.random_labels:
        fold = random_patient_labels(fold, seed)
    return split_by_slice(fold, seed) if arm.slice_split else fold


def reason_not_trainable(task: str, arm: Arm, fold: FoldSlices, seeds: Iterable[int]) -> str:
    """Say why a diagnostic arm cannot be trained; empty where it can."""
    if not arm.is_diagnostic:
        return ""
    if arm.random_labels:
        if task != "classify":
            return "random labels are for slices and not for outlines"
        patients = {
            partition: getattr(fold, partition).table["subject"].nunique()
            for partition in PARTITIONS
        }
        for partition, count in patients.items():
            if count < 2:
                return f"{count} {partition} patient shows one random label only, two are needed"
    for seed in seeds:
        changed = apply_diagnostic_arm(fold, arm, seed)
        if not (has_both_labels(changed.train) and has_both_labels(changed.val)):
            return f"seed {seed} deals train or val slices of one label only"
    return ""


def read_volumes_of_test_patients(
    test: pd.DataFrame, grid: Slices, stats: dict[str, Any]
) -> tuple[TestVolume, ...]:
    """Read the whole volumes of the test patients."""
    # A session's modalities may lie in several batches; its slices are named after the first one.
    batches = stats.get("batches") or [
        path.parent.name for path in sorted(VOLUMES.glob("*/manifest.parquet"))
    ]
    landmarks = stats.get("normalisation", {}).get("landmarks")
    scales = [np.asarray(landmarks[name]) for name in grid.modalities] if landmarks else None
    return tuple(read_test_volumes(batches, set(test["subject"]), grid, scales))


def import_task(name: str) -> DownstreamTask:
    """Import and return the module of a task, and no other."""
    if name not in get_args(TaskName):
        raise InputError(f"task {name!r} is unknown; allowed: {', '.join(get_args(TaskName))}")
    if name == "classify":
        from tasks.downstream import classify

        return classify
    from tasks.downstream import segment

    return segment


def select_fold(
    name: str, slices: SliceSet, pool: SliceSet, pixel_mm: float, *, outlined: bool
) -> FoldSlices:
    """Select the labelled slices of a fold's partitions, and the arm's added ones.

    Args:
        name: of the fold.
        slices, pool: of all folds.
        pixel_mm: edge of a pixel.
        outlined: leave out slices, added ones too, whose tumours were not outlined.

    Raises:
        InputError: training or validation patients have only one of the two labels.
    """
    partition_of = slices.table[f"partition_{name}"].to_numpy()
    labelled = slices.table["label"].to_numpy() >= 0
    if outlined and "mask_known" in slices.table:
        labelled &= slices.table["mask_known"].to_numpy()
    parts = {
        partition: slices.select(labelled & (partition_of == partition)) for partition in PARTITIONS
    }
    for partition in ("train", "val"):
        if not has_both_labels(parts[partition]):
            labels = parts[partition].table["label"]
            kind, remedy = "slices", "add patients to data.batches or change slices.seed"
            if outlined:
                kind = "outlined slices"
                remedy += ", or remove segment from downstream.tasks where there are no masks"
            raise InputError(
                f"fold {name}: the {partition} patients need {kind} with and without tumour, found"
                f" {int((labels == 1).sum())} with and {int((labels == 0).sum())} without; {remedy}"
            )
    of_fold = (pool.table["fold"] == name).to_numpy()
    if outlined and "mask_known" in pool.table:
        of_fold = of_fold & pool.table["mask_known"].to_numpy()
    added = pool.select(of_fold)
    return FoldSlices(name, parts["train"], parts["val"], parts["test"], added, pixel_mm)


def has_both_labels(slices: SliceSet) -> bool:
    """Return whether there are slices of both labels, as balanced batches need."""
    return set(slices.table["label"]) >= {0, 1}


def write_results(
    folder: Path, task: DownstreamTask, runs: list[RunTables], status: dict[str, str]
) -> None:
    """Check the tables against their schemas and write them, empty ones too."""
    predictions = stack_tables([run.predictions for run in runs], task.PREDICTIONS_SCHEMA)
    patients = stack_tables([run.patients for run in runs], PatientScores)
    outcomes = stack_tables([run.outcome for run in runs], RunOutcomes)
    history = pd.concat([pd.DataFrame(columns=HISTORY_COLUMNS)] + [run.history for run in runs])
    with atomic_output(folder) as output:
        predictions.to_parquet(output / "predictions.parquet", index=False)
        patients.to_parquet(output / "patients.parquet", index=False)
        outcomes.to_parquet(output / "runs.parquet", index=False)
        history.to_csv(output / "history.csv", index=False, float_format="%.6g")
        (output / "status.json").write_text(json.dumps(status, indent=1) + "\n")


def stack_tables(tables: list[pd.DataFrame], schema: type[pa.DataFrameModel]) -> pd.DataFrame:
    """Concatenate the tables; without any, return an empty one of the schema's columns."""
    if not tables:
        return schema.empty()
    return schema.validate(pd.concat(tables, ignore_index=True))


if __name__ == "__main__":
    run_stage(main)
