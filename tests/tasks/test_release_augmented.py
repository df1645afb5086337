"""An augmented release: real training slices beside synthetic ones, and nobody who is held out."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tasks.generate.external_images import read_image_folder
from tasks.stage.errors import InputError
from tests.tasks.augmented_fixtures import augmented_run, set_release
from tests.tasks.dicom_validators import dicom_errors
from tests.tasks.test_release import release
from tests.tasks.test_release_bids import bids_errors


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An augmented release of two folds and two modalities; nobody writes to it."""
    root = augmented_run(tmp_path_factory.mktemp("augmented"), folds=["0", "1"], channels=2)
    release(root)
    return root


def partitions(root: Path) -> pd.DataFrame:
    return pd.read_parquet(root / "data/slices/slices.parquet")


def test_all_training_slices_of_the_fold_are_there_and_no_one_elses(root: Path) -> None:
    table = pd.read_csv(root / "data/release/slices.csv")
    slices = partitions(root)
    train = slices[slices["partition_0"] == "train"]
    real = table[table["origin"] == "real"]
    assert real["subject"].value_counts().to_dict() == train["subject"].value_counts().to_dict()
    assert set(table["origin"]) == {"real", "synthetic"}
    assert set(table["partition"]) == {"train"}
    held_out = set(slices["subject"]) - set(train["subject"])
    listed_only = {"patients.csv", "SHA256SUMS"}
    for path in (root / "data/release").rglob("*"):
        assert not any(subject in path.name for subject in held_out)
        if path.is_file() and path.name not in listed_only and path.suffix in (".csv", ".tsv"):
            assert not any(subject in path.read_text() for subject in held_out)


def test_synthetic_slices_of_other_folds_stay_out_because_they_learnt_from_its_test_patients(
    root: Path,
) -> None:
    table = pd.read_csv(root / "data/release/slices.csv")
    assert set(table.loc[table["origin"] == "synthetic", "fold"]) == {0}


def test_a_seed_is_a_whole_number_and_an_unknown_area_is_none(root: Path) -> None:
    text = pd.read_csv(root / "data/release/slices.csv", dtype=str, keep_default_na=False)
    synthetic_rows = text[text["origin"] == "synthetic"]
    assert synthetic_rows["seed"].tolist() == [str(1000 + number) for number in range(6)]
    assert (text.loc[text["origin"] == "real", "seed"] == "").all()
    assert (text.loc[text["mask_known"] == "False", "tumor_area_mm2"] == "").all()


def test_every_real_patient_is_listed_with_the_partition(root: Path) -> None:
    listed = pd.read_csv(root / "data/release/patients.csv").set_index("subject")["partition"]
    assert listed.to_dict() == dict(
        partitions(root)[["subject", "partition_0"]].itertuples(index=False, name=None)
    )


def test_a_real_slice_is_the_same_in_nifti_and_png_and_says_that_it_is_a_patients(
    root: Path,
) -> None:
    folder, slices = root / "data/release", partitions(root)
    images = np.load(root / "data/slices/images.npy")
    place = int(np.flatnonzero(slices["partition_0"] == "train")[0])
    subject = slices["subject"][place]
    stem = f"{subject}_ses-01_chunk-001"
    volume = nib.load(folder / f"bids/{subject}/ses-01/anat/{stem}_FLAIR.nii.gz")
    assert np.abs(np.asarray(volume.dataobj)[:, :, 0].T / 4095 * 2 - 1 - images[place, 0]).max() < (
        1 / 2000
    )
    assert b"SYNTHETIC" not in volume.header.binaryblock
    png = Image.open(folder / f"png/{stem}.png")
    assert png.text["SyntheticData"] == "NO"
    assert "not anonymous" in png.text["Description"]
    sidecar = folder / f"bids/{subject}/ses-01/{subject}_ses-01_FLAIR.json"
    assert json.loads(sidecar.read_text())["SyntheticData"] is False
    synthetic_sidecar = json.loads(
        (folder / "bids/sub-syn00001/sub-syn00001_FLAIR.json").read_text()
    )
    assert synthetic_sidecar["SyntheticData"] is True


def test_no_real_slice_becomes_dicom(root: Path) -> None:
    names = {path.name for path in (root / "data/release/dicom").iterdir()}
    assert names == {f"sub-syn{number:05d}" for number in range(1, 7)}


def test_the_card_says_that_these_are_patients_data(root: Path) -> None:
    card = (root / "data/release/DATACARD.md").read_text()
    assert "This data set holds patients' data" in card
    assert "pseudonymised, not anonymous" in card
    assert "Everything here is synthetic" not in card
    assert "Of 2 of them no outline is known" in card
    assert "patients' data" in (root / "data/release/bids/README.md").read_text()


def test_without_an_outline_a_slice_has_neither_mask_nor_png_where_it_may_show_a_tumour(
    root: Path,
) -> None:
    folder = root / "data/release"
    table = pd.read_csv(folder / "slices.csv").set_index("name")
    unknown = table.index[(table["subject"] == "sub-0002") & (table["label"] == 1)]
    assert len(unknown) == 2
    for name in unknown:
        assert not (folder / f"png/{name}.png").exists()
        assert list((folder / "bids/sub-0002/ses-01/anat").glob(f"{name}_FLAIR.nii.gz"))
        assert not list((folder / "bids/sub-0002/ses-01/anat").glob(f"{name}_label*"))
    read = read_image_folder(folder / "png")
    assert read.masks is not None
    assert len(read.images) == len(table) - len(unknown)


def test_the_validators_find_nothing_wrong(root: Path, tmp_path: Path) -> None:
    folder = root / "data/release"
    assert bids_errors(folder / "bids") == []
    assert dicom_errors(sorted((folder / "dicom/sub-syn00002").iterdir())) == []
    # Where no visit is known, a patient's slices lie in no folder of a session.
    path = augmented_run(tmp_path) / "data/slices/slices.parquet"
    partitions(tmp_path).drop(columns="session").to_parquet(path)
    release(tmp_path)
    assert bids_errors(tmp_path / "data/release/bids") == []


def test_a_planted_patient_who_also_tests_stops_the_release(tmp_path: Path) -> None:
    augmented_run(tmp_path)
    path = tmp_path / "data/slices/slices.parquet"
    table = pd.read_parquet(path)
    train = table.loc[table["partition_0"] == "train", "subject"].iloc[0]
    place = int(np.flatnonzero(table["partition_0"] == "test")[0])
    table.loc[place, "subject"] = train
    table.to_parquet(path)
    with pytest.raises(InputError, match=f"patient {train} is in more than one of train"):
        release(tmp_path)
    assert not (tmp_path / "data/release").exists()


def test_a_planted_test_patient_under_another_pseudonym_stops_the_release(tmp_path: Path) -> None:
    augmented_run(tmp_path)
    images = np.load(tmp_path / "data/slices/images.npy")
    table = partitions(tmp_path)
    rows = {p: int(np.flatnonzero(table["partition_0"] == p)[0]) for p in ("train", "test")}
    images[rows["train"]] = images[rows["test"]]
    np.save(tmp_path / "data/slices/images.npy", images)
    with pytest.raises(InputError, match="has the same pixels"):
        release(tmp_path)


def test_an_approval_of_synthetic_slices_does_not_hold_for_patients_slices(tmp_path: Path) -> None:
    augmented_run(tmp_path)
    augmented = release(tmp_path)["digest"]
    set_release(tmp_path, contents="synthetic")
    assert release(tmp_path)["digest"] != augmented


def test_another_fold_may_be_chosen_and_a_missing_one_is_one_clear_line(tmp_path: Path) -> None:
    augmented_run(tmp_path, folds=["0", "1"])
    set_release(tmp_path, fold=1)
    assert release(tmp_path)["fold"] == "1"
    set_release(tmp_path, fold=7)
    with pytest.raises(InputError, match=r"release\.fold is 7: there are only the folds 0, 1"):
        release(tmp_path)


def test_what_was_synthetic_at_its_source_is_neither_a_patients_nor_released(
    tmp_path: Path,
) -> None:
    augmented_run(tmp_path)
    path = tmp_path / "data/slices/slices.parquet"
    table = pd.read_parquet(path)
    foreign = table.loc[table["partition_0"] == "train", "subject"].iloc[0]
    table["marked_synthetic"] = table["subject"] == foreign
    table.to_parquet(path)
    release(tmp_path)
    released = tmp_path / "data/release"
    assert foreign not in set(pd.read_csv(released / "slices.csv")["subject"])
    assert foreign not in set(pd.read_csv(released / "patients.csv")["subject"])
    assert not list(released.rglob(f"*{foreign}*"))
    card = (released / "DATACARD.md").read_text()
    assert "4 training slices were marked as synthetic at their source" in card
    assert "| 0 | train | 11 |" in card  # of 12 subjects


def test_texts_of_an_augmented_release_say_where_it_may_be_used(root: Path) -> None:
    for name in ("DATACARD.md", "bids/README.md"):
        assert "for use inside your institution" in (root / "data/release" / name).read_text()
