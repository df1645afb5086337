"""What is handed out reads back: BIDS as its validator has it, PNG as the judge reads it."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasks.commands.export import generate_cli
from tasks.commands.judge import image_folders
from tasks.common.release_candidate import read_candidate
from tasks.generate.external_images import read_image_folder
from tasks.release import nifti_writer, png_writer
from tasks.release.nifti_writer import file_name
from tests.tasks.export_fixtures import clone
from tests.tasks.fake_run import Run, write
from tests.tasks.test_release import release

VALIDATOR = "bids-validator-deno"


def validator() -> str | None:
    """The validator's command: beside Python, where its package was installed, or on the path."""
    package = importlib.util.find_spec("bids_validator_deno")
    places = [Path(sys.executable).parent]
    if package is not None and package.origin is not None:
        places.append(Path(package.origin).parents[4] / "bin")
    return shutil.which(VALIDATOR, path=os.pathsep.join([*map(str, places), os.environ["PATH"]]))


def bids_errors(root: Path) -> list[str]:
    """The codes of what the BIDS validator calls an error."""
    command = validator()
    if command is None:
        pytest.skip(f"the BIDS validator is not installed (pip install {VALIDATOR})")
    result = subprocess.run(
        [command, "--format", "json", str(root)],
        env={**os.environ, "DENO_NO_UPDATE_CHECK": "1"},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    if not result.stdout.lstrip().startswith("{"):
        pytest.skip(f"the BIDS validator does not run here: {result.stderr.strip()[-200:]}")
    issues = json.loads(result.stdout)["issues"]["issues"]
    return [
        f"{issue['code']} {issue.get('subCode', '')} {issue.get('location', '')}"
        for issue in issues if issue["severity"] == "error"
    ]  # fmt: skip


def generated(root: Path, *words: object) -> Path:
    """What `auglift generate` writes from the clone in `root`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr("sys.argv", ["generate", "--out", "out", *map(str, words)])
        generate_cli.main()
    return root / "out"


@pytest.mark.parametrize("channels", [1, 2])
def test_a_release_has_no_error_for_the_bids_validator(tmp_path: Path, channels: int) -> None:
    root = write(tmp_path, Run(synthetic=4, accept_share=1.0, channels=channels))
    release(root)
    bids = root / "data/release/bids"
    assert bids_errors(bids) == []
    if channels == 1:  # the validator does look
        (bids / "FLAIR.json").unlink()
        assert any("SkullStripped" in error for error in bids_errors(bids))


@pytest.mark.parametrize(
    "modalities", [("FLAIR",), ("T1", "T1c"), ("T1c",), ("T2", "other"), ("other",)]
)
def test_generated_nifti_has_no_error_for_the_bids_validator(
    tmp_path: Path, modalities: tuple[str, ...]
) -> None:
    out = generated(clone(tmp_path, modalities=modalities), "--count", 2, "--format", "nifti")
    assert not (out / "slices.csv").exists()
    people = pd.read_csv(out / "participants.tsv", sep="\t")
    assert set(people["participant_id"]) == {path.name for path in out.glob("sub-*")}
    assert bids_errors(out) == []


@pytest.mark.parametrize("known", [True, False, None])
def test_whether_skulls_are_shown_is_told_as_far_as_it_is_known(
    tmp_path: Path, known: bool | None
) -> None:
    nifti_writer.write_bids_root(
        tmp_path, modalities=["FLAIR", "T1"], version="1", license_words="none", digest="0",
        skull_stripped=known,
    )  # fmt: skip
    for suffix in ("FLAIR", "T1w"):
        sidecar = json.loads((tmp_path / f"{suffix}.json").read_text())
        assert sidecar["SkullStripped"] is bool(known)
        assert ("not known" in sidecar["Description"]) == (known is None)


@pytest.mark.parametrize("channels", [1, 2])
def test_released_pictures_read_back_with_every_channel_mask_and_label(
    tmp_path: Path, channels: int
) -> None:
    root = write(tmp_path, Run(synthetic=8, accept_share=1.0, channels=channels))
    masks = np.load(root / "data/synthetic/0/masks.npy")
    masks[1] = 0  # a tumour slice without an outline
    np.save(root / "data/synthetic/0/masks.npy", masks)
    release(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        candidate = read_candidate(["0"])
    images = read_image_folder(root / "data/release/png")
    assert images.labels.tolist() == candidate.samples["label"].tolist()
    assert images.masks is not None and np.array_equal(images.masks, candidate.masks)
    assert images.images.shape == candidate.images.shape
    assert np.abs(images.images - candidate.images).max() < 1 / 125
    side = image_folders.read_folder(root / "data/release/png", name="synthetic")
    assert side.slices.table["file"].tolist() == [
        f"{subject}.png" for subject in images.table["subject"]
    ]


def test_generated_pictures_of_two_modalities_read_back(tmp_path: Path) -> None:
    out = generated(clone(tmp_path, modalities=("T2", "FLAIR")), "--count", 5)
    images, table = read_image_folder(out), pd.read_csv(out / "slices.csv")
    assert images.images.shape[:2] == (5, 2)
    assert images.labels.tolist() == table["label"].tolist()
    (out / "slices.csv").unlink()
    by_name = read_image_folder(out)
    assert np.array_equal(by_name.images, images.images)
    assert "FLAIR" in by_name.assumed["channels"]


def test_of_three_modalities_the_table_tells_the_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (3, 3, 16, 16)).astype(np.float32)
    modalities = ["FLAIR", "T2", "T1"]
    table = pd.DataFrame({"subject": ["a", "b", "c"], "label": [1, 0, 1]})
    for name, image in zip(table["subject"], images, strict=True):
        mask = np.zeros((16, 16), np.uint8)
        png_writer.write_png(tmp_path, name, image, mask, modalities=modalities)
    png_writer.write_slices_csv(tmp_path, table, table["subject"].tolist(), modalities=modalities)
    slices_read = read_image_folder(tmp_path)
    assert np.abs(slices_read.images - images).max() < 1 / 125
    assert slices_read.labels.tolist() == [1, 0, 1]


def test_the_entities_of_a_file_name_are_in_the_order_of_bids() -> None:
    name = "sub-0002_ses-01_chunk-003"
    assert file_name(name, "ce-gadolinium_T1w") == (
        "sub-0002_ses-01_ce-gadolinium_chunk-003_T1w.nii.gz"
    )
    assert file_name(name, "label-tumor_mask") == f"{name}_label-tumor_mask.nii.gz"
    assert file_name("sub-syn00001", "ce-gadolinium_T1w") == (
        "sub-syn00001_ce-gadolinium_T1w.nii.gz"
    )
