"""Tables of a study that compare no arms with `chosen`, and how a table is printed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.select_study_arm import PRIMARY_TABLE, read_results
from tasks.common.arms import Arm
from tasks.lift import patient_metrics
from tasks.lift.bootstrap import Resampling, estimate_metric
from tasks.lift.patient_metrics import RunPatientAxes

SEED = 19


def gate_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the gate's verdict and nearest SSIM of every experiment, beside that of real slices."""
    for fold_folder in sorted(folder.glob("[0-9]*/base/gate/*"), key=size_and_draw):
        size, draw = size_and_draw(fold_folder)
        report = json.loads((fold_folder / "metrics.json").read_text())
        images, measures = report["images"], report["measures"]
        ssim = measures.get("nearest_ssim", {})
        yield {
            "patients": size,
            "draw": draw,
            "verdict": report["verdict"],
            "accepted": f"{images['accepted']} of {images['n']}",
            "Fréchet ratio": format_number(
                next((measure["ratio"] for measure in measures.values()), None)
            ),
            "nearest SSIM": format_number(ssim.get("value")),
            "of real slices": format_number(ssim.get("baseline")),
        }


def size_and_draw(folder: Path) -> tuple[int, int]:
    """Parse size and draw from a folder of the gate."""
    size, _, draw = folder.parents[2].name.partition("-")
    return int(size), int(draw)


def slice_split_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield arms with a split by slice and random labels, and what a split by patient gives."""
    trainings = read_results(folder, "classify")
    leaky = [training for training in trainings if Arm.parse(training.arm).is_diagnostic]
    cells = {(training.size, training.draw) for training in leaky}
    honest = [
        training
        for training in trainings
        if training.arm == "real" and (training.size, training.draw) in cells
    ]
    for training in [*honest, *leaky]:
        table = training.table(PRIMARY_TABLE["classify"])
        axes = RunPatientAxes.from_table(table)
        resampling = Resampling.sample_weights(axes, replicates=2000, seed=SEED)
        metrics = patient_metrics.classification_metrics(table, axes)
        row: dict[str, Any] = {
            "patients": training.size,
            "arm": training.arm,
            "networks": len(axes.runs),
        }
        for name in ("accuracy", "auroc"):
            if estimate := estimate_metric(metrics[name], resampling):
                row[name] = format_number(estimate.value)
                if interval := estimate.interval(limit=1, seed=SEED):
                    row[name] += f" ({interval[0]:.3f} to {interval[1]:.3f})"
        yield row


def format_number(value: float | None) -> str:
    """Format three places, or a dash."""
    return "-" if value is None or np.isnan(value) else f"{value:.3f}"


def format_interval(values: patient_metrics.Array) -> str:
    """Format the 95 % in the middle."""
    low, high = np.nanquantile(values, [0.025, 0.975])
    return f"{low:.3f} to {high:.3f}"


def print_table(rows: Iterator[dict[str, Any]]) -> None:
    """Print a table."""
    table = pd.DataFrame(rows).fillna("-")
    print(table.to_markdown(index=False, disable_numparse=True) if len(table) else "Nothing.")
