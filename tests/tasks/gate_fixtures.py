"""One cohort of the simulator, measured once for every test of the gate."""

from functools import cache

import numpy as np

from tasks.common.slice_set import SliceSet
from tasks.gate.evaluate import Reference, evaluate, prepare_reference
from tasks.gate.verdict import GateResult
from tasks.params.gate import Gate
from tests.tasks.synthetic_cohort import as_synthetic, phantom_slices

CONFIG = Gate(seed=1, threads=1, draws=20)


@cache
def real() -> Reference:
    """16 training and 12 validation patients."""
    return prepare_reference(phantom_slices(0, 16), phantom_slices(16, 12), CONFIG)


@cache
def oracle() -> SliceSet:
    """18 patients of the same simulator whom nobody has seen."""
    return phantom_slices(100, 18)


def judged(slices: SliceSet) -> GateResult:
    """The verdict on slices as if a generator had made them."""
    return evaluate(as_synthetic(slices), real(), CONFIG)


def rng() -> np.random.Generator:
    """The same random numbers in every test."""
    return np.random.default_rng(5)
