"""Measure the arms that need no `train_gan` on a cohort: Dice, AUROC and CPU seconds a network.

    python -m benchmarks.baselines --plan benchmarks/lgg-development.yaml \
        --data ../shared/data/lgg --work /tmp/baselines --size 5 --draws 5 --unlabelled 15

Reads and slices the plan's patients, then trains every arm on each draw of `--size` patients,
training and validation together, beside `--unlabelled` patients without outlines, and tests it on
the plan's test patients. Every finished network is a row of `--work`/SIZE-UNLABELLED-HASH.csv, HASH
of what `--set` changes, so that a stopped run goes on where it ended. Prints a table of means over
draws, and of paired differences from `real+classical` with their standard error over draws.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from benchmarks.run_study import BATCH, prepare_clone, read_plan
from tasks import params
from tasks.common.arms import Arm
from tasks.common.slice_set import SliceSet, read_slice_set, read_slices
from tasks.common.torch_setup import setup_torch, uses_bf16
from tasks.downstream.__main__ import (
    has_both_labels,
    import_task,
    read_json_object,
    read_volumes_of_test_patients,
    select_fold,
)
from tasks.downstream.train_and_test import FoldSlices, train_and_test
from tasks.params.downstream import Downstream
from tasks.params.pool import Pool
from tasks.params.slices import Slices
from tasks.pool.__main__ import mix_sources
from tasks.pool.control_arms import CONTROLS, make_control_slices
from tasks.pool.unlabelled_arms import make_unlabelled_arm_slices

PRIMARY = {"segment": "dice_volume", "classify": "auroc"}
REFERENCE = "real+classical"
ARMS = (
    "real", "real+paper-augmented", "real+classical", "real+classical+copy-paste",
    "real+classical+pseudo-label", "real+classical+paste-unlabelled",
    "real+classical+pseudo-label+paste-unlabelled",
    "real+classical+implant", "real+classical+pseudo-label+implant",
)  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--size", type=int, default=5, help="patients to train and validate on")
    parser.add_argument("--unlabelled", type=int, default=0, help="patients without outlines")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--arms", nargs="*", default=list(ARMS))
    parser.add_argument("--tasks", nargs="*", default=list(PRIMARY))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    options = parser.parse_args()
    plan = read_plan(options.plan)
    clone = prepare_clone(options.work, "baselines", options.data, plan)
    changes = {key: yaml.safe_load(value) for key, _, value in
               (one.partition("=") for one in options.changes)}  # fmt: skip
    setting = hashlib.sha256(json.dumps(changes, sort_keys=True).encode()).hexdigest()[:8]
    path = options.work.resolve() / f"{options.size}-{options.unlabelled}-{setting}.csv"
    for draw in range(options.draws):
        wanted = [
            (task, arm)
            for task in options.tasks
            for arm in options.arms
            if (draw, task, arm) not in finished(path)
        ]
        if not wanted:
            continue
        settings = plan["set"] | plan["by_size"].get(options.size, {}) | changes
        settings |= {
            "slices.train_patients": options.size,
            "slices.unlabelled_patients": options.unlabelled,
            "slices.draw": draw,
            "teacher.seed": 100 * draw,
            "implant.seed": draw,
            "downstream.arms": options.arms,
        }
        prepare_slices(clone, plan, settings)
        os.chdir(clone)
        measure(wanted, draw, path)
    print_tables(pd.read_csv(path))


def finished(path: Path) -> set[tuple[int, str, str]]:
    """Return draw, task and arm of the networks that were measured."""
    if not path.exists():
        return set()
    rows = pd.read_csv(path)
    return set(zip(rows["draw"], rows["task"], rows["arm"], strict=True))


def print_tables(rows: pd.DataFrame) -> None:
    """Print means over draws and differences from `real+classical`, paired by draw."""
    table = rows.groupby(["task", "arm"], sort=False).agg(
        mean=("value", "mean"), seconds=("seconds", "mean"), draws=("value", "size")
    )
    values = rows.pivot(index=["task", "draw"], columns="arm", values="value")
    if REFERENCE in values:
        difference = values.sub(values[REFERENCE], axis=0).stack().groupby(["task", "arm"])
        table["over real+classical"] = difference.mean()
        table["standard error"] = difference.sem()
    print(table.round(3).reset_index().to_markdown(index=False))


def prepare_slices(clone: Path, plan: dict[str, Any], settings: dict[str, Any]) -> None:
    """Write the clone's params and run `ingest`, once, `slices`, `teacher` and `implant`."""
    committed = subprocess.run(  # not the file: an earlier run's changes would stay in it
        ["git", "show", "HEAD:params.yaml"], cwd=clone, check=True, capture_output=True
    ).stdout
    tree = yaml.safe_load(committed)
    for key, value in settings.items():
        section, *rest, name = key.split(".")
        branch = tree[section]
        for part in rest:
            branch = branch.setdefault(part, {})
        branch[name] = value
    (clone / "params.yaml").write_text(yaml.safe_dump(tree))
    environment = os.environ | {"AUGLIFT_KEY": plan["key"], "PYTHONPATH": str(clone)}
    commands = [["tasks.slices"], ["tasks.teacher"], ["tasks.implant"]]
    if not (clone / "data/volumes" / plan["batch"] / "manifest.parquet").exists():
        assert (clone / BATCH / plan["batch"]).is_dir()
        commands.insert(0, ["tasks.ingest", "--batch", plan["batch"]])
    for command in commands:
        subprocess.run([sys.executable, "-m", *command], cwd=clone, env=environment, check=True)


def measure(wanted: Sequence[tuple[str, str]], draw: int, path: Path) -> None:
    """Train and test each task and arm once on the slices in the working directory."""
    config, grid = params.read_section(Downstream), params.read_section(Slices)
    device = setup_torch(config.threads)
    slices = read_slice_set(Path("data/slices"), "slices.parquet")
    stats = read_json_object(Path("data/slices/stats.json"))
    fold_name = str(grid.folds[0])
    empty = slices.select(np.zeros(len(slices), dtype=bool))
    pool = replace(empty, table=empty.table.assign(fold=pd.Series(dtype="str")))
    for task in dict.fromkeys(task for task, _ in wanted):
        fold = select_fold(
            fold_name, slices, pool, float(stats["pixel_mm"]), outlined=task == "segment"
        )
        if task == "segment":
            volumes = read_volumes_of_test_patients(fold.test.table, grid, stats)
            fold = replace(fold, volumes=volumes)
        for arm in (Arm.parse(name) for wanted_task, name in wanted if wanted_task == task):
            added = added_slices(fold, arm, draw, params.read_section(Pool).ratio)
            start, value = time.process_time(), float("nan")  # without enough slices to add
            if not arm.added or has_both_labels(added):
                run = train_and_test(
                    import_task(task), arm, replace(fold, added=added), getattr(config, task),
                    seed=draw, bf16=uses_bf16(config.precision, device), device=device,
                )  # fmt: skip
                patients = run.patients
                value = patients.loc[patients["metric"] == PRIMARY[task], "value"].mean()
            seconds = time.process_time() - start
            row = {"draw": draw, "task": task, "arm": arm.name, "value": value, "seconds": seconds}
            pd.DataFrame([row]).to_csv(path, mode="a", header=not path.exists(), index=False)
            print(f"draw {draw} {task} {arm.name}: {value:.3f}, {seconds:.0f} s", flush=True)


def added_slices(fold: FoldSlices, arm: Arm, seed: int, ratio: float) -> SliceSet:
    """Make `ratio` times as many added slices as there are training slices, if the arm adds any."""
    parts, count = [], round(ratio * len(fold.train))
    for source in arm.sources:
        if source in CONTROLS:
            parts.append(make_control_slices(source, fold.train, ratio=ratio, seed=seed))
        else:
            train = read_slices(fold.name, "train")
            parts.append(
                make_unlabelled_arm_slices(
                    source, fold.name, train, fold.train, count=count, seed=seed
                )
            )
    return mix_sources(parts) if parts else fold.added


if __name__ == "__main__":
    main()
