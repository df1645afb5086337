"""Measure how time, memory and storage of the stages grow with the number of patients.

    python -m benchmarks.scale FOLDER --patients 60 250 1000

For each cohort the stages run one after the other, each in a process of its own as DVC starts it:
`phantom`, `ingest`, `slices`, then `gate` on `--synthetic` slices, as many for every cohort, then
`report`. The synthetic slices are those of other simulated patients, so that no generator has to be
trained. Printed as one JSON line a stage: wall and processor seconds, the process tree's peak
proportional memory, and the bytes of the stage's output; at the end as a table with what each
patient costs. Finished cohorts in FOLDER are kept; a stage whose row is in `FOLDER/rows.jsonl` is
not run again.

    python -m benchmarks.scale FOLDER --same-head 125 250 500

The part of `slices` that grows with the square of the patients, alone: the comparison of all heads,
here patterns of noise, then the registration of 20 pairs.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from benchmarks.ingest_speed import run_and_measure

ROOT = Path(__file__).resolve().parents[1]
OUTPUTS = {
    "phantom": "data/raw/phantom",
    "ingest": "data/volumes/phantom",
    "slices": "data/slices",
    "gate": "data/gate/0",
    "report": "data/report.html",
}
SLICES_OF_A_SIMULATED_PATIENT = 10
ITEMS = {"ingest": ["--batch", "phantom"], "gate": ["--fold", "0"]}


def main() -> None:
    """Measure every stage of every cohort that has not been measured yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--patients", type=int, nargs="+", default=[60, 250, 1000])
    parser.add_argument("--synthetic", type=int, default=600, help="synthetic slices to judge")
    parser.add_argument("--stages", nargs="+", default=list(OUTPUTS), choices=list(OUTPUTS))
    parser.add_argument("--make-synthetic", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--same-head", type=int, nargs="+", metavar="PATIENTS")
    options = parser.parse_args()
    if options.same_head:
        measure_same_head(options.same_head)
        return
    if options.make_synthetic:
        make_synthetic(options.folder, options.synthetic)
        return
    for patients in options.patients:
        measure_cohort(options, options.folder / str(patients), patients)
    print_table(read_rows(options.folder))


def measure_cohort(options: argparse.Namespace, workspace: Path, patients: int) -> None:
    """Run the stages of one cohort in its own workspace and print a row for each."""
    workspace.mkdir(parents=True, exist_ok=True)
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    tree["phantom"] |= {"patients": patients, "outlined": None}
    (workspace / "params.yaml").write_text(yaml.safe_dump(tree))
    rows = workspace.parent / "rows.jsonl"
    measured = {(row["patients"], row["stage"]) for row in read_rows(workspace.parent)}
    for stage in options.stages:
        if (patients, stage) in measured:
            continue
        if stage == "gate":
            prepare_gate(options, workspace)
        if stage == "report":
            prepare_report(workspace)
        command = [sys.executable, "-m", f"tasks.{stage}", *ITEMS.get(stage, [])]
        figures = run_and_measure(command, workspace)
        row = {
            "patients": patients, "stage": stage, **figures,
            "output_MB": round(size_bytes(workspace / OUTPUTS[stage]) / 1e6, 2),
            **count_slices(workspace),
        }  # fmt: skip
        with rows.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """Read what was measured in a folder."""
    path = folder / "rows.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print a table of Markdown: each stage's processor seconds, slope and memory by cohort."""
    counts = sorted({row["patients"] for row in rows})
    print("| stage |", " | ".join(map(str, counts)), "| a patient more | peak memory | output |")
    print("|---" * (len(counts) + 4) + "|")
    for stage in OUTPUTS:
        found = {row["patients"]: row for row in rows if row["stage"] == stage}
        seconds = [f"{found[n]['cpu_seconds']:.1f} s" if n in found else "-" for n in counts]
        slopes = [
            f"{(found[b]['cpu_seconds'] - found[a]['cpu_seconds']) / (b - a):.3f} s"
            for a, b in pairwise(sorted(found))
        ]
        memory = [f"{found[n]['peak_MiB']}" for n in sorted(found)]
        output = [f"{found[n]['output_MB']:.1f}" for n in sorted(found)]
        cells = [*seconds, ", then ".join(slopes) or "-"]
        cells += [f"{', '.join(memory) or '-'} MiB", f"{', '.join(output) or '-'} MB"]
        print(f"| `{stage}` | {' | '.join(cells)} |")


def measure_same_head(counts: list[int]) -> None:
    """Print the processor seconds of comparing so many heads, and of registering a pair."""
    import time

    import numpy as np
    from threadpoolctl import threadpool_limits

    from tasks.slices.same_head import (
        GRID,
        HeadPattern,
        best_orientations,
        blur_pattern,
        correlation_after_registration,
    )

    rng = np.random.default_rng(0)
    inside = np.ones((GRID, GRID, GRID), bool)
    patterns = []
    for _ in range(max(counts)):
        values = blur_pattern(rng.standard_normal((GRID, GRID, GRID)).astype(np.float32), 1.0)
        patterns.append(HeadPattern(values / np.linalg.norm(values), inside))
    with threadpool_limits(1):
        for count in counts:
            start = time.process_time()
            best_orientations(patterns[:count], patterns[:count])
            seconds = time.process_time() - start
            print(json.dumps({"heads": count, "all_pairs_cpu_seconds": round(seconds, 2)}))
        start = time.process_time()
        for first, second in zip(patterns[:20], patterns[20:40], strict=True):
            correlation_after_registration(first, second)
        print(json.dumps({"registration_cpu_seconds": (time.process_time() - start) / 20}))


def size_bytes(path: Path) -> int:
    """Sum the sizes of a file or of a folder's files."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(file.stat().st_size for file in files)


def count_slices(workspace: Path) -> dict[str, Any]:
    """Count real and synthetic slices, as far as they exist."""
    import pandas as pd

    counts = {}
    for name, file in (("slices", "slices/slices"), ("synthetic", "synthetic/0/samples")):
        path = workspace / f"data/{file}.parquet"
        if path.exists():
            counts[name] = len(pd.read_parquet(path, columns=["row"]))
    return counts


def prepare_gate(options: argparse.Namespace, workspace: Path) -> None:
    """Simulate the synthetic slices in a process of its own, unless they exist."""
    if (workspace / "data/synthetic/0").is_dir():
        return
    subprocess.run(
        [sys.executable, "-m", "benchmarks.scale", str(workspace), "--make-synthetic",
         "--synthetic", str(options.synthetic)],
        cwd=ROOT, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def make_synthetic(workspace: Path, count: int) -> None:
    """Write about so many slices of other simulated patients as `data/synthetic/0`."""
    from tasks.common.slice_set import write_slice_set
    from tests.tasks.synthetic_cohort import as_synthetic, simulated

    each = SLICES_OF_A_SIMULATED_PATIENT
    slices = as_synthetic(simulated(1_000_000, max(1, count // each), each=each))
    partial = workspace / "data/synthetic/.0.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_slice_set(partial, slices.images, slices.masks)
    slices.table.to_parquet(partial / "samples.parquet", index=False)
    partial.replace(workspace / "data/synthetic/0")


def prepare_report(workspace: Path) -> None:
    """Write what the report reads besides, a lift and a training, as the tests make them."""
    from tests.tasks.fake_run import Run, approve, write_gan, write_lift

    data = workspace / "data"
    if not (data / "gan/0").exists():
        write_gan(data / "gan/0", Run())
    write_lift(data, Run())
    (data / "review.json").write_text('{"folds": {}}')
    approve(workspace, "pending")


if __name__ == "__main__":
    main()
