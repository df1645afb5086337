"""`auglift judge` on folders: arrays, pictures, with and without masks and patients."""

import contextlib
import io
import json
from functools import cache
from pathlib import Path
from unittest import mock

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tasks.commands.judge import image_folders
from tasks.commands.judge.__main__ import main, run
from tasks.common.slice_set import SliceSet
from tasks.gate.reference import check_size
from tasks.stage.errors import InputError
from tests.tasks.known_generators import copier
from tests.tasks.synthetic_cohort import phantom_slices

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
        slices.table[["subject", "label", "site"]].to_csv(folder / "slices.csv", index=False)
    return folder


def write_files(folder: Path, slices: SliceSet, kind: str, *, masks: bool = True) -> Path:
    """The slices as PNG or NIfTI files, with their patients."""
    folder.mkdir()
    slices.table[["subject", "label", "site"]].to_csv(folder / "slices.csv", index=False)
    for row, (image, mask) in enumerate(zip(slices.images[:, 0], slices.masks, strict=True)):
        planes = {"": ((image + 1) * 127.5).round().astype(np.uint8)}
        planes |= {"_mask": mask * np.uint8(255)} if masks else {}
        for word, plane in planes.items():
            path = folder / f"{row:03}{word}.{kind}"
            if kind == "png":
                Image.fromarray(plane).save(path)
            else:  # to the left, to the back
                nib.save(nib.Nifti1Image(plane.T[:, :, None], np.diag([-1.0, -1, 1, 1])), path)
    return folder


def judge(folder: Path, *words: str) -> tuple[int, str]:
    """Run the command in a folder; its exit code and what it prints."""
    printed = io.StringIO()
    with (
        contextlib.chdir(folder),
        mock.patch("sys.argv", ["judge", *words]),
        mock.patch("tasks.stage.processes.die_with_parent"),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    return int(ended.value.code or 0), printed.getvalue()


@pytest.mark.verify
def test_unseen_patients_are_accepted_and_a_page_is_written(tmp_path: Path) -> None:
    write(tmp_path / "real", cohort(16, 12))
    write(tmp_path / "train", cohort(0, 16))
    write(tmp_path / "made", cohort(100, 12), subjects=False)
    code, output = judge(tmp_path, "--real", "real", "--synthetic", "made", "--train", "train")
    assert code == 0, output
    verdict = json.loads((tmp_path / "judgement/verdict.json").read_text())
    assert verdict["verdict"] == "accepted"
    page = (tmp_path / "judgement/report.html").read_text()
    assert "Accepted</h1>" in page
    assert page.count("refused as a copy") <= verdict["images"]["memorised"]


def test_copies_are_rejected_also_as_pictures_without_masks(tmp_path: Path) -> None:
    train = cohort(0, 16)
    write(tmp_path / "real", cohort(16, 12), masks=False, subjects=False)
    write(tmp_path / "train", train, masks=False, subjects=False)
    copies = copier(train, "flip+noise", 30, np.random.default_rng(0))
    (tmp_path / "made").mkdir()
    for row, image in enumerate(copies.images[:, 0]):
        grey = ((image + 1) * 127.5).round().astype(np.uint8)
        Image.fromarray(grey).save(tmp_path / f"made/{row:03}.png")
    code, output = judge(tmp_path, "--real", "real", "--synthetic", "made", "--train", "train")
    assert code == 3, output
    assert "memorised: 30 of 30" in output
    page = (tmp_path / "judgement/report.html").read_text()
    assert page.count("refused as a copy") == 8  # of all pairs shown
    assert "No patients are named" in output
    assert "The synthetic slices have no masks" in output


def test_arrays_pictures_and_nifti_files_hold_the_same_slices(tmp_path: Path) -> None:
    real = cohort(16, 2)
    expected = image_folders.read_folder(write(tmp_path / "npy", real), name="real").slices
    for kind in ("png", "nii.gz"):
        slices = image_folders.read_folder(
            write_files(tmp_path / kind, real, kind), name="real"
        ).slices
        np.testing.assert_allclose(slices.images, expected.images, atol=1 / 127)
        np.testing.assert_array_equal(slices.masks, expected.masks)
        pd.testing.assert_frame_equal(slices.table.drop(columns="file"), expected.table)
    bare = image_folders.read_folder(
        write_files(tmp_path / "bare", real, "png", masks=False), name="real"
    )
    assert not bare.slices.table["masked"].any()
    assert bare.slices.table["label"].tolist() == real.table["label"].tolist()
    (tmp_path / "bare/slices.csv").unlink()
    unknown = image_folders.read_folder(tmp_path / "bare", name="real").slices.table
    assert (unknown["label"] == -1).all()
    assert unknown["subject"].nunique() == len(real)


def test_folders_that_do_not_fit_are_rejected_in_one_line(tmp_path: Path) -> None:
    slices = cohort(16, 3)

    def refused(name: str) -> str:
        with pytest.raises(InputError) as caught:
            image_folders.split_patients(
                image_folders.read_folder(tmp_path / name, name="real").slices, seed=0
            )
        assert "\n" not in str(caught.value)
        return str(caught.value)

    write(tmp_path / "masks", slices)
    np.save(tmp_path / "masks/masks.npy", slices.masks[:, ::2])
    assert "one mask of the same size" in refused("masks")
    write(tmp_path / "range", slices)
    np.save(tmp_path / "range/images.npy", slices.images * 3)
    assert "[-1, 1]" in refused("range")
    write(tmp_path / "type", slices)
    np.save(tmp_path / "type/images.npy", (slices.images * 900).astype(np.int16))
    assert "int16" in refused("type")
    write(tmp_path / "rows", slices)
    (tmp_path / "rows/slices.csv").write_text("subject,label\nA,1\n")
    assert "1 rows for" in refused("rows")
    write(tmp_path / "labels", slices)
    slices.table.assign(label=5).to_csv(tmp_path / "labels/slices.csv")
    assert "labels [5]" in refused("labels")
    (tmp_path / "empty").mkdir()
    assert "no slices" in refused("empty")
    write_files(tmp_path / "lonely", slices, "png")
    (tmp_path / "lonely/003_mask.png").unlink()
    assert "003.png has no _mask" in refused("lonely")
    (tmp_path / "colour").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "colour/a.png")
    assert "8-bit grey" in refused("colour")
    for name in ("a.png", "a.nii.gz", "a.nii", "images.npy"):
        (tmp_path / f"broken {name}").mkdir()
        (tmp_path / f"broken {name}" / name).write_bytes(b"no image")
        assert "read" in refused(f"broken {name}")
    write(tmp_path / "table", slices)
    (tmp_path / "table/slices.csv").write_bytes(b'"\xff\n')
    assert "no readable table" in refused("table")
    write(tmp_path / "people", slices)
    assert "3 real patients, at least 4" in refused("people")
    small = SliceSet(slices.images[..., ::2, ::2], slices.masks, slices.table)
    with pytest.raises(InputError, match=r"\(1, 32, 32\), validation slices \(1, 64, 64\)"):
        check_size("synthetic", small, slices)


@pytest.mark.verify
@pytest.mark.parametrize("kind", ["npy", "png", "nii.gz"])
@pytest.mark.parametrize("masks", [True, False])
def test_unseen_patients_are_accepted_in_every_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, masks: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "made"
    if kind == "npy":
        write(folder, cohort(100, 12), masks=masks)
    else:
        write_files(folder, cohort(100, 12), kind, masks=masks)
    write(tmp_path / "real", cohort(16, 12), masks=masks)
    write(tmp_path / "train", cohort(0, 16), masks=masks)
    paths = [tmp_path / name for name in ("real", "made", "train", "out")]
    assert run(*paths) == "accepted", (tmp_path / "out/verdict.json").read_text()
    measures = json.loads((tmp_path / "out/verdict.json").read_text())["measures"]
    assert (measures["mask_agreement"]["ratio"] is not None) == masks
    assert measures["site_coverage"]["ratio"] > 0.6
    page = (tmp_path / "out/report.html").read_text()
    assert "site A" in page
    assert ("have no masks" in page) == (not masks)


@pytest.mark.verify
def test_half_of_the_real_patients_stand_for_training_ones_that_are_not_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "real", cohort(0, 28), subjects=True)
    write(tmp_path / "made", cohort(100, 12), subjects=False)
    assert run(tmp_path / "real", tmp_path / "made", None, tmp_path / "out") == "accepted"
    notes = json.loads((tmp_path / "out/verdict.json").read_text())["notes"]
    assert any("copies of others go unseen" in note for note in notes)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--synthetic", "few"), "3 synthetic slices, at least 20"),
        (("--synthetic", "real", "--out", "real/images.npy"), "is no folder"),
        (("--synthetic", "real", "--train", "real"), "in --train and in --real"),
    ],
)
def test_what_cannot_be_judged_is_reported_in_one_line(
    tmp_path: Path, words: tuple[str, ...], line: str
) -> None:
    real = cohort(16, 12)
    real = real.select(real.table["subject"].isin(real.table["subject"].unique()[:3]).to_numpy())
    write(tmp_path / "real", real)
    write(tmp_path / "few", real.select(np.arange(3)))
    code, output = judge(tmp_path, "--real", "real", *words)
    assert code == 2
    assert line in output
    assert len(output.strip().splitlines()) == 1
