import numpy as np
import pandas as pd
import pytest

from tasks.common.slice_set import check_pixel_range, read_slice_set, read_slices, write_slice_set
from tasks.stage.errors import InputError


def write(folder, count=4):
    write_slice_set(folder, np.zeros((count, 1, 8, 8)), np.zeros((count, 8, 8), np.uint8))
    pd.DataFrame({"row": np.arange(count)}).to_parquet(folder / "slices.parquet")


def truncate(path):
    path.write_bytes(path.read_bytes()[:-40])


FAULTS = {
    "images.npy": {
        "is missing": lambda path: path.unlink(),
        "is damaged": truncate,
        "3 slices for the 4 rows": lambda path: np.save(path, np.zeros((3, 1, 8, 8), np.float16)),
        r"uint8 \(4, 1, 8, 8\), expected floats": lambda path: np.save(
            path, np.zeros((4, 1, 8, 8), np.uint8)
        ),
        "Object arrays cannot be loaded": lambda path: np.save(path, np.array([{}] * 4)),
    },
    "masks.npy": {
        "is missing": lambda path: path.unlink(),
        r"uint8 \(4, 8, 8\) of 0 and 1": lambda path: np.save(
            path, np.full((4, 8, 8), 255, np.uint8)
        ),
        r"\(4, 9, 8\), expected uint8 \(4, 8, 8\)": lambda path: np.save(
            path, np.zeros((4, 9, 8), np.uint8)
        ),
    },
    "slices.parquet": {"is damaged": truncate},
}


@pytest.mark.parametrize(
    ("name", "said"), [(name, said) for name, faults in FAULTS.items() for said in faults]
)
def test_a_damaged_set_is_one_line_that_names_the_file(tmp_path, name, said):
    write(tmp_path)
    FAULTS[name][said](tmp_path / name)
    with pytest.raises(InputError, match=rf"{name} is .*{said}|{name} {said}"):
        read_slice_set(tmp_path, "slices.parquet")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1.1])
def test_slices_that_are_no_pictures_are_refused(tmp_path, value):
    write(tmp_path)
    slices = read_slice_set(tmp_path, "slices.parquet")
    check_pixel_range(slices, tmp_path)
    slices.images[2, 0, 3, 3] = value
    with pytest.raises(InputError, match=r"images\.npy is damaged: values that are no numbers"):
        check_pixel_range(slices, tmp_path)


def test_slices_that_are_not_there_yet_are_one_clear_line(tmp_path):
    with pytest.raises(InputError, match=r"slices\.parquet is missing; `dvc repro`"):
        read_slices("0", "train", tmp_path)


def test_a_fold_that_was_not_cut_is_told_with_those_that_were(tmp_path):
    write_slice_set(tmp_path, np.zeros((2, 1, 8, 8)), np.zeros((2, 8, 8), np.uint8))
    table = pd.DataFrame({"partition_a": ["train", "val"], "partition_b": ["val", "train"]})
    table["subject"] = ["sub-1", "sub-2"]
    table.to_parquet(tmp_path / "slices.parquet")
    assert len(read_slices("a", "train", tmp_path)) == 1
    with pytest.raises(InputError, match=r"has no fold c, only a, b: see slices\.folds"):
        read_slices("c", "train", tmp_path)


@pytest.mark.parametrize(
    ("sides", "said"),
    [
        (["train", "val"], "patient sub-1 is in more than one of train, val and test"),
        (["train", "Test"], "partition_a of 1 slices is 'Test'; expected train, val, test, unused"),
    ],
)
def test_every_stage_that_reads_slices_stops_at_a_planted_patient(tmp_path, sides, said):
    write_slice_set(tmp_path, np.zeros((2, 1, 8, 8)), np.zeros((2, 8, 8), np.uint8))
    table = pd.DataFrame({"subject": ["sub-1", "sub-1"], "partition_a": sides})
    table.to_parquet(tmp_path / "slices.parquet")
    with pytest.raises(InputError, match=said):
        read_slices("a", "train", tmp_path)
