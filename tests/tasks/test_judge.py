"""`auglift judge` on folders: arrays, pictures, with and without masks and patients."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.arrays import SliceSet
from tests.tasks.cohort import phantom_slices
from tests.tasks.known_generators import copier

ROOT = Path(__file__).parents[2]


@cache
def cohort(first: int, count: int) -> SliceSet:
    return phantom_slices(first, count)


def write(folder: Path, slices: SliceSet, *, subjects: bool = True, masks: bool = True) -> Path:
    folder.mkdir()
    np.save(folder / "images.npy", slices.images)
    if masks:
        np.save(folder / "masks.npy", slices.masks)
    if subjects:
        slices.table[["subject", "label"]].to_csv(folder / "slices.csv", index=False)
    return folder


def judge(folder: Path, *words: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "tasks.judge", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.verify
def test_unseen_patients_are_accepted_and_a_page_is_written(tmp_path: Path) -> None:
    write(tmp_path / "real", cohort(16, 12))
    write(tmp_path / "train", cohort(0, 16))
    write(tmp_path / "made", cohort(100, 12), subjects=False)
    code, said = judge(tmp_path, "--real", "real", "--synthetic", "made", "--train", "train")
    assert code == 0, said
    verdict = json.loads((tmp_path / "judgement/verdict.json").read_text())
    assert verdict["verdict"] == "accepted"
    assert "<h1>Accepted</h1>" in (tmp_path / "judgement/report.html").read_text()


def test_copies_are_rejected_also_as_pictures_without_masks(tmp_path: Path) -> None:
    train = cohort(0, 16)
    write(tmp_path / "real", cohort(16, 12), masks=False, subjects=False)
    write(tmp_path / "train", train, masks=False, subjects=False)
    copies = copier(train, "flip+noise", 30, np.random.default_rng(0))
    (tmp_path / "made").mkdir()
    for row, image in enumerate(copies.images[:, 0]):
        grey = ((image + 1) * 127.5).round().astype(np.uint8)
        Image.fromarray(grey).save(tmp_path / f"made/{row:03}.png")
    code, said = judge(tmp_path, "--real", "real", "--synthetic", "made", "--train", "train")
    assert code == 3, said
    assert "memorised: 30 of 30" in said
    assert "No patients are named" in said


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--synthetic", "nowhere"), "nowhere is no folder"),
        (("--synthetic", "few"), "3 synthetic slices, at least 20"),
        (("--synthetic", "real", "--train", "real"), "in --train and in --real"),
    ],
)
def test_what_cannot_be_judged_is_said_in_one_line(
    tmp_path: Path, words: tuple[str, ...], line: str
) -> None:
    real = phantom_slices(16, 3)
    write(tmp_path / "real", real)
    write(tmp_path / "few", real.take(np.arange(3)))
    code, said = judge(tmp_path, "--real", "real", *words)
    assert code == 2
    assert line in said
    assert len(said.strip().splitlines()) == 1
