"""sform, qform and units: where the voxels of a NIfTI file lie, or that nobody can tell."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.tasks.dicom_cases import anatomy, rotation
from tests.tasks.ingest_fixtures import IngestWorkspace

SHAPE = (8, 9, 10)
AFFINE = np.array([[-0.9, 0, 0, 40], [0, 0.9, 0, -50], [0, 0, 5.0, -30], [0, 0, 0, 1.0]])


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IngestWorkspace:
    monkeypatch.chdir(tmp_path)
    return IngestWorkspace(tmp_path)


def write(
    workspace: IngestWorkspace, sform: np.ndarray | None, qform: np.ndarray | None, unit: int = 2
) -> None:
    """A file with the forms given, and a mask beside it with the same header."""
    workspace.raw.mkdir(parents=True, exist_ok=True)
    mask = np.zeros(SHAPE, np.int16)
    mask[3:6, 3:6, 4:7] = 1
    for name, data in (("", anatomy(SHAPE).astype(np.int16)), ("_mask", mask)):
        image = nib.Nifti1Image(data, None)
        image.set_sform(sform, 1 if sform is not None else 0)
        image.set_qform(qform, 1 if qform is not None else 0)
        image.header["xyzt_units"] = unit
        nib.save(image, workspace.raw / f"sub-01_FLAIR{name}.nii.gz")


def moved(by: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 3] += by
    return affine


@pytest.mark.parametrize("conflict", [moved(2.0), AFFINE @ np.diag([-1.0, 1, 1, 1])])
def test_forms_that_disagree_are_rejected_unless_one_is_named(
    workspace: IngestWorkspace, conflict: np.ndarray
) -> None:
    write(workspace, AFFINE, conflict)
    with pytest.raises(Exception, match="affine-conflict"):
        workspace.ingest()
    for form, expected in (("sform", AFFINE), ("qform", conflict)):
        manifest = workspace.ingest(affine=form)
        image = workspace.load(manifest.image[0])[1]
        to_ras = nib.as_closest_canonical(nib.Nifti1Image(anatomy(SHAPE), expected)).affine
        assert np.abs(image - to_ras).max() < 1e-4
        assert workspace.load(manifest["mask"][0])[0].sum() == 27


def test_a_turn_of_which_a_far_corner_moves_by_more_than_a_voxel_is_a_conflict(
    workspace: IngestWorkspace,
) -> None:
    turn = np.eye(4)
    turn[:3, :3] = rotation(np.random.default_rng(3))
    write(workspace, AFFINE, turn @ AFFINE)
    with pytest.raises(Exception, match="affine-conflict"):
        workspace.ingest()


@pytest.mark.parametrize("form", ["sform", "qform"])
def test_rounding_is_not_a_conflict_and_a_single_form_needs_no_preference(
    workspace: IngestWorkspace, form: str
) -> None:
    write(workspace, AFFINE, moved(0.3))
    assert len(workspace.ingest()) == 1
    write(workspace, None, AFFINE)
    assert len(workspace.ingest(affine=form)) == 1
    write(workspace, AFFINE, None)
    assert len(workspace.ingest(affine=form)) == 1


@pytest.mark.parametrize(("unit", "size"), [(1, 1e-3), (3, 1e3), (0, 1.0)])
def test_metres_and_microns_become_millimetres(
    workspace: IngestWorkspace, unit: int, size: float
) -> None:
    written = np.diag([size, size, size, 1.0]) @ AFFINE
    write(workspace, written, written, unit)
    manifest = workspace.ingest()
    assert list(manifest.spacing_mm[0]) == pytest.approx([0.9, 0.9, 5.0])
    data, affine = workspace.load(manifest["mask"][0])
    centre = affine @ [*np.argwhere(data).mean(axis=0), 1]
    assert centre == pytest.approx(AFFINE @ [4, 4, 5, 1], abs=1e-3)


@pytest.mark.parametrize("unit", [1, 3, 5])
def test_an_impossible_unit_is_rejected(workspace: IngestWorkspace, unit: int) -> None:
    write(workspace, AFFINE, AFFINE, unit)
    with pytest.raises(Exception, match="geometry"):
        workspace.ingest()


def test_an_invalid_quaternion_leaves_the_sform(workspace: IngestWorkspace) -> None:
    write(workspace, AFFINE, AFFINE)
    for path in workspace.raw.iterdir():
        image = nib.load(path)
        image.header["quatern_b"] = image.header["quatern_c"] = 0.9
        image = nib.Nifti1Image(np.asanyarray(image.dataobj), None, image.header)
        path.unlink()
        nib.save(image, path)
    assert len(workspace.ingest()) == 1
