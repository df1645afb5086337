"""NIfTI files become volumes and masks in RAS, or are rejected with a code."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from tasks.ingest.core import volume as ours
from tests.tasks.dicom_cases import anatomy, write_series
from tests.tasks.ingest_fixtures import IngestWorkspace, canonical
from tests.tasks.nifti_cases import LGG, ball, oblique, one_patient, write_nifti


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IngestWorkspace:
    monkeypatch.chdir(tmp_path)
    return IngestWorkspace(tmp_path)


@pytest.mark.parametrize("seed", range(5))
def test_a_volume_is_reoriented_as_nibabel_does(workspace: IngestWorkspace, seed: int) -> None:
    data = anatomy((6, 7, 8), seed).astype(np.int16)
    affine = write_nifti(workspace.raw / "sub-01_FLAIR.nii.gz", data, oblique(seed))
    expected = canonical(data, affine)
    found, found_affine = workspace.load(workspace.ingest().image[0])
    assert np.array_equal(found, expected.get_fdata())
    assert np.abs(found_affine - expected.affine).max() < 1e-4


@pytest.mark.parametrize(
    "name", ["sub-01_FLAIR_mask.nii.gz", "sub-01_mask.nii.gz", "sub-01_FLAIR-seg.nii"]
)
def test_a_mask_beside_its_image_is_found(workspace: IngestWorkspace, name: str) -> None:
    data = anatomy((8, 9, 10)).astype(np.int16)
    write_nifti(workspace.raw / "sub-01_FLAIR.nii.gz", data)
    write_nifti(workspace.raw / name, ball((8, 9, 10), (4, 4, 4)))
    assert list(workspace.ingest().mask_status) == ["segmented"]


def test_brats_names_give_modalities_and_a_mask_for_each(workspace: IngestWorkspace) -> None:
    for word in ("flair", "t1", "t1ce", "t2"):
        write_nifti(workspace.raw / f"BraTS_001/BraTS_001_{word}.nii.gz", anatomy((8, 9, 10)))
    labels = ball((8, 9, 10), (4, 4, 4)) * 4
    labels[4, 4, 4:6] = 1
    write_nifti(workspace.raw / "BraTS_001/BraTS_001_seg.nii.gz", labels)
    manifest = workspace.ingest(mask_labels="core", label_convention="brats-2012-2020")
    assert sorted(manifest.modality) == ["FLAIR", "T1", "T1c", "T2"]
    assert manifest.subject.nunique() == 1
    assert set(manifest.mask_status) == {"segmented"}
    whole = workspace.load(manifest["mask"][0])[0].sum()
    manifest = workspace.ingest(mask_labels="enhancing", label_convention="brats-2012-2020")
    assert workspace.load(manifest["mask"][0])[0].sum() == whole - 2


def test_labels_that_are_not_brats_are_rejected_for_a_region(workspace: IngestWorkspace) -> None:
    one_patient(workspace, ball((8, 9, 10), (4, 4, 4)) * 7)
    assert list(workspace.ingest(mask_labels="core").mask_status) == ["missing"]
    assert workspace.codes() == ["labels-unknown"]
    assert list(workspace.ingest(mask_labels=[7]).mask_status) == ["segmented"]


def test_a_mask_on_another_grid_keeps_its_position(workspace: IngestWorkspace) -> None:
    shape = (20, 20, 20)
    image_affine = np.diag([1.0, 1.0, 1.0, 1.0])
    mask_affine = np.diag([-0.5, 0.5, 2.0, 1.0])
    mask_affine[:3, 3] = [19, 0, 0]
    write_nifti(workspace.raw / "sub-01_FLAIR.nii.gz", anatomy(shape), image_affine)
    mask = np.zeros((40, 40, 10), np.uint8)
    mask[10:20, 6:12, 2:5] = 1  # x 9.5 to 14 mm, y 3 to 5.5 mm, z 4 to 8 mm at the centres
    write_nifti(workspace.raw / "sub-01_mask.nii.gz", mask, mask_affine)
    manifest = workspace.ingest()
    i, j, k = np.nonzero(workspace.load(manifest["mask"][0])[0])
    assert (i.min(), i.max()) == (10, 14)
    assert (j.min(), j.max()) == (3, 5)
    assert (k.min(), k.max()) in ((3, 8), (4, 8), (3, 9), (4, 9))


def test_a_mask_that_misses_its_image_is_rejected_and_not_called_empty(
    workspace: IngestWorkspace,
) -> None:
    one_patient(workspace)
    far = np.eye(4)
    far[:3, 3] = 900
    write_nifti(workspace.raw / "sub-01_mask.nii.gz", ball((8, 9, 10), (4, 4, 4)), far)
    assert list(workspace.ingest().mask_status) == ["missing"]
    assert workspace.codes() == ["mask-outside-image"]


def test_a_mask_of_zeros_is_empty_and_none_is_missing(workspace: IngestWorkspace) -> None:
    one_patient(workspace, np.zeros((8, 9, 10), np.uint8))
    write_nifti(workspace.raw / "sub-02/anat/sub-02_FLAIR.nii.gz", anatomy((8, 9, 10)))
    manifest = workspace.ingest()
    assert sorted(manifest.mask_status) == ["empty", "missing"]


def test_a_brain_mask_is_not_a_tumour_mask(workspace: IngestWorkspace) -> None:
    one_patient(workspace)
    write_nifti(
        workspace.raw / "derivatives/sub-01_desc-brain_mask.nii.gz", ball((8, 9, 10), (4, 4, 4))
    )
    assert list(workspace.ingest().mask_status) == ["missing"]
    assert workspace.codes() == ["not-a-tumour-mask"]


def test_one_patient_in_both_formats_is_one_subject(workspace: IngestWorkspace) -> None:
    one_patient(workspace)
    write_series(workspace.raw / "x", anatomy((4, 8, 8)), patient="01")
    write_series(workspace.raw / "y", anatomy((4, 8, 8)), patient="sub-01", seed="other")
    assert workspace.ingest().subject.nunique() == 1


def bad_header(path: Path, change: str) -> None:
    header = bytearray(path.read_bytes())
    if change == "no-affine":
        header[252:256] = b"\0\0\0\0"  # qform_code, sform_code
    if change == "huge":
        header[42:48] = np.array([32000, 32000, 32000], "<i2").tobytes()
    if change == "zero":
        header[42:44] = b"\0\0"
    path.write_bytes(bytes(header))


@pytest.mark.parametrize(
    ("change", "code"), [("no-affine", "geometry"), ("huge", "too-large"), ("zero", "geometry")]
)
def test_a_bad_header_is_rejected(workspace: IngestWorkspace, change: str, code: str) -> None:
    one_patient(workspace)
    path = workspace.raw / "sub-02_FLAIR.nii"
    write_nifti(path, anatomy((8, 9, 10)))
    bad_header(path, change)
    assert len(workspace.ingest()) == 1
    assert workspace.codes() == [code]


def test_a_bad_sform_gives_way_to_a_good_qform(workspace: IngestWorkspace) -> None:
    image = nib.Nifti1Image(anatomy((8, 9, 10)).astype(np.int16), np.diag([2.0, 2.0, 3.0, 1.0]))
    image.set_sform(np.zeros((4, 4)), code=1)
    image.set_qform(np.diag([2.0, 2.0, 3.0, 1.0]), code=1)
    workspace.raw.mkdir(parents=True)
    nib.save(image, workspace.raw / "sub-01_FLAIR.nii.gz")
    assert list(workspace.ingest().spacing_mm[0]) == [2.0, 2.0, 3.0]


def test_values_that_are_not_finite_are_rejected(workspace: IngestWorkspace) -> None:
    one_patient(workspace)
    data = np.ones((8, 9, 10), np.float32)
    data[0, 0, 0] = np.nan
    write_nifti(workspace.raw / "sub-02_FLAIR.nii.gz", data)
    workspace.ingest()
    assert workspace.codes() == ["nan-pixels"]


def test_a_fourth_dimension_of_one_is_dropped_and_of_two_rejected(
    workspace: IngestWorkspace,
) -> None:
    write_nifti(workspace.raw / "sub-01_FLAIR.nii.gz", anatomy((8, 9, 10))[..., None])
    write_nifti(workspace.raw / "sub-02_FLAIR.nii.gz", np.zeros((8, 9, 10, 2), np.int16))
    assert list(workspace.ingest()["shape"][0]) == [8, 9, 10]
    assert workspace.codes() == ["several-volumes"]


def test_unreadable_files_are_listed_as_rejected_and_known_metadata_is_not(
    workspace: IngestWorkspace,
) -> None:
    one_patient(workspace)
    (workspace.raw / "sub-02_FLAIR.nii.gz").write_bytes(b"not gzip at all")
    (workspace.raw / "empty.dcm").write_bytes(b"")
    (workspace.raw / "garbage.dcm").write_bytes(bytes(range(256)) * 4)
    (workspace.raw / "notes.docx").write_bytes(b"PK something")
    (workspace.raw / "dataset_description.json").write_text("{}")
    (workspace.raw / "README").write_text("read me")
    whole = (workspace.raw / "sub-01/anat/sub-01_FLAIR.nii.gz").read_bytes()
    (workspace.raw / "sub-03_FLAIR.nii.gz").write_bytes(whole[: len(whole) // 2])
    assert len(workspace.ingest()) == 1
    assert workspace.codes() == sorted(
        ["corrupt", "empty-file", "corrupt", "unknown-format", "truncated"]
    )
    assert workspace.accounts_for_every_file()


def test_a_link_out_of_the_batch_is_not_followed(
    workspace: IngestWorkspace, tmp_path: Path
) -> None:
    one_patient(workspace)
    outside = tmp_path / "outside/sub-09_FLAIR.nii.gz"
    write_nifti(outside, anatomy((8, 9, 10)))
    (workspace.raw / "sub-09_FLAIR.nii.gz").symlink_to(outside)
    (workspace.raw / "folder").symlink_to(outside.parent)
    assert len(workspace.ingest()) == 1
    assert workspace.codes() == ["outside-batch"] * 2


def test_a_sidecar_marks_a_synthetic_image(workspace: IngestWorkspace) -> None:
    one_patient(workspace)
    (workspace.raw / "sub-01/anat/sub-01_FLAIR.json").write_text('{"SyntheticData": "YES"}')
    assert list(workspace.ingest(allow_synthetic=True).synthetic) == [True]


@pytest.mark.skipif(not LGG.is_dir(), reason="../shared/data/lgg is absent")
def test_real_patients_keep_their_slices_and_tumours(workspace: IngestWorkspace) -> None:
    people = pd.read_csv(LGG / "participants.tsv", sep="\t").head(6)
    workspace.raw.mkdir(parents=True)
    for person in people.participant_id:
        for path in LGG.rglob(f"{person}_*.nii.gz"):
            target = workspace.raw / path.relative_to(LGG)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    manifest = workspace.ingest()
    slices = sorted(shape[2] for shape in manifest["shape"])
    tumours = [int(workspace.load(path)[0].any(axis=(0, 1)).sum()) for path in manifest["mask"]]
    assert slices == sorted(people.slices)
    assert sorted(tumours) == sorted(people.tumor_slices)


def test_the_written_bytes_equal_nibabels(tmp_path: Path) -> None:
    for dtype in (np.int16, np.float32, np.uint8):
        volume = ours.to_ras(ours.Volume(anatomy((6, 7, 8)).astype(dtype), oblique(2)))
        ours.write_nifti(tmp_path / "x.nii.gz", volume)
        image = nib.Nifti1Image(volume.data, volume.affine)
        image.set_qform(volume.affine, code=1)
        image.set_sform(volume.affine, code=1)
        image.header.set_xyzt_units("mm")
        assert gzip.decompress((tmp_path / "x.nii.gz").read_bytes()) == image.to_bytes()
