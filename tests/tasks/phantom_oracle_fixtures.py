"""A phantom study whose truth is known: few training patients, many test patients, and fresh
patients of the same simulator that stand in for a perfect generator."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from tasks.common.slice_set import SliceSet, read_slice_set, write_slice_set

FEW, TEST = 12, 48  # patients; every twelve hold one of each kind
ARMS = ["real", "real+classical", "real+synthetic", "real+classical+synthetic"]


@dataclass(frozen=True)
class Study:
    """The slices of the study's patients, and of the fresh ones that are the oracle's.

    `root` holds `data/volumes` of them all.
    """

    root: Path
    table: pd.DataFrame
    everything: SliceSet
    fresh: SliceSet


def simulate(root: Path, *, patients: int = 156) -> Study:
    """Run phantom, ingest and slices in `root`, and deal the patients anew.

    One block of twelve trains (of which four validate), four blocks test, the rest is fresh.
    """
    from tasks.ingest.__main__ import main as ingest
    from tasks.phantom.__main__ import main as phantom
    from tasks.slices.__main__ import main as slices

    tree = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    tree["phantom"] |= {"patients": patients, "outlined": None}
    (root / "params.yaml").write_text(yaml.safe_dump(tree))
    phantom()
    ingest("phantom")
    slices()
    everything = read_slice_set(Path("data/slices"), "slices.parquet")
    table = everything.table
    # Dealt by tumour and site, so that every side holds its share of both.
    kinds = table.groupby("subject").agg(tumor=("label", "max"), site=("site", "first"))
    kinds["turn"] = kinds.groupby(["tumor", "site"]).cumcount()
    order = kinds.sort_values(["turn", "tumor", "site"]).index
    side = dict.fromkeys(order, "fresh")
    side |= dict.fromkeys(order[:FEW], "train") | dict.fromkeys(order[2:6], "val")
    side |= dict.fromkeys(order[FEW : FEW + TEST], "test")
    table["partition_0"] = table["subject"].map(side)
    fresh = everything.select((table["partition_0"] == "fresh").to_numpy())
    return Study(root, table, everything, fresh)


def write_world(root: Path, study: Study, pool: SliceSet, *, few: bool, params: dict) -> None:
    """`data/slices` with few or all training patients, and the pool as every synthetic arm's."""
    table = study.table.copy()
    if not few:
        table["partition_0"] = table["partition_0"].replace("fresh", "train")
    keep = (table["partition_0"] != "fresh").to_numpy()
    part = study.everything.select(keep)
    folder = root / "data/slices"
    folder.mkdir(parents=True, exist_ok=True)
    write_slice_set(folder, part.images, part.masks)
    table[keep].reset_index(drop=True).to_parquet(folder / "slices.parquet")
    (folder / "stats.json").write_text(json.dumps({"pixel_mm": 3.0}))
    volumes = root / "data/volumes"
    volumes.unlink(missing_ok=True)
    volumes.symlink_to(study.root / "data/volumes")
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    for arm in ARMS:
        write_pool(root, arm, pool if "synthetic" in arm else pool.select(np.zeros(0, dtype=int)))


def write_pool(root: Path, arm: str, pool: SliceSet) -> None:
    """`data/pool/ARM`."""
    folder = root / "data/pool" / arm
    folder.mkdir(parents=True, exist_ok=True)
    write_slice_set(folder, pool.images, pool.masks)
    count = np.arange(len(pool))
    label = pool.table["label"].to_numpy() if len(pool) else count
    fold = pd.Series(["0"] * len(pool), dtype="str")
    pd.DataFrame({"row": count, "fold": fold, "label": label, "source_row": count}).to_parquet(
        folder / "samples.parquet"
    )
    status = {"status": "ok" if len(pool) else "none", "n": len(pool)}
    (folder / "pool.json").write_text(json.dumps({"0": status}))


def copied(study: Study) -> SliceSet:
    """What a copier would give: the training slices once more."""
    return study.everything.select((study.table["partition_0"] == "train").to_numpy())


def wrongly_masked(study: Study) -> SliceSet:
    """The oracle's slices, each tumour slice with the mask of another patient's."""
    fresh = study.fresh
    tumor = np.flatnonzero(fresh.table["label"] == 1)
    masks = fresh.masks.copy()
    masks[tumor] = fresh.masks[np.roll(tumor, len(tumor) // 2)]
    return SliceSet(fresh.images, masks, fresh.table)
