"""Synthetic data that come back are rejected, by whichever one mark is left of them."""

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom.uid import ImplicitVRLittleEndian, generate_uid

from tasks.common.synthetic_marks import UID_ROOT, is_synthetic_uid, synthetic_uid
from tasks.stage.errors import InputError
from tests.tasks.dicom_cases import anatomy, write_series
from tests.tasks.fake_run import Run, write
from tests.tasks.ingest_fixtures import IngestWorkspace
from tests.tasks.test_export_dataset import export
from tests.tasks.test_release import release

UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
MARKS = ("SyntheticData", "ImageType", "ContributingEquipmentSequence", *UIDS)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A released run; nobody writes to it."""
    root = write(tmp_path_factory.mktemp("released"), Run(synthetic=4, accept_share=1.0, size=32))
    release(root)
    return root / "data/release"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IngestWorkspace:
    """A folder to ingest in."""
    monkeypatch.chdir(tmp_path)
    return IngestWorkspace(tmp_path)


def codes(workspace: IngestWorkspace) -> dict[str, str]:
    """The code of each rejected file by its path."""
    table = workspace.private("rejected")
    return dict(zip(table["path"], table["code"], strict=True))


def keep_one_mark(source: Path, target: Path, mark: str, patient: str) -> None:
    """Write a DICOM file as a PACS might that drops and replaces all marks but one."""
    dataset = pydicom.dcmread(source)
    dataset.PatientID, dataset.PatientName = patient, f"DOE^{patient}"
    for keyword in ("SeriesDescription", "ImageComments", "StudyID", "ContentLabel"):
        if keyword in dataset:
            setattr(dataset, keyword, "AX")
    if mark != "SyntheticData":
        del dataset.SyntheticData
    if mark != "ContributingEquipmentSequence":
        del dataset.ContributingEquipmentSequence
    if mark != "ImageType":
        dataset.ImageType = dataset.ImageType[:2]
    for keyword in UIDS:
        if mark != keyword:
            setattr(dataset, keyword, generate_uid())
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    target.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(target, enforce_file_format=True)


@pytest.mark.parametrize("kind", ["FLAIR.dcm", "mask.dcm"])
def test_each_mark_of_a_dicom_file_is_enough(
    kind: str, workspace: IngestWorkspace, released: Path
) -> None:
    source = released / f"dicom/sub-syn00002/{kind}"
    # The standard allows a DICOM SEG no third value of Image Type.
    marks = [mark for mark in MARKS if kind == "FLAIR.dcm" or mark != "ImageType"]
    for number, mark in enumerate(marks):
        keep_one_mark(source, workspace.raw / f"{mark}.dcm", mark, f"P{number}")
    keep_one_mark(source, workspace.raw / "unmarked.dcm", "none", "P99")
    with pytest.raises(InputError, match="no volume could be read"):
        workspace.ingest(allow_burned_in=True)
    code_of = codes(workspace)
    assert code_of.pop("unmarked.dcm") != "synthetic"  # what no mark is left of
    assert code_of == {f"{mark}.dcm": "synthetic" for mark in marks}


def test_marks_are_found_in_a_mr_series_too_and_whatever_the_encoding(
    workspace: IngestWorkspace, released: Path
) -> None:
    """An MR series that bears one mark; without marks the same series is taken."""
    equipment = pydicom.dcmread(
        released / "dicom/sub-syn00002/FLAIR.dcm"
    ).ContributingEquipmentSequence
    voxels = anatomy((5, 9, 10))
    changes: dict[str, dict[str, object]] = {
        "type": {"ImageType": ["DERIVED", "SECONDARY", "SYNTHETIC"]},
        "equipment": {"ContributingEquipmentSequence": equipment},
        "data": {"SyntheticData": "YES"},
        "implicit": {"ContributingEquipmentSequence": equipment},
        "big": {"ContributingEquipmentSequence": equipment},
        "secondary": {"ImageType": ["DERIVED", "SECONDARY", "MPR"]},
    }
    for number, (name, change) in enumerate(changes.items()):
        write_series(workspace.raw / name, voxels, patient=f"P{number}", **change)
    for path in (workspace.raw / "implicit").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        dataset.save_as(path, implicit_vr=True, little_endian=True)
    for path in (workspace.raw / "big").iterdir():
        path.write_bytes(path.read_bytes()[128 + 4 :])  # no preamble: pydicom reads it
    manifest = workspace.ingest()
    assert len(manifest) == 1  # the reformatted real series
    assert not manifest["synthetic"][0]
    code_of = codes(workspace)
    assert {path.partition("/")[0] for path in code_of} == set(changes) - {"secondary"}
    assert set(code_of.values()) == {"synthetic"}


def plain_nifti(source: Path, target: Path, *, descrip: bytes = b"", intent: bytes = b"") -> None:
    """Write a NIfTI file's voxels three times as a volume, with these texts in its header."""
    image = nib.load(source)
    voxels = np.repeat(np.asarray(image.dataobj), 3, axis=2)
    copy = nib.Nifti1Image(voxels, image.affine)
    copy.header["descrip"], copy.header["intent_name"] = descrip, intent
    target.parent.mkdir(parents=True, exist_ok=True)
    copy.to_filename(target)


def test_each_mark_of_a_nifti_file_is_enough(workspace: IngestWorkspace, released: Path) -> None:
    source = released / "bids/sub-syn00002/anat/sub-syn00002_FLAIR.nii.gz"
    header = nib.load(source).header
    texts = {"descrip": bytes(header["descrip"]), "intent": bytes(header["intent_name"])}
    for number, name in enumerate(["descrip", "intent", "unmarked", "sidecar"]):
        own = {name: texts[name]} if name in texts else {}
        folder = workspace.raw / f"sub-0{number}/anat"
        plain_nifti(source, folder / f"sub-0{number}_FLAIR.nii.gz", **own)
    (workspace.raw / "sub-03/anat/sub-03_FLAIR.json").write_text('{"SyntheticData": true}')
    plain_nifti(source, workspace.raw / "sub-04/anat/sub-syn00002_FLAIR.nii.gz")
    for root, name in (("inherited", "FLAIR"), ("described", "dataset_description")):
        folder = workspace.raw / root
        plain_nifti(source, folder / "sub-05/anat/sub-05_FLAIR.nii.gz")
        text = (released / f"bids/{name}.json").read_text()
        (folder / f"{name}.json").write_text(text)
    manifest = workspace.ingest(check_masks=False)
    assert list(manifest["synthetic"]) == [False]
    code_of = codes(workspace)
    assert {path.split("/")[0] for path in code_of} == {
        "sub-00", "sub-01", "sub-03", "sub-04", "inherited", "described"
    }  # fmt: skip
    assert set(code_of.values()) == {"synthetic"}


def test_each_mark_of_a_png_is_enough(workspace: IngestWorkspace, released: Path) -> None:
    source = Image.open(released / "png/sub-syn00002.png")
    texts = dict(source.text)
    names = {"SyntheticData": "P0", "Description": "P1", "name": "P2", "none": "P3"}
    rows = []
    for key, patient in names.items():
        chunks = PngInfo()
        if key in texts:
            chunks.add_text(key, texts[key])
        path = workspace.raw / patient / ("sub-syn00002.png" if key == "name" else "x.png")
        path.parent.mkdir(parents=True)
        source.save(path, pnginfo=chunks)
        rows.append({"path": path.relative_to(workspace.raw).as_posix(), "patient": patient})
    pd.DataFrame(rows).to_csv(workspace.raw / "files.csv", index=False)
    manifest = workspace.ingest()
    assert len(manifest) == 1
    assert set(codes(workspace)) == {"P0/x.png", "P1/x.png", "P2/sub-syn00002.png"}
    assert set(codes(workspace).values()) == {"synthetic"}


@pytest.mark.parametrize("kind", ["release", "nnunet", "monai-datalist"])
def test_nothing_of_a_release_or_an_export_comes_back(
    kind: str, workspace: IngestWorkspace, released: Path
) -> None:
    target = workspace.raw / "back"
    if kind == "release":
        shutil.copytree(released, target)
    else:
        export(released.parents[1], kind, target)
    with pytest.raises(InputError, match="no volume could be read"):
        workspace.ingest(allow_burned_in=True, allow_unknown_patients=True)
    code_of = codes(workspace)
    images = [path for path in target.rglob("*") if path.suffix in (".dcm", ".png", ".gz")]
    names = {path.relative_to(workspace.raw).as_posix() for path in images}
    assert {code_of[name] for name in names} == {"synthetic"}


def test_what_is_taken_on_purpose_only_ever_trains(
    workspace: IngestWorkspace, released: Path
) -> None:
    source = released / "bids/sub-syn00002/anat/sub-syn00002_FLAIR.nii.gz"
    target = workspace.raw / "sub-01/anat/sub-01_FLAIR.nii.gz"
    plain_nifti(source, target, intent=b"SYNTHETIC")
    assert list(workspace.ingest(allow_synthetic=True)["synthetic"]) == [True]


def test_a_synthetic_outline_makes_a_real_scan_train_only(
    workspace: IngestWorkspace, released: Path
) -> None:
    image = released / "bids/sub-syn00002/anat/sub-syn00002_FLAIR.nii.gz"
    mask = released / "bids/sub-syn00002/anat/sub-syn00002_label-tumor_mask.nii.gz"
    for patient, intent in (("sub-01", b"SYNTHETIC"), ("sub-02", b"")):
        anat = workspace.raw / patient / "anat"
        plain_nifti(image, anat / f"{patient}_FLAIR.nii.gz")
        plain_nifti(mask, anat / f"{patient}_FLAIR_mask.nii.gz", intent=intent)
    manifest = workspace.ingest(check_masks=False)
    assert sorted(manifest["mask_status"]) == ["missing", "segmented"]
    assert not manifest["synthetic"].any()
    manifest = workspace.ingest(check_masks=False, allow_synthetic=True)
    assert list(manifest["mask_status"]) == ["segmented", "segmented"]
    assert sorted(manifest["synthetic"]) == [False, True]


def test_uids_have_one_root_are_no_longer_than_64_and_differ() -> None:
    uids = {synthetic_uid(str(number)) for number in range(2000)}
    assert len(uids) == 2000
    for uid in uids:
        assert uid.startswith(UID_ROOT)
        assert len(uid) <= 64
        assert pydicom.uid.UID(uid).is_valid
        assert is_synthetic_uid(uid)
    for other in ("", "2.25", "2.25.x", "2.25.1", generate_uid(), generate_uid(prefix=None)):
        assert not is_synthetic_uid(other)


def test_every_uid_of_a_released_file_has_the_root(released: Path) -> None:
    for path in released.rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        for element in dataset.iterall():
            if element.VR == "UI" and not str(element.value).startswith("1.2.840.10008."):
                assert is_synthetic_uid(str(element.value)), element.keyword
