"""Measure the arms that need no `train_gan` on a cohort, patient by patient.

    python -m benchmarks.baselines --plan benchmarks/lgg-development.yaml \
        --data ../shared/data/lgg --work /tmp/baselines --size 6 --draws 5 --unlabelled 14

Reads and slices the plan's patients, then trains every arm on each draw of `--size` patients,
training and validation together, beside `--unlabelled` patients without outlines, and tests it on
the plan's test patients. Every finished network is a few rows of the CSV file `--rows`, by default
`--work`/rows.csv, so that a stopped run goes on where it ended, on another machine too. Prints a
table of means over draws, and of paired differences from `real+classical` with their standard error
and 95 % interval over draws. `python -m benchmarks.confirm_lift ROWS` tests a frozen protocol's
claims on it.
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
from scipy import stats

from benchmarks.run_study import batches_of, prepare_clone, read_plan
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
COLUMNS = (
    "size", "unlabelled", "setting", "draw", "task", "arm", "seed", "subject", "value", "seconds",
)  # fmt: skip
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
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="one folder a batch")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--size", type=int, default=5, help="patients to train and validate on")
    parser.add_argument("--unlabelled", type=int, default=0, help="patients without outlines")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=1, help="networks of each arm and draw")
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--arms", nargs="*", default=list(ARMS))
    parser.add_argument("--tasks", nargs="*", default=list(PRIMARY))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    options = parser.parse_args()
    plan = read_plan(options.plan)
    clone = prepare_clone(options.work, "baselines", options.data, plan)
    changes = {key: yaml.safe_load(value) for key, _, value in
               (one.partition("=") for one in options.changes)}  # fmt: skip
    setting = hashlib.sha256(json.dumps([plan, changes], sort_keys=True).encode()).hexdigest()[:8]
    path = (options.rows or options.work / "rows.csv").resolve()
    for draw in range(options.draws):
        cell = {"size": options.size, "unlabelled": options.unlabelled, "setting": setting,
                "draw": draw}  # fmt: skip
        done = finished(path, cell)
        wanted = [
            (task, arm, seed)
            for task in options.tasks
            for seed in range(options.seeds)
            for arm in options.arms
            if (task, arm, seed) not in done
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
        measure(wanted, cell, path)
    print_tables(read_rows(path).query("size == @options.size and setting == @setting"))


def read_rows(path: Path) -> pd.DataFrame:
    """Read the rows of all finished networks, one a test patient."""
    return pd.read_csv(path, dtype={"setting": str})


def finished(path: Path, cell: dict[str, Any]) -> set[tuple[str, str, int]]:
    """Return task, arm and seed of a cell's finished networks."""
    if not path.exists():
        return set()
    rows = read_rows(path)
    for name, value in cell.items():
        rows = rows[rows[name] == value]
    return set(zip(rows["task"], rows["arm"], rows["seed"], strict=True))


def print_tables(rows: pd.DataFrame) -> None:
    """Print means over draws and differences from `real+classical`, paired by draw."""
    values = rows.pivot_table(index=["task", "draw"], columns="arm", values="value", sort=False)
    table = pd.DataFrame({"mean": values.groupby("task", sort=False).mean().stack()})
    table["seconds"] = rows.groupby(["task", "arm"])["seconds"].mean()
    table["draws"] = values.groupby("task").count().stack()
    if REFERENCE in values:
        difference = values.sub(values[REFERENCE], axis=0).stack().groupby(["task", "arm"])
        table["over real+classical"] = difference.mean()
        table["standard error"] = difference.sem()
        half = table["standard error"] * stats.t.ppf(0.975, difference.count() - 1)
        table["low"] = table["over real+classical"] - half
        table["high"] = table["over real+classical"] + half
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
    stamp = clone / ".prepared"
    wanted = json.dumps(settings, sort_keys=True)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    stamp.unlink(missing_ok=True)
    environment = os.environ | {"AUGLIFT_KEY": plan["key"], "PYTHONPATH": str(clone)}
    commands = [["tasks.slices"], ["tasks.teacher"], ["tasks.implant"]]
    for batch in batches_of(plan):
        if not (clone / "data/volumes" / batch / "manifest.parquet").exists():
            commands.insert(0, ["tasks.ingest", "--batch", batch])
    for command in commands:
        subprocess.run([sys.executable, "-m", *command], cwd=clone, env=environment, check=True)
    stamp.write_text(wanted)


def measure(wanted: Sequence[tuple[str, str, int]], cell: dict[str, Any], path: Path) -> None:
    """Train and test each task, arm and seed on the slices in the working directory."""
    config, grid = params.read_section(Downstream), params.read_section(Slices)
    device = setup_torch(config.threads)
    slices = read_slice_set(Path("data/slices"), "slices.parquet")
    stats = read_json_object(Path("data/slices/stats.json"))
    fold_name = str(grid.folds[0])
    empty = slices.select(np.zeros(len(slices), dtype=bool))
    pool = replace(empty, table=empty.table.assign(fold=pd.Series(dtype="str")))
    ratio = params.read_section(Pool).ratio
    for task in dict.fromkeys(task for task, _, _ in wanted):
        fold = select_fold(
            fold_name, slices, pool, float(stats["pixel_mm"]), outlined=task == "segment"
        )
        if task == "segment":
            volumes = read_volumes_of_test_patients(fold.test.table, grid, stats)
            fold = replace(fold, volumes=volumes)
        for arm, number in ((Arm.parse(name), n) for each, name, n in wanted if each == task):
            seed = 10 * int(cell["draw"]) + number
            added = added_slices(fold, arm, seed, ratio)
            start = time.process_time()
            patients = pd.DataFrame({"subject": [""], "value": [float("nan")]})  # too few to add
            if not arm.added or enough_to_add(added):
                run = train_and_test(
                    import_task(task), arm, replace(fold, added=added), getattr(config, task),
                    seed=seed, bf16=uses_bf16(config.precision, device), device=device,
                )  # fmt: skip
                patients = run.patients
                patients = patients.loc[patients["metric"] == PRIMARY[task], ["subject", "value"]]
            rows = patients.assign(
                **cell, task=task, arm=arm.name, seed=number,
                seconds=round(time.process_time() - start),
            )  # fmt: skip
            path.parent.mkdir(parents=True, exist_ok=True)
            rows[list(COLUMNS)].to_csv(
                path, mode="a", header=not path.exists(), index=False, float_format="%.4f"
            )
            print(f"draw {cell['draw']} {task} {arm.name}: {rows['value'].mean():.3f}", flush=True)


def enough_to_add(added: SliceSet) -> bool:
    """Return whether `pool` would add these slices: of both labels, enough different ones."""
    least = params.read_section(Pool).min_images
    rows = added.table["row"] if "row" in added.table else added.table["source_row"]
    return has_both_labels(added) and int(rows.nunique()) >= min(least, len(added))


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
