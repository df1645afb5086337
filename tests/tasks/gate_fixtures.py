"""One cohort of the simulator, measured once for every test of the gate."""

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from tasks.common.slice_set import SliceSet, write_slice_set
from tasks.gate.evaluate import evaluate
from tasks.gate.reference import Reference, prepare_reference
from tasks.gate.verdict import GateResult
from tasks.params.gate import Gate
from tests.tasks.known_generators import damaged, one_site
from tests.tasks.synthetic_cohort import as_synthetic, phantom_slices

ROOT = Path(__file__).parents[2]
CONFIG = Gate(seed=1, threads=1, draws=20)


@cache
def real() -> Reference:
    """16 training and 12 validation patients."""
    return prepare_reference(phantom_slices(0, 16), phantom_slices(16, 12), CONFIG)


@cache
def oracle() -> SliceSet:
    """18 patients of the same simulator whom nobody has seen."""
    return phantom_slices(100, 18)


def some(slices: SliceSet, count: int) -> SliceSet:
    """So many of the slices, of every patient: a verdict on half of them takes half the time."""
    return slices.select(np.linspace(0, len(slices) - 1, count).astype(int))


def judged(slices: SliceSet) -> GateResult:
    """The verdict on slices as if a generator had made them."""
    return evaluate(as_synthetic(slices), real(), CONFIG)


@cache
def judged_damaged(how: str) -> GateResult:
    """The verdict on fresh slices with one fault of `known_generators.EXPECTED`."""
    return judged(damaged(some(oracle(), 70), how, rng()))


@cache
def judged_one_site() -> GateResult:
    """The verdict on fresh slices of site A alone."""
    return judged(one_site(oracle(), "A"))


def write_stage(folder: Path, train: SliceSet, val: SliceSet, synthetic: SliceSet) -> None:
    """Write what the stage reads."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["gate"] |= {"threads": 1, "draws": 20, "segmenter_steps": 20}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    write_real_slices(folder, train, val)
    generated = folder / "data/synthetic/0"
    generated.mkdir(parents=True)
    synthetic = as_synthetic(synthetic)
    write_slice_set(generated, synthetic.images, synthetic.masks)
    synthetic.table.to_parquet(generated / "samples.parquet", index=False)


def write_real_slices(folder: Path, train: SliceSet, val: SliceSet) -> None:
    """Write `data/slices` with two partitions of fold 0."""
    slices = folder / "data/slices"
    slices.mkdir(parents=True)
    write_slice_set(
        slices,
        np.concatenate([train.images, val.images]),
        np.concatenate([train.masks, val.masks]),
    )
    tables = [train.table.assign(partition_0="train"), val.table.assign(partition_0="val")]
    table = pd.concat(tables, ignore_index=True)
    table.assign(row=np.arange(len(table))).to_parquet(slices / "slices.parquet", index=False)


def rng() -> np.random.Generator:
    """The same random numbers in every test."""
    return np.random.default_rng(5)
