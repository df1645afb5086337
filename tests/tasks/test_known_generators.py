"""The gate is right about generators whose worth is known, and says why."""

import numpy as np
import pandas as pd
import pytest

from tasks.arrays import SliceSet
from tests.tasks.gate_room import judged, oracle, real, rng
from tests.tasks.known_generators import collapsed, copier, damaged


@pytest.mark.parametrize(
    "how",
    [
        "shift+noise",
        *(
            pytest.param(how, marks=pytest.mark.verify)
            for how in ("as-is", "flip+gain", "blur+shift")
        ),
    ],
)
def test_a_copier_is_called_a_copier(how: str) -> None:
    found = judged(copier(real().train, how, 40, rng()))
    assert found.verdict == "rejected"
    assert found.reasons[0].startswith("memorised")
    assert found.images["memorised"] >= 0.95 * found.images["n"]


def test_planted_copies_are_found_and_the_innocent_left_alone() -> None:
    copies = copier(real().train, "shift+noise", 20, rng())
    innocent = oracle().take(np.arange(60))
    mixed = SliceSet(
        np.concatenate([innocent.images, copies.images]),
        np.concatenate([innocent.masks, copies.masks]),
        pd.concat([innocent.table, copies.table], ignore_index=True),
    )
    found = judged(mixed)
    guilty = (found.samples["reason"] == "memorised").to_numpy()
    assert guilty[60:].mean() >= 0.95
    assert guilty[:60].mean() <= 0.05
    assert found.verdict == "rejected"


@pytest.mark.parametrize(
    ("how", "word"),
    [
        pytest.param("blurred", "spectrum", marks=pytest.mark.verify),
        pytest.param("noisy", "spectrum", marks=pytest.mark.verify),
        ("checkerboard", "spectrum"),
        ("upside-down", "orientation"),
        pytest.param("masks shifted", "mask", marks=pytest.mark.verify),
        ("masks swapped", "mask"),
        ("masks empty", "label 1"),
        pytest.param("black", "broken", marks=pytest.mark.verify),
    ],
)
def test_a_fault_is_named(how: str, word: str) -> None:
    found = judged(damaged(oracle(), how, rng()))
    assert found.verdict == "rejected"
    assert word in " ".join(found.reasons), found.reasons


def test_a_collapsed_generator_is_called_collapsed() -> None:
    found = judged(collapsed(oracle(), 60, rng()))
    assert found.verdict == "rejected"
    assert found.reasons[0].startswith("collapsed")


def test_a_generator_of_one_site_is_far_from_the_other() -> None:
    one_site = oracle().take((oracle().table["site"] == "A").to_numpy())
    found = judged(one_site).subgroups
    near, far = found["site A"].ratio, found["site B"].ratio
    assert near is not None
    assert far is not None
    assert far > 1.3 * near
    assert {"label 0", "label 1", "tumour size small"} <= set(found)
