"""sform, qform and units: where the voxels of a NIfTI file lie, or that nobody can tell."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.tasks.dicom_cases import anatomy, rotation
from tests.tasks.ingest_fixtures import Room

SHAPE = (8, 9, 10)
AFFINE = np.array([[-0.9, 0, 0, 40], [0, 0.9, 0, -50], [0, 0, 5.0, -30], [0, 0, 0, 1.0]])


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    monkeypatch.chdir(tmp_path)
    return Room(tmp_path)


def write(room: Room, sform: np.ndarray | None, qform: np.ndarray | None, unit: int = 2) -> None:
    """A file with the forms given, and a mask beside it with the same header."""
    room.raw.mkdir(parents=True, exist_ok=True)
    mask = np.zeros(SHAPE, np.int16)
    mask[3:6, 3:6, 4:7] = 1
    for name, data in (("", anatomy(SHAPE).astype(np.int16)), ("_mask", mask)):
        image = nib.Nifti1Image(data, None)
        image.set_sform(sform, 1 if sform is not None else 0)
        image.set_qform(qform, 1 if qform is not None else 0)
        image.header["xyzt_units"] = unit
        nib.save(image, room.raw / f"sub-01_FLAIR{name}.nii.gz")


def moved(by: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 3] += by
    return affine


@pytest.mark.parametrize("conflict", [moved(2.0), AFFINE @ np.diag([-1.0, 1, 1, 1])])
def test_forms_that_disagree_are_refused_unless_one_is_named(
    room: Room, conflict: np.ndarray
) -> None:
    write(room, AFFINE, conflict)
    with pytest.raises(Exception, match="affine-conflict"):
        room.ingest()
    for form, expected in (("sform", AFFINE), ("qform", conflict)):
        manifest = room.ingest(affine=form)
        image = room.load(manifest.image[0])[1]
        to_ras = nib.as_closest_canonical(nib.Nifti1Image(anatomy(SHAPE), expected)).affine
        assert np.abs(image - to_ras).max() < 1e-4
        assert room.load(manifest["mask"][0])[0].sum() == 27


def test_a_turn_of_which_a_far_corner_moves_by_more_than_a_voxel_is_a_conflict(room: Room) -> None:
    turn = np.eye(4)
    turn[:3, :3] = rotation(np.random.default_rng(3))
    write(room, AFFINE, turn @ AFFINE)
    with pytest.raises(Exception, match="affine-conflict"):
        room.ingest()


@pytest.mark.parametrize("form", ["sform", "qform"])
def test_rounding_is_no_conflict_and_a_lone_form_needs_no_preference(room: Room, form: str) -> None:
    write(room, AFFINE, moved(0.3))
    assert len(room.ingest()) == 1
    write(room, None, AFFINE)
    assert len(room.ingest(affine=form)) == 1
    write(room, AFFINE, None)
    assert len(room.ingest(affine=form)) == 1


@pytest.mark.parametrize(("unit", "size"), [(1, 1e-3), (3, 1e3), (0, 1.0)])
def test_metres_and_microns_become_millimetres(room: Room, unit: int, size: float) -> None:
    written = np.diag([size, size, size, 1.0]) @ AFFINE
    write(room, written, written, unit)
    manifest = room.ingest()
    assert list(manifest.spacing_mm[0]) == pytest.approx([0.9, 0.9, 5.0])
    data, affine = room.load(manifest["mask"][0])
    centre = affine @ [*np.argwhere(data).mean(axis=0), 1]
    assert centre == pytest.approx(AFFINE @ [4, 4, 5, 1], abs=1e-3)


@pytest.mark.parametrize("unit", [1, 3, 5])
def test_a_unit_that_cannot_be_is_refused(room: Room, unit: int) -> None:
    write(room, AFFINE, AFFINE, unit)
    with pytest.raises(Exception, match="geometry"):
        room.ingest()


def test_a_quaternion_that_is_none_leaves_the_sform(room: Room) -> None:
    write(room, AFFINE, AFFINE)
    for path in room.raw.iterdir():
        image = nib.load(path)
        image.header["quatern_b"] = image.header["quatern_c"] = 0.9
        image = nib.Nifti1Image(np.asanyarray(image.dataobj), None, image.header)
        path.unlink()
        nib.save(image, path)
    assert len(room.ingest()) == 1
