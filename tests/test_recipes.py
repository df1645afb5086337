"""What the comparison of recipes rests on."""

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter

from benchmarks.compare_recipes import select_patients, to_markdown
from benchmarks.network_free_measures import sliced_wasserstein


def slices(n: int = 12, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.normal(size=(n, 1, 64, 64)), (0, 0, 2, 2))
    return (smooth / np.abs(smooth).max()).astype(np.float32)


def test_the_sliced_distance_is_nothing_for_the_same_slices_and_grows_with_damage() -> None:
    real, other = slices(), slices(seed=1)
    assert sliced_wasserstein(real, real) == 0
    floor = sliced_wasserstein(other, real)
    blurred = gaussian_filter(other, (0, 0, 1.5, 1.5))
    noisy = other + np.random.default_rng(2).normal(0, 0.2, other.shape).astype(np.float32)
    assert floor < sliced_wasserstein(blurred, real)
    assert 2 * floor < sliced_wasserstein(noisy, real)


def test_a_subset_keeps_whole_patients_in_the_proportion_of_the_sides() -> None:
    sides = ["train"] * 30 + ["val"] * 10 + ["test"] * 20
    table = pd.DataFrame(
        {"subject": [f"sub-{i}" for i in range(60) for _ in range(3)],
         "partition_0": np.repeat(sides, 3)}
    )  # fmt: skip
    kept = table[select_patients(table, 20, seed=3)]
    side = kept.groupby("subject")["partition_0"].agg(["first", "size"])
    assert (side["size"] == 3).all()
    assert side["first"].value_counts().to_dict() == {"train": 15, "val": 5}
    assert np.array_equal(select_patients(table, 20, seed=3), select_patients(table, 20, seed=3))
    assert not np.array_equal(
        select_patients(table, 20, seed=3), select_patients(table, 20, seed=4)
    )
    everybody = table[select_patients(table, 0, seed=3)]
    assert set(everybody["partition_0"]) == {"train", "val"} and len(everybody) == 120


def test_a_table_is_markdown() -> None:
    table = pd.DataFrame({"trial": ["small_data"], "FD": [3.14159]})
    assert to_markdown(table) == "| trial | FD |\n| --- | --- |\n| small_data | 3.14 |"
