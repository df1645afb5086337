"""Measure the arms without synthetic slices on a cohort: Dice, AUROC and seconds a network.

    python -m benchmarks.baselines --plan benchmarks/lgg-development.yaml \
        --data ../shared/data/lgg --work /tmp/baselines --size 5 --draws 3

Reads and slices the plan's patients, without a generator, then trains every arm on each draw of
`--size` patients, training and validation together, and tests it on the plan's test patients.
Prints a table of means over draws with the standard error over draws.
"""

import argparse
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
from tasks.common.slice_set import SliceSet, read_slice_set
from tasks.common.torch_setup import setup_torch, uses_bf16
from tasks.downstream.__main__ import import_task, read_json_object, select_fold
from tasks.downstream.train_and_test import FoldSlices, train_and_test
from tasks.downstream.volume_dice import read_test_volumes
from tasks.params.downstream import Downstream
from tasks.params.slices import Slices
from tasks.pool.control_arms import CONTROLS, make_control_slices

PRIMARY = {"segment": "dice_volume", "classify": "auroc"}
ARMS = ("real", "real+paper-augmented", "real+classical", "real+classical+copy-paste")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--size", type=int, default=5, help="patients to train and validate on")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--arms", nargs="*", default=list(ARMS))
    parser.add_argument("--tasks", nargs="*", default=list(PRIMARY))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    options = parser.parse_args()
    plan = read_plan(options.plan)
    clone = prepare_clone(options.work, "baselines", options.data, plan)
    rows = []
    for draw in range(options.draws):
        settings = {"slices.train_patients": options.size, "slices.draw": draw}
        changes = {
            k: yaml.safe_load(v) for k, _, v in (one.partition("=") for one in options.changes)
        }
        prepare_slices(
            clone, plan, plan["set"] | plan["by_size"].get(options.size, {}) | settings | changes
        )
        os.chdir(clone)
        rows += measure(options.tasks, options.arms, draw)
        print(
            pd.DataFrame(rows).tail(len(options.tasks) * len(options.arms)).to_string(), flush=True
        )
    table = pd.DataFrame(rows).groupby(["task", "arm"], sort=False)
    summary = table.agg(
        mean=("value", "mean"),
        error=("value", "sem"),
        seconds=("seconds", "mean"),
        draws=("value", "size"),
    )
    print(summary.round(3).reset_index().to_markdown(index=False))


def prepare_slices(clone: Path, plan: dict[str, Any], settings: dict[str, Any]) -> None:
    """Write the clone's params and run `ingest`, once, and `slices`."""
    tree = yaml.safe_load((clone / "params.yaml").read_text())
    for key, value in settings.items():
        section, *rest, name = key.split(".")
        branch = tree[section]
        for part in rest:
            branch = branch.setdefault(part, {})
        branch[name] = value
    (clone / "params.yaml").write_text(yaml.safe_dump(tree))
    environment = os.environ | {"AUGLIFT_KEY": plan["key"], "PYTHONPATH": str(clone)}
    commands = [["tasks.slices"]]
    if not (clone / "data/volumes" / plan["batch"] / "manifest.parquet").exists():
        assert (clone / BATCH / plan["batch"]).is_dir()
        commands.insert(0, ["tasks.ingest", "--batch", plan["batch"]])
    for command in commands:
        subprocess.run([sys.executable, "-m", *command], cwd=clone, env=environment, check=True)


def measure(tasks: Sequence[str], arms: Sequence[str], draw: int) -> list[dict[str, Any]]:
    """Train and test every arm once on the slices in the working directory."""
    config, grid = params.read_section(Downstream), params.read_section(Slices)
    device = setup_torch(config.threads)
    slices = read_slice_set(Path("data/slices"), "slices.parquet")
    stats = read_json_object(Path("data/slices/stats.json"))
    fold_name = str(grid.folds[0])
    rows = []
    for task in tasks:
        fold = select_fold(
            fold_name, slices, no_slices(slices), float(stats["pixel_mm"]),
            outlined=task == "segment",
        )  # fmt: skip
        if task == "segment":
            subjects = fold.test.table["subject"]
            fold = replace(
                fold, volumes=tuple(read_test_volumes(stats["batches"], subjects, grid, None))
            )
        for name in arms:
            arm = Arm.parse(name)
            start = time.process_time()
            run = train_and_test(
                import_task(task), arm, with_added_slices(fold, arm, draw),
                getattr(config, task), seed=draw, bf16=uses_bf16(config.precision, device),
                device=device,
            )  # fmt: skip
            patients = run.patients
            value = patients.loc[patients["metric"] == PRIMARY[task], "value"].mean()
            rows.append(
                {"draw": draw, "task": task, "arm": name, "value": value,
                 "seconds": time.process_time() - start}
            )  # fmt: skip
    return rows


def no_slices(slices: SliceSet) -> SliceSet:
    """Return an empty pool."""
    empty = slices.select(np.zeros(len(slices), dtype=bool))
    return replace(empty, table=empty.table.assign(fold=pd.Series(dtype="str")))


def with_added_slices(fold: FoldSlices, arm: Arm, seed: int) -> FoldSlices:
    """Add as many control slices as there are training slices, where the arm adds any."""
    for source in arm.sources:
        if source in CONTROLS:
            added = make_control_slices(source, fold.train, ratio=1.0, seed=seed)
            return replace(fold, added=added)
    return fold


if __name__ == "__main__":
    main()
