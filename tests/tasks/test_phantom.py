"""The phantom batch as it lies on disk, read back with the readers of others."""

import hashlib
import json
from contextlib import chdir
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest
from numpy.typing import NDArray

from tasks.phantom import dicom_writer
from tasks.phantom.__main__ import main, write_patient
from tasks.phantom.simulator import SimulatedPatient, Simulator
from tasks.stage.stage_runtime import run_stage

SEED, PATIENTS = 5, 12


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    (folder / "params.yaml").write_text(f"phantom: {{patients: {PATIENTS}, seed: {SEED}}}\n")
    with chdir(folder):
        main()
    return folder / "data" / "raw" / "phantom"


@pytest.fixture(scope="module")
def truth() -> list[SimulatedPatient]:
    return list(Simulator(SEED).patients(0, PATIENTS))


def of_format(truth: list[SimulatedPatient], name: str) -> list[SimulatedPatient]:
    return [patient for patient in truth if patient.kind.format == name]


def series_of(batch: Path, patient: SimulatedPatient) -> list[pydicom.FileDataset]:
    folder = batch / "sourcedata" / patient.participant_id
    return [pydicom.dcmread(path) for path in sorted(folder.glob("[0-9]*.dcm"))]


def digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def resample_exactly(
    array: NDArray[np.generic], affine: NDArray[np.float64], patient: SimulatedPatient
) -> NDArray[np.generic]:
    """The array on the patient's own grid; both must be the same voxels of one world."""
    back = np.linalg.inv(affine) @ patient.affine
    corners = np.indices(patient.mask.shape).reshape(3, -1)
    voxels = back[:3, :3] @ corners + back[:3, 3:]
    nearest = np.rint(voxels).astype(int)
    assert np.abs(voxels - nearest).max() < 0.02, "the grids do not coincide"
    inside = ((nearest >= 0) & (nearest < np.array(array.shape)[:, None])).all(0)
    values = np.zeros(patient.mask.size, dtype=array.dtype)
    values[inside] = array[tuple(nearest[:, inside])]
    return values.reshape(patient.mask.shape)


def test_patients_are_equal_byte_for_byte_in_any_process(
    batch: Path, truth: list[SimulatedPatient], tmp_path: Path
) -> None:
    """Here this process in reverse order, there the stage's two: no clock, no order, no chance."""
    formats = [patient.kind.format for patient in truth]
    for name in ("nifti", "dicom"):
        for index in [index for index in reversed(range(PATIENTS)) if formats[index] == name][:2]:
            write_patient(tmp_path, index, seed=SEED)
    written = digest(tmp_path)
    assert written.items() <= digest(batch).items()
    assert len(written) > 2 * 4


def test_patients_whom_nobody_outlined_have_the_same_scan_and_no_mask(
    batch: Path, truth: list[SimulatedPatient], tmp_path: Path
) -> None:
    for name in ("nifti", "dicom"):
        index = [patient.kind.format for patient in truth].index(name)
        row = write_patient(tmp_path, index, outlined=False, seed=SEED)
        assert row["tumor"] == row["tumor_slices"] == "n/a"
    written = digest(tmp_path)
    assert written.items() < digest(batch).items()
    assert not [path for path in written if "mask" in path or "seg.dcm" in path]


def test_participants_are_listed_as_bids_asks(batch: Path, truth: list[SimulatedPatient]) -> None:
    table = pd.read_csv(batch / "participants.tsv", sep="\t")
    assert list(table.columns) == [
        "participant_id", "site", "format", "tumor", "slices", "tumor_slices",
    ]  # fmt: skip
    assert list(table.participant_id) == [patient.participant_id for patient in truth]
    assert list(table.tumor_slices) == [int(patient.mask.any((0, 1)).sum()) for patient in truth]
    assert json.loads((batch / "dataset_description.json").read_text())["BIDSVersion"]


def test_format_site_and_tumour_are_independent(batch: Path) -> None:
    table = pd.read_csv(batch / "participants.tsv", sep="\t")
    counts = table.groupby(["format", "site", "tumor"]).size()
    assert counts["dicom"].tolist() == [1] * 4
    assert counts["nifti"].tolist() == [2] * 4
    assert table.tumor.mean() == 0.5


def test_nifti_volumes_and_masks_read_back_exactly(
    batch: Path, truth: list[SimulatedPatient]
) -> None:
    codes, crossed = set(), 0
    for patient in of_format(truth, "nifti"):
        name = patient.participant_id
        image = nib.load(batch / name / "anat" / f"{name}_FLAIR.nii.gz")
        folder = batch / "derivatives" / "masks" / name / "anat"
        mask = nib.load(folder / f"{name}_label-tumor_mask.nii.gz")
        volume = resample_exactly(np.asarray(image.dataobj), image.affine, patient)
        np.testing.assert_array_equal(volume, np.rint(patient.volume))
        drawn = resample_exactly(np.asarray(mask.dataobj), mask.affine, patient)
        np.testing.assert_array_equal(drawn, patient.mask)
        codes.add(nib.aff2axcodes(image.affine))
        crossed += nib.aff2axcodes(image.affine) != nib.aff2axcodes(mask.affine)
    assert len(codes) > 1, "images lie in several axis orders"
    assert crossed, "some masks lie in another axis order than their image"


def test_dicom_series_read_back_exactly(batch: Path, truth: list[SimulatedPatient]) -> None:
    for patient in of_format(truth, "dicom"):
        series = series_of(batch, patient)
        stack = hd.get_volume_from_series(series)
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ stack.affine  # DICOM's LPS to RAS
        volume = resample_exactly(stack.array, affine, patient)
        slope = dicom_writer.PROTOCOLS[patient.kind.site]["slope"]
        np.testing.assert_allclose(volume, patient.volume, atol=0.51 * slope)
        assert {dataset.PatientID for dataset in series} == {patient.participant_id}
        assert {dataset.SeriesDescription for dataset in series} == {"FLAIR"}


def test_dicom_files_lie_in_no_useful_order(batch: Path, truth: list[SimulatedPatient]) -> None:
    for patient in of_format(truth, "dicom"):
        series = series_of(batch, patient)
        heights = [float(dataset.ImagePositionPatient[2]) for dataset in series]
        assert heights != sorted(heights)
        assert heights != sorted(heights, reverse=True)
        assert len({dataset.SOPInstanceUID for dataset in series}) == len(series)


def test_segmentations_lie_on_their_series(batch: Path, truth: list[SimulatedPatient]) -> None:
    for patient in of_format(truth, "dicom"):
        segmentation = hd.seg.segread(batch / "sourcedata" / patient.participant_id / "seg.dcm")
        series = series_of(batch, patient)
        assert segmentation.FrameOfReferenceUID == series[0].FrameOfReferenceUID
        referenced = {dataset[2] for dataset in segmentation.get_source_image_uids()}
        assert referenced <= {dataset.SOPInstanceUID for dataset in series}
        stack = segmentation.get_volume(combine_segments=True)
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ stack.affine
        drawn = resample_exactly(stack.array, affine, patient)
        np.testing.assert_array_equal(drawn, patient.mask)
        occupied = int(patient.mask.any((0, 1)).sum())
        assert segmentation.NumberOfFrames == (occupied or patient.mask.shape[2])


def test_simulated_patients_are_named_phantoms_but_not_marked_synthetic(
    batch: Path, truth: list[SimulatedPatient]
) -> None:
    for patient in of_format(truth, "dicom"):
        first = series_of(batch, patient)[0]
        assert str(first.PatientName).startswith("PHANTOM")
        assert "PHANTOM" in first.ImageComments
        assert (0x0008, 0x001C) not in first


def test_no_file_holds_the_time_of_writing(batch: Path) -> None:
    for path in batch.rglob("*.dcm"):
        for element in pydicom.dcmread(path, stop_before_pixels=True).iterall():
            if element.VR in ("DA", "DT") and element.value:
                assert str(element.value).startswith(dicom_writer.DAY), element
    for path in batch.rglob("*.nii.gz"):
        assert path.read_bytes()[4:8] == b"\0\0\0\0"


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("{patients: 3, seed: 7}", ["phantom.patients", "3", "12"]),
        ("{patient: 60}", ["phantom.patient", "did you mean 'patients'"]),
    ],
)
def test_wrong_params_end_in_one_line(
    section: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(f"phantom: {section}\n")
    monkeypatch.setattr("sys.argv", ["phantom"])
    monkeypatch.setattr("tasks.stage.stage_runtime.die_with_parent", lambda: None)
    with pytest.raises(SystemExit) as ended:
        run_stage(main)
    assert ended.value.code == 2
    output = capsys.readouterr().err
    assert len(output.splitlines()) == 1
    assert all(word in output for word in words)
    assert not Path("data").exists()
