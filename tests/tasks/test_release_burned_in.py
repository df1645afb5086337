"""By option the word SYNTHETIC stands in the pixels, and nowhere in a mask."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image

from tasks.release.burned_in_mark import burn_in_marks, word_pixels
from tasks.stage.errors import InputError
from tests.tasks.augmented_fixtures import augmented_run, set_release
from tests.tasks.dicom_validators import dicom_errors
from tests.tasks.test_release import release
from tests.tasks.test_release_bids import bids_errors


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """The same augmented release with and without the word."""
    releases = {}
    for burned in (False, True):
        root = augmented_run(tmp_path_factory.mktemp("burned"), size=64, unoutlined=False)
        set_release(root, burn_in_mark=burned)
        release(root)
        releases[burned] = root / "data/release"
    return releases


def test_the_word_is_in_every_form_of_a_synthetic_image_and_in_no_mask(
    pair: dict[bool, Path],
) -> None:
    stamp = word_pixels(64, 64) > 0
    subject = "sub-syn00001"
    nifti = [
        np.asarray(nib.load(pair[b] / f"bids/{subject}/anat/{subject}_FLAIR.nii.gz").dataobj)
        for b in (False, True)
    ]
    changed = (nifti[0] != nifti[1])[:, :, 0].T
    capture = pydicom.dcmread(pair[True] / f"dicom/{subject}/FLAIR.dcm")
    png = np.asarray(Image.open(pair[True] / f"png/{subject}.png"))
    assert changed.any() and not changed[8:-8].any()
    for pixels, white in ((nifti[1][:, :, 0].T, 4095), (capture.pixel_array, 4095), (png, 255)):
        h, w = stamp.shape
        assert np.array_equal(pixels[-h:, :w] == white, stamp)
    assert capture.BurnedInAnnotation == "YES"
    assert pydicom.dcmread(pair[False] / f"dicom/{subject}/FLAIR.dcm").BurnedInAnnotation == "NO"
    for name in ("bids/{0}/anat/{0}_label-tumor_mask.nii.gz", "png/{0}_mask.png"):
        for number in range(1, 7):
            path = name.format(f"sub-syn{number:05d}")
            if path.endswith(".png"):
                both = [np.asarray(Image.open(pair[b] / path)) for b in pair]
            else:
                both = [np.asarray(nib.load(pair[b] / path).dataobj) for b in pair]
            assert np.array_equal(*both)


def test_the_validators_find_nothing_wrong_in_marked_images(pair: dict[bool, Path]) -> None:
    paths = sorted((pair[True] / "dicom").rglob("*.dcm"))
    assert {path.name for path in paths} == {"FLAIR.dcm", "mask.dcm"}
    assert dicom_errors(paths[:4]) == []
    assert bids_errors(pair[True] / "bids") == []


def test_a_real_slice_bears_no_word(pair: dict[bool, Path]) -> None:
    table = pd.read_csv(pair[True] / "slices.csv")
    for name in table.loc[table["origin"] == "real", "name"]:
        both = [np.asarray(Image.open(pair[b] / f"png/{name}.png")) for b in pair]
        assert np.array_equal(*both)


def test_another_image_has_other_uids_and_the_card_says_so(pair: dict[bool, Path]) -> None:
    uids = {
        pydicom.dcmread(folder / "dicom/sub-syn00001/FLAIR.dcm").SOPInstanceUID
        for folder in pair.values()
    }
    assert len(uids) == 2
    assert "burnt into a corner" in (pair[True] / "DATACARD.md").read_text()
    assert "burnt into a corner" not in (pair[False] / "DATACARD.md").read_text()


@pytest.mark.parametrize("size", [32, 48, 64, 128, 256, 512])
def test_the_word_fits_reads_and_stays_off_the_tumour_where_a_corner_is_free(size: int) -> None:
    images = np.full((2, 2, size, size), 0.25, np.float32)
    masks = np.zeros((2, size, size), np.uint8)
    masks[1, -(size // 3) :] = 1
    marked = burn_in_marks(images, masks)
    stamp = word_pixels(size, size)
    assert (stamp == 1).sum() >= 100  # nine letters
    assert stamp.shape[0] <= 0.6 * size
    h, w = stamp.shape
    assert np.array_equal(marked[0, 1, -h:, :w], stamp)
    assert np.array_equal(marked[1, 0, :h, :w], stamp)  # tumour lies below
    assert (marked[1][:, masks[1] > 0] == 0.25).all()
    assert (images == 0.25).all()


def test_where_the_word_does_not_fit_one_line_says_so() -> None:
    with pytest.raises(InputError, match=r"release\.burn_in_mark is on, and SYNTHETIC does not"):
        word_pixels(16, 16)
