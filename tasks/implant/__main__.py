"""Train a painter of tumours and paint some into slices that surely show none.

Reads `data/slices` and `data/teacher`; writes `data/implant/FOLD/` for every fold: `images.npy`,
`masks.npy`, `pasted.npy`, `samples.parquet` (`tasks.schemas.implants`), `metrics.json`,
`config.json`, `painter.safetensors` and `sheet.png`. In `pasted.npy` (N,C,H,W) the outlined tumours
that gave the shapes are pasted into the same hosts: what painting is compared with. It reads
training patients only. The slices show heads of real patients: they augment a training here and are
never released (`releasable: false`). Where no arm of `downstream.arms` asks for them, nothing is
trained.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.torch import save_file

from models.tumor_painter import TumorPainter
from tasks import params
from tasks.common.arms import IMPLANT
from tasks.common.slice_montage import evenly_spaced, slice_montage
from tasks.common.slice_set import SliceSet, read_slices, write_slice_set
from tasks.common.torch_setup import setup_torch
from tasks.common.unreleasable import UNRELEASABLE
from tasks.implant.painter_training import train_painter
from tasks.implant.painting import paint, prepare_regions
from tasks.implant.tumor_copies import TumorCopies, find_tumor_copies
from tasks.params.downstream import read_arms
from tasks.params.implant import Implant
from tasks.schemas.implants import Implants
from tasks.stage.stage_io import atomic_output
from tasks.stage.stage_runtime import run_stage
from tasks.tumors.sure_slices import known_without_tumor, outlined_tumors, read_sure_slices
from tasks.tumors.tumor_pasting import paste_placed_tumors
from tasks.tumors.tumor_placement import Placements, place_deformed_tumors

OUTPUT = Path("data/implant")
LEAST_TUMORS, LEAST_HOSTS = 8, 8  # slices, below which a painter would only repeat them
SHEET_SLICES = 12
REASON = "heads of real patients are in the slices: they are for training models here"


def main() -> None:
    """Run the stage from the repository's root."""
    config = params.read_section(Implant)
    has_implant_arm = any(IMPLANT in arm.sources for arm in read_arms())
    with atomic_output(OUTPUT) as folder:
        for fold in map(str, params.read_key("slices.folds")):
            (folder / fold).mkdir()
            if has_implant_arm:
                status = implant_fold(folder / fold, fold, config)
            else:
                status = "no arm of downstream.arms adds slices with implanted tumours"
                train = read_slices(fold, "train")
                write_no_implants(folder / fold, train)
            if status:
                write_metrics(folder / fold, {"status": status, "n": 0, "accepted": 0})
                print(f"implant: fold {fold}: none: {status}")


def implant_fold(folder: Path, fold: str, config: Implant) -> str:
    """Train a fold's painter, paint and write; return why not, or nothing."""
    train = read_slices(fold, "train")
    labelled = train.select((train.table["label"] >= 0).to_numpy())
    sure_tumor, sure_clear = read_sure_slices(fold, train)
    shapes = outlined_tumors(labelled)
    tumors = shapes.joined_with(sure_tumor)
    hosts = known_without_tumor(labelled).joined_with(sure_clear)
    rng = np.random.default_rng(config.seed)
    placed = place_deformed_tumors(shapes, hosts, count=config.placements, rng=rng)
    painted_at = place_deformed_tumors(shapes, sure_clear, count=config.count, rng=rng)
    if len(tumors) < LEAST_TUMORS or len(sure_clear) < LEAST_HOSTS or not len(painted_at):
        write_no_implants(folder, train)
        return (
            f"{len(tumors)} tumour slices and {len(sure_clear)} slices of which the teacher is sure"
            f" that they show none (at least {LEAST_TUMORS} and {LEAST_HOSTS}), of"
            f" {len(painted_at)} tumours one has room; see data/teacher"
        )
    device = setup_torch(config.threads)
    painter, losses = train_painter(
        prepare_regions(tumors.images, tumors.masks > 0, device),
        prepare_regions(hosts.images[placed.hosts], placed.masks, device),
        config,
        fold=fold,
    )
    chosen = sure_clear.select(painted_at.hosts)
    regions = prepare_regions(chosen.images, painted_at.masks, device)
    painted = SliceSet(
        paint(painter, regions, seed=config.seed).numpy(),
        painted_at.masks.astype(np.uint8),
        chosen.table,
    )
    copies = find_tumor_copies(painted, tumors, workers=config.threads)
    table = sample_table(painted_at, chosen, shapes, tumors, copies)
    pasted = paste_placed_tumors(painted_at, sure_clear)
    write_implants(folder, SliceSet(painted.images, painted.masks, table), pasted.images, painter)
    sheet = draw_sheet(tumors, chosen, painted)
    sheet.save(folder / "sheet.png")
    accepted = int(table["accepted"].sum())
    metrics = {
        "status": "ok", "n": len(table), "accepted": accepted,
        # With tumours of one patient nothing says how alike those of two may be.
        "copies": None if np.isnan(copies.limit) else len(table) - accepted,
        "copy_limit": None if np.isnan(copies.limit) else round(copies.limit, 4),
        "tumors": len(tumors), "hosts": len(hosts), "steps": config.steps,
        **{name: round(value, 4) for name, value in losses.items()},
    }  # fmt: skip
    write_metrics(folder, metrics)
    print(
        f"implant: fold {fold}: {len(table)} painted of {len(tumors)} tumour slices' kind,"
        f" {accepted} accepted,"
        + (" copies not measured" if metrics["copies"] is None else f" {metrics['copies']} copies")
    )
    return ""


def sample_table(
    placed: Placements, hosts: SliceSet, shapes: SliceSet, tumors: SliceSet, copies: TumorCopies
) -> pd.DataFrame:
    """Make the table of `Implants`."""
    tumor_rows = np.append(tumors.table["row"].to_numpy(), -1)  # position -1: there is none
    return Implants.validate(
        pd.DataFrame(
            {
                "row": np.arange(len(placed)),
                "label": 1,
                "host_row": hosts.table["row"].to_numpy(),
                "shape_row": shapes.table["row"].to_numpy()[placed.donors],
                "nearest_row": tumor_rows[copies.rows],
                "likeness": copies.likeness.astype(np.float64),
                "accepted": ~copies.copied,
                "reason": np.where(copies.copied, "copy of a training patient's tumour", ""),
            }
        )
    )


def write_no_implants(folder: Path, train: SliceSet) -> None:
    """Write an empty set of slices, of the shape of the training slices."""
    none = train.select(np.empty(0, dtype=np.intp))
    slices = SliceSet(none.images, none.masks, Implants.empty())
    write_implants(folder, slices, none.images, None)


def write_implants(
    folder: Path, slices: SliceSet, pasted: NDArray[np.floating], painter: TumorPainter | None
) -> None:
    """Write the painted slices, their pasted twins and the painter, where there is one."""
    write_slice_set(folder, slices.images, slices.masks)
    np.save(folder / "pasted.npy", pasted.astype(np.float16), allow_pickle=False)
    slices.table.to_parquet(folder / "samples.parquet", index=False)
    if painter is not None:
        save_file(painter.state_dict(), folder / "painter.safetensors")
        config = {"kind": "implant", "architecture": asdict(painter.architecture)}
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    (folder / UNRELEASABLE).write_text(REASON + "\n")


def write_metrics(folder: Path, metrics: dict[str, Any]) -> None:
    """Write `metrics.json`, which says that the slices are not for release."""
    content = {**metrics, "releasable": False, "reason": REASON}
    (folder / "metrics.json").write_text(json.dumps(content, indent=1) + "\n")


def draw_sheet(tumors: SliceSet, hosts: SliceSet, painted: SliceSet) -> Any:
    """Draw real tumour slices, hosts and what was painted into them, with and without outlines."""
    real = evenly_spaced(np.arange(len(tumors)), SHEET_SLICES)
    rows = evenly_spaced(np.arange(len(painted)), SHEET_SLICES)
    count = min(len(real), len(rows))
    real, rows = real[:count], rows[:count]
    no_masks = np.zeros_like(painted.masks[rows])
    return slice_montage(
        np.concatenate([tumors.images[real, 0], hosts.images[rows, 0], painted.images[rows, 0],
                        painted.images[rows, 0]]),
        np.concatenate([tumors.masks[real], no_masks, no_masks, painted.masks[rows]]),
        marks=["real"] * count + ["host"] * count + ["PAINTED"] * 2 * count,
        columns=count,
    )  # fmt: skip


if __name__ == "__main__":
    run_stage(main)
