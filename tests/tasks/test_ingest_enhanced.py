"""Enhanced multi-frame objects, and series whose slices have a SeriesInstanceUID each."""

import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import generate_uid

from tests.tasks.dicom_cases import anatomy, rotation, write_multiframe, write_series
from tests.tasks.ingest_fixtures import IngestWorkspace, assert_volume_equals


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IngestWorkspace:
    monkeypatch.chdir(tmp_path)
    return IngestWorkspace(tmp_path)


def reasons(workspace: IngestWorkspace) -> list[str]:
    return list(pd.read_parquet(workspace.volumes / "rejected.parquet").reason)


def rejection_codes(workspace: IngestWorkspace) -> list[str]:
    """Ingest one good patient beside the rejected files; return the rejection codes."""
    write_series(workspace.raw / "good", anatomy((4, 8, 8)), patient="good")
    assert len(workspace.ingest()) == 1
    assert workspace.accounts_for_every_file()
    return workspace.codes()


def without_frame_of_reference(dataset: FileDataset) -> None:
    del dataset.FrameOfReferenceUID


@pytest.mark.parametrize("seed", range(3))
def test_a_multiframe_object_needs_no_frame_of_reference(
    workspace: IngestWorkspace, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    pixels, turn = anatomy((6, 9, 10), seed), rotation(rng)
    affine = write_multiframe(
        workspace.raw / "x.dcm", pixels, orientation=(*turn[:, 0], *turn[:, 1]),
        order=list(map(int, rng.permutation(6))), change=without_frame_of_reference,
    )  # fmt: skip
    manifest = workspace.ingest()
    assert_volume_equals(
        workspace, manifest.image[0], pixels * (1 + np.arange(6))[:, None, None], affine
    )


def test_a_multiframe_object_equals_dcm2niix_output(workspace: IngestWorkspace) -> None:
    dcm2niix = pytest.importorskip("dcm2niix")
    turn = rotation(np.random.default_rng(8))

    def change(dataset: FileDataset) -> None:
        del dataset.FrameOfReferenceUID
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            del frame.PixelValueTransformationSequence

    write_multiframe(
        workspace.raw / "x.dcm", anatomy((6, 20, 14)), spacing=(0.7, 1.3),
        orientation=(*turn[:, 0], *turn[:, 1]), change=change,
    )  # fmt: skip
    data, affine = workspace.load(workspace.ingest().image[0])
    out = workspace.root / "out"
    out.mkdir()
    command = [dcm2niix.bin, "-b", "n", "-z", "n", "-f", "x", "-o", str(out), str(workspace.raw)]
    subprocess.run(command, check=True, capture_output=True)
    truth = nib.as_closest_canonical(nib.load(next(out.glob("*.nii"))))
    assert np.abs(affine - truth.affine).max() < 1e-4
    assert np.array_equal(data, truth.get_fdata())


@pytest.mark.parametrize("with_frame", [True, False])
def test_enhanced_objects_of_one_frame_are_slices_of_one_volume(
    workspace: IngestWorkspace, with_frame: bool
) -> None:
    pixels, turn = anatomy((6, 9, 10)), rotation(np.random.default_rng(2))
    orientation = (*turn[:, 0], *turn[:, 1])
    for index, plane in enumerate(pixels):

        def change(dataset: FileDataset, index: int = index) -> None:
            scaling = dataset.PerFrameFunctionalGroupsSequence[0].PixelValueTransformationSequence
            scaling[0].RescaleSlope = 1 + index
            if not with_frame:
                del dataset.FrameOfReferenceUID

        origin = np.array((-50.0, -60.0, 20.0)) + index * 5.5 * turn[:, 2]
        affine = write_multiframe(
            workspace.raw / f"{index}.dcm",
            plane[None],
            orientation=orientation,
            origin=tuple(origin),
            change=change,
        )
        if index == 0:
            first = affine
    manifest = workspace.ingest()
    assert_volume_equals(
        workspace, manifest.image[0], pixels * (1 + np.arange(6))[:, None, None], first
    )
    assert workspace.codes() == []


def test_the_contrast_of_an_enhanced_object_follows_from_its_timing(
    workspace: IngestWorkspace,
) -> None:
    def change(dataset: FileDataset) -> None:
        dataset.SeriesDescription = "series 5"
        shared = dataset.SharedFunctionalGroupsSequence[0]
        echo, timing, modifier = Dataset(), Dataset(), Dataset()
        echo.EffectiveEchoTime, timing.RepetitionTime = 120.0, 9000.0
        modifier.InversionTimes = [2500.0]
        shared.MREchoSequence = [echo]
        shared.MRTimingAndRelatedParametersSequence = [timing]
        shared.MRModifierSequence = [modifier]

    write_multiframe(workspace.raw / "x.dcm", anatomy((6, 9, 10)), change=change)
    assert list(workspace.ingest().modality) == ["FLAIR"]


def at_one_place(name: str, group: str, attribute: str):
    """Return an edit that puts two volumes into one object, distinguished by an attribute."""

    def change(dataset: FileDataset) -> None:
        frames = dataset.PerFrameFunctionalGroupsSequence
        for index, frame in enumerate(frames):
            if group not in frame:
                setattr(frame, group, [Dataset()])
            setattr(getattr(frame, group)[0], attribute, 1 + index // 3)
            frame.PlanePositionSequence = frames[index % 3].PlanePositionSequence

    return change


@pytest.mark.parametrize(
    ("words", "group", "attribute"),
    [
        ("2 echo times", "MREchoSequence", "EffectiveEchoTime"),
        ("2 temporal positions", "FrameContentSequence", "TemporalPositionIndex"),
        ("2 diffusion weightings", "MRDiffusionSequence", "DiffusionBValue"),
    ],
)
def test_several_volumes_in_one_object_are_rejected_with_the_attribute(
    workspace: IngestWorkspace, words: str, group: str, attribute: str
) -> None:
    change = at_one_place(words, group, attribute)
    write_multiframe(workspace.raw / "x.dcm", anatomy((6, 9, 10)), change=change)
    assert rejection_codes(workspace) == ["not-a-volume"]
    assert words in reasons(workspace)[0]


def break_functional_groups(kind: str):
    """Return an edit that breaks the functional groups in one way."""

    def change(dataset: FileDataset) -> None:
        frames = dataset.PerFrameFunctionalGroupsSequence
        shared = dataset.SharedFunctionalGroupsSequence[0]
        if kind == "no positions":
            for frame in frames:
                del frame.PlanePositionSequence
        elif kind == "turned":
            turned = Dataset()
            turned.ImageOrientationPatient = [0, 1, 0, 0, 0, 1]
            frames[3].PlaneOrientationSequence = [turned]
        elif kind == "lost":
            frames.pop()
        elif kind == "no spacing":
            del shared.PixelMeasuresSequence
        elif kind == "slope 0":
            frames[2].PixelValueTransformationSequence[0].RescaleSlope = 0
        elif kind == "no groups":
            del dataset.PerFrameFunctionalGroupsSequence
            del dataset.SharedFunctionalGroupsSequence

    return change


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("no positions", "geometry"),
        ("turned", "not-a-volume"),
        ("lost", "corrupt"),
        ("no spacing", "geometry"),
        ("slope 0", "unsupported-pixels"),
        ("no groups", "geometry"),
    ],
)
def test_wrong_functional_groups_are_rejected_with_the_right_code(
    workspace: IngestWorkspace, kind: str, code: str
) -> None:
    write_multiframe(
        workspace.raw / "x.dcm", anatomy((6, 9, 10)), change=break_functional_groups(kind)
    )
    assert rejection_codes(workspace) == [code]
    assert "Error" not in reasons(workspace)[0]


def test_a_multiframe_object_of_two_frames_has_too_few(workspace: IngestWorkspace) -> None:
    write_multiframe(workspace.raw / "x.dcm", anatomy((2, 9, 10)))
    assert rejection_codes(workspace) == ["too-few-slices"]


# --- a series UID for each slice


def own_series(_: int, dataset: FileDataset) -> None:
    dataset.SeriesInstanceUID = generate_uid()


def test_slices_with_a_series_uid_each_are_one_volume(workspace: IngestWorkspace) -> None:
    pixels, turn = anatomy((6, 9, 10)), rotation(np.random.default_rng(2))
    affine = write_series(
        workspace.raw, pixels, orientation=(*turn[:, 0], *turn[:, 1]), change=own_series
    )
    manifest = workspace.ingest()
    assert_volume_equals(workspace, manifest.image[0], pixels, affine)
    assert workspace.codes() == []


def test_two_series_with_a_uid_a_slice_stay_two(workspace: IngestWorkspace) -> None:
    first, second = anatomy((5, 8, 8), 1), anatomy((5, 8, 8), 2)
    affine = write_series(
        workspace.raw, first, seed="a", prefix="a", change=own_series, SeriesNumber=4
    )
    write_series(workspace.raw, second, seed="b", prefix="b", change=own_series, SeriesNumber=5)
    third = write_series(
        workspace.raw, second, seed="c", prefix="c", change=own_series, SeriesDescription="T1"
    )
    manifest = workspace.ingest()
    assert_volume_equals(workspace, manifest.image[0], first, affine)
    assert_volume_equals(workspace, manifest.image[1], second, affine)
    assert_volume_equals(workspace, manifest.image[2], second, third)


def test_single_slices_that_form_no_volume_are_rejected(workspace: IngestWorkspace) -> None:
    places = (0.0, 9.0, 31.0)

    def scattered(index: int, dataset: FileDataset) -> None:
        own_series(index, dataset)
        x, y, _ = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, places[index]]

    write_series(workspace.raw / "x", anatomy((3, 8, 8)), change=scattered)
    assert rejection_codes(workspace) == ["uneven-spacing"]
