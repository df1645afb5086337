"""dcm2niix, run on the same series, is the oracle for voxels and affines."""

import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import FileDataset

from tests.tasks.dicom_cases import anatomy, rotation, write_series
from tests.tasks.ingest_fixtures import IngestWorkspace

LGG = Path(__file__).parents[2] / "../shared/data/lgg"
dcm2niix = pytest.importorskip("dcm2niix")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IngestWorkspace:
    monkeypatch.chdir(tmp_path)
    return IngestWorkspace(tmp_path)


def convert_with_dcm2niix(series: Path, out: Path) -> nib.Nifti1Image:
    out.mkdir()
    command = [dcm2niix.bin, "-b", "n", "-z", "n", "-f", "x", "-o", str(out), str(series)]
    subprocess.run(command, check=True, capture_output=True)
    (converted,) = out.glob("*.nii")
    return nib.as_closest_canonical(nib.load(converted))


def assert_equals_dcm2niix(workspace: IngestWorkspace, series: Path) -> None:
    data, affine = workspace.load(workspace.ingest().image[0])
    truth = convert_with_dcm2niix(series, workspace.root / "dcm2niix")
    assert data.shape == truth.shape
    assert np.abs(affine - truth.affine).max() < 1e-4
    assert np.allclose(data, truth.get_fdata(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_oblique_series_equal_dcm2niix_output(workspace: IngestWorkspace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    turn = rotation(rng)
    write_series(
        workspace.raw, anatomy((6, 20, 14), seed), orientation=(*turn[:, 0], *turn[:, 1]),
        spacing=(0.7, 1.3), gap=rng.uniform(1, 6),
    )  # fmt: skip
    assert_equals_dcm2niix(workspace, workspace.raw)


def test_slopes_of_each_slice_equal_dcm2niix_output(workspace: IngestWorkspace) -> None:
    def scale(index: int, dataset: FileDataset) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = 1 + index / 4, index

    write_series(workspace.raw, anatomy((5, 16, 16)), change=scale)
    assert_equals_dcm2niix(workspace, workspace.raw)


@pytest.mark.verify
@pytest.mark.skipif(not LGG.is_dir(), reason="../shared/data/lgg is absent")
def test_real_volumes_rotated_at_random_equal_dcm2niix_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, path in enumerate(sorted(LGG.glob("sub-*/anat/*.nii.gz"))):
        root = tmp_path / str(seed)
        root.mkdir()
        monkeypatch.chdir(root)
        turn = rotation(np.random.default_rng(seed))
        pixels = np.asarray(nib.load(path).dataobj).transpose(2, 1, 0).astype(np.uint16)
        workspace = IngestWorkspace(root)
        write_series(workspace.raw, pixels, orientation=(*turn[:, 0], *turn[:, 1]))
        assert_equals_dcm2niix(workspace, workspace.raw)
