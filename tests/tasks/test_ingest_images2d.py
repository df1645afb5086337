"""2D collections: slices with masks, class folders, patients from a table or a pattern."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from tasks.ingest.images2d.class_folders import class_from_path
from tasks.stage.errors import InputError
from tests.tasks.dicom_cases import anatomy, write_series
from tests.tasks.ingest_fixtures import IngestWorkspace
from tests.tasks.nifti_cases import write_nifti


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IngestWorkspace:
    monkeypatch.chdir(tmp_path)
    return IngestWorkspace(tmp_path)


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def grey(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (12, 10), dtype=np.uint8)


KAGGLE = {
    "pattern": r"(?P<patient>TCGA_[A-Z]{2}_\d+)_\d+_(?P<slice>\d+)$",
    "modality": "FLAIR",
    "channel": 1,
    "spacing_mm": [0.9, 0.9, 5.5],
}


def test_coloured_tiffs_with_masks_make_one_volume_a_patient(workspace: IngestWorkspace) -> None:
    volumes = {}
    for patient in ("TCGA_CS_4941", "TCGA_DU_5851"):
        planes = [np.stack([grey(i), grey(i + 50), grey(i + 90)], -1) for i in range(11)]
        volumes[patient] = planes
        for number, plane in enumerate(planes, start=1):
            stem = f"{patient}_19960909/{patient}_19960909_{number}"
            save(workspace.raw / f"{stem}.tif", plane)
            tumour = np.zeros((12, 10), np.uint8)
            tumour[2:5, 6:9] = 255 * (number == 10)
            save(workspace.raw / f"{stem}_mask.tif", tumour)
    manifest = workspace.ingest(pictures=KAGGLE)
    assert list(manifest.source_format) == ["image2d"] * 2
    assert list(manifest.modality) == ["FLAIR"] * 2
    assert [list(shape) for shape in manifest["shape"]] == [[10, 12, 11]] * 2
    data = workspace.load(manifest.image[0])[0]
    mask = workspace.load(manifest["mask"][0])[0]
    # RAS: i runs from the picture's right to its left, j from its bottom to its top
    assert np.array_equal(data[:, :, 9], volumes["TCGA_CS_4941"][9][::-1, ::-1, 1].T)
    assert np.array_equal(np.unique(np.nonzero(mask)[2]), [9])
    assert mask[1:4, 7:10, 9].all() and mask.sum() == 9
    assert manifest.patient_known.all()
    assert workspace.accounts_for_every_file()


def test_equal_images_in_folders_of_both_classes_are_all_rejected(
    workspace: IngestWorkspace,
) -> None:
    """Under whatever name: keeping one of them would be a guess at its label."""
    for number, name in enumerate(("yes/a.png", "no/a.png", "no/b.png", "yes/c.png")):
        path = workspace.raw / name
        path.parent.mkdir(parents=True, exist_ok=True)
        grey = np.full((40, 40), 90 if number < 2 else 20 * number, np.uint8)
        Image.fromarray(grey).save(path)
    manifest = workspace.ingest(allow_unknown_patients=True)
    assert sorted(manifest.label) == [0, 1]
    assert workspace.codes() == ["labels-contradict"] * 2


def test_class_folders_label_single_images(workspace: IngestWorkspace) -> None:
    for index in range(3):
        save(workspace.raw / f"yes/p{index}.png", grey(index))
        save(workspace.raw / f"no/q{index}.jpg", grey(index + 9))
    manifest = workspace.ingest(pictures={"pattern": r"/(?P<patient>[pq]\d+)$"})
    assert sorted(manifest.label) == [0, 0, 0, 1, 1, 1]
    assert set(zip(manifest.label, manifest.mask_status, strict=True)) == {
        (0, "empty"), (1, "missing"),
    }  # fmt: skip
    for row in manifest.itertuples():
        data, affine = workspace.load(row.image)
        assert data.shape == tuple(row.shape) == (10, 12, 1)
        assert nib.aff2axcodes(affine) == ("R", "A", "S")
        if row.mask_status == "empty":
            assert workspace.load(row.mask)[0].shape == (10, 12, 1)


def test_images_without_patients_are_rejected_unless_allowed(workspace: IngestWorkspace) -> None:
    save(workspace.raw / "yes/a.png", grey(0))
    with pytest.raises(InputError, match="patient-unknown"):
        workspace.ingest()
    manifest = workspace.ingest(allow_unknown_patients=True)
    assert not manifest.patient_known.any()


def test_a_table_names_the_patients_of_2d_images(workspace: IngestWorkspace) -> None:
    for index in range(3):
        save(workspace.raw / f"{index}.png", grey(index))
    (workspace.raw / "pictures.csv").write_text(
        "file,patient,slice\n0.png,A,2\n1.png,A,1\n2.png,B,\n"
    )
    manifest = workspace.ingest()
    assert sorted(shape[2] for shape in manifest["shape"]) == [1, 2]


def test_images_that_do_not_form_a_stack_are_rejected(workspace: IngestWorkspace) -> None:
    save(workspace.raw / "A_1.png", grey(0))
    save(workspace.raw / "A_3.png", grey(0))
    save(workspace.raw / "A_4.png", grey(0))
    save(workspace.raw / "B_1.png", grey(0))
    save(workspace.raw / "B_2.png", grey(0)[:8])
    save(workspace.raw / "C_1.png", np.stack([grey(0), grey(1), grey(2)], -1))
    (workspace.raw / "D_1.png").write_bytes(b"\x89PNG but broken")
    save(workspace.raw / "E_1.png", grey(0))
    pattern = {"pattern": r"(?P<patient>[A-Z])_(?P<slice>\d)"}
    assert len(workspace.ingest(pictures=pattern)) == 1
    assert workspace.codes() == ["corrupt", "missing-slice", "not-a-volume", "not-greyscale"]


def test_a_dicom_without_patient_is_rejected_unless_allowed(workspace: IngestWorkspace) -> None:
    write_series(workspace.raw / "x", anatomy((4, 8, 8)), patient="", PatientName="")
    write_series(workspace.raw / "y", anatomy((4, 8, 8)), patient="y")
    assert len(workspace.ingest()) == 1
    assert workspace.codes() == ["patient-unknown"] * 4
    manifest = workspace.ingest(allow_unknown_patients=True)
    assert sorted(manifest.patient_known) == [False, True]


def test_a_pattern_without_a_patient_group_is_reported(workspace: IngestWorkspace) -> None:
    with pytest.raises(InputError, match=r"ingest\.pictures\.pattern.*\?P<patient>"):
        workspace.ingest(pictures={"pattern": r"(\d+)"})


NUMBERED = {"pattern": r"(?P<patient>[A-Z])_(?P<slice>\d)$"}


def test_masks_of_some_slices_lie_on_these_slices(workspace: IngestWorkspace) -> None:
    for number in range(1, 5):
        save(workspace.raw / f"A_{number}.png", grey(number))
    for number in (2, 3):
        save(workspace.raw / f"A_{number}_mask.png", np.full((12, 10), 255, np.uint8))
    manifest = workspace.ingest(pictures=NUMBERED)
    mask = workspace.load(manifest["mask"][0])[0]
    assert mask.sum(axis=(0, 1)).tolist() == [0, 120, 120, 0]


def test_a_mask_that_does_not_fit_its_image_is_rejected(workspace: IngestWorkspace) -> None:
    """Pictures name no geometry, so neither another size nor a volume's grid can be matched."""
    save(workspace.raw / "A_1.png", grey(1))
    save(workspace.raw / "A_1_mask.png", np.full((6, 5), 255, np.uint8))
    write_nifti(workspace.raw / "sub-B_FLAIR.nii.gz", anatomy((5, 9, 10)))
    save(workspace.raw / "B_1_mask.png", np.full((12, 10), 255, np.uint8))
    manifest = workspace.ingest(pictures=NUMBERED)
    assert list(manifest.mask_status) == ["missing"] * 2
    assert workspace.codes() == ["mask-of-other-size", "mask-without-image"]


@pytest.mark.parametrize(
    ("folder", "label"),
    [
        ("brain_tumor_dataset/yes", 1), ("Training/glioma_tumor", 1), ("pituitary", 1),
        ("tumor/no", 0), ("Testing/no_tumor", 0), ("notumor", 0), ("brain_tumor_dataset/all", None),
        ("Brain Tumor Data Set/Brain Tumor", 1), ("Brain Tumor Data Set/Healthy", 0), ("Cancer", 1),
        ("Not Cancer", 0), ("without-tumour", 0), ("brain_mri/normal", 0), ("Kontrolle", None),
    ],
)  # fmt: skip
def test_the_nearest_folder_with_a_class_name_gives_the_class(
    folder: str, label: int | None
) -> None:
    assert class_from_path(f"{folder}/a.png") == label


def test_blurred_jpeg_masks_are_cut_at_half_the_maximum(workspace: IngestWorkspace) -> None:
    drawn = np.zeros((64, 48), np.uint8)
    drawn[20:37, 10:29] = 255
    save(workspace.raw / "A_1.png", drawn // 2)
    save(workspace.raw / "A_1_mask.jpg", drawn)
    with Image.open(workspace.raw / "A_1_mask.jpg") as stored:
        assert (np.asarray(stored) != 0).sum() > (drawn != 0).sum()
    manifest = workspace.ingest(pictures=NUMBERED, check_masks=False)  # there is no head
    assert workspace.load(manifest["mask"][0])[0].sum() == (drawn != 0).sum()
    assert len(workspace.ingest(pictures=NUMBERED, mask_labels=[2])) == 1
    assert workspace.codes() == ["labels-unknown"]


def test_folders_without_a_known_class_are_reported_in_one_line(
    workspace: IngestWorkspace, capfd: pytest.CaptureFixture[str]
) -> None:
    for folder in ("Kontrolle", "Patienten"):
        for index in range(3):
            save(workspace.raw / f"{folder}/{folder}{index}.png", grey(index + len(folder)))
    workspace.ingest(allow_unknown_patients=True)
    output = capfd.readouterr().err
    assert "6 pictures in 2 folders have no mask, and no folder's name is a known class" in output
    assert "Kontrolle" not in output


def test_a_folder_of_masks_holds_the_masks_of_the_images_beside_it(
    workspace: IngestWorkspace,
) -> None:
    for index in range(2):
        save(workspace.raw / f"images/scan{index}.png", grey(index))
        save(workspace.raw / f"masks/scan{index}.png", np.full((12, 10), 255 * index, np.uint8))
    manifest = workspace.ingest(allow_unknown_patients=True)
    assert sorted(manifest.mask_status) == ["empty", "segmented"]


def test_the_mask_of_one_image_is_not_laid_on_another_of_the_patient(
    workspace: IngestWorkspace,
) -> None:
    save(workspace.raw / "P1/a.png", grey(1))
    save(workspace.raw / "P1/b.png", grey(2))
    save(workspace.raw / "P1/a_mask.png", np.full((12, 10), 255, np.uint8))
    manifest = workspace.ingest(pictures={"pattern": r"(?P<patient>P\d)/"})
    assert sorted(manifest.mask_status) == ["missing", "segmented"]


def test_a_second_copy_of_images_without_patient_is_dropped(workspace: IngestWorkspace) -> None:
    for folder in ("yes", "brain_tumor_dataset/yes"):
        save(workspace.raw / folder / "Y1.png", grey(1))
    manifest = workspace.ingest(allow_unknown_patients=True)
    assert len(manifest) == 1
    assert workspace.codes() == ["duplicate"]
