import numpy as np
import pandas as pd
import pytest

from tasks.arrays import load_slices, save_set
from tasks.stage import StageError


def test_slices_that_are_not_there_yet_are_one_clear_line(tmp_path):
    with pytest.raises(StageError, match=r"holds no slices\.parquet: run the stage before"):
        load_slices("0", "train", tmp_path)


def test_a_fold_that_was_not_cut_is_told_with_those_that_were(tmp_path):
    save_set(tmp_path, np.zeros((2, 1, 8, 8)), np.zeros((2, 8, 8), np.uint8))
    table = pd.DataFrame({"partition_a": ["train", "val"], "partition_b": ["val", "train"]})
    table.to_parquet(tmp_path / "slices.parquet")
    assert len(load_slices("a", "train", tmp_path)) == 1
    with pytest.raises(StageError, match=r"has no fold c, only a, b: see slices\.folds"):
        load_slices("c", "train", tmp_path)
