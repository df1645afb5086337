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
from tests.tasks.ingest_fixtures import Room
from tests.tasks.test_ingest_dicom import assert_volume_equals


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    monkeypatch.chdir(tmp_path)
    return Room(tmp_path)


def reasons(room: Room) -> list[str]:
    return list(pd.read_parquet(room.volumes / "rejected.parquet").reason)


def rejection_codes(room: Room) -> list[str]:
    """Ingest one good patient beside the rejected files; return the rejection codes."""
    write_series(room.raw / "good", anatomy((4, 8, 8)), patient="good")
    assert len(room.ingest()) == 1
    assert room.accounts_for_every_file()
    return room.codes()


def without_frame_of_reference(dataset: FileDataset) -> None:
    del dataset.FrameOfReferenceUID


@pytest.mark.parametrize("seed", range(3))
def test_a_multiframe_object_needs_no_frame_of_reference(room: Room, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels, turn = anatomy((6, 9, 10), seed), rotation(rng)
    affine = write_multiframe(
        room.raw / "x.dcm", pixels, orientation=(*turn[:, 0], *turn[:, 1]),
        order=list(map(int, rng.permutation(6))), change=without_frame_of_reference,
    )  # fmt: skip
    manifest = room.ingest()
    assert_volume_equals(
        room, manifest.image[0], pixels * (1 + np.arange(6))[:, None, None], affine
    )


def test_a_multiframe_object_equals_dcm2niix_output(room: Room) -> None:
    dcm2niix = pytest.importorskip("dcm2niix")
    turn = rotation(np.random.default_rng(8))

    def change(dataset: FileDataset) -> None:
        del dataset.FrameOfReferenceUID
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            del frame.PixelValueTransformationSequence

    write_multiframe(
        room.raw / "x.dcm", anatomy((6, 20, 14)), spacing=(0.7, 1.3),
        orientation=(*turn[:, 0], *turn[:, 1]), change=change,
    )  # fmt: skip
    data, affine = room.load(room.ingest().image[0])
    out = room.root / "out"
    out.mkdir()
    command = [dcm2niix.bin, "-b", "n", "-z", "n", "-f", "x", "-o", str(out), str(room.raw)]
    subprocess.run(command, check=True, capture_output=True)
    truth = nib.as_closest_canonical(nib.load(next(out.glob("*.nii"))))
    assert np.abs(affine - truth.affine).max() < 1e-4
    assert np.array_equal(data, truth.get_fdata())


@pytest.mark.parametrize("with_frame", [True, False])
def test_enhanced_objects_of_one_frame_are_slices_of_one_volume(
    room: Room, with_frame: bool
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
            room.raw / f"{index}.dcm", plane[None], orientation=orientation, origin=tuple(origin),
            change=change,
        )  # fmt: skip
        if index == 0:
            first = affine
    manifest = room.ingest()
    assert_volume_equals(room, manifest.image[0], pixels * (1 + np.arange(6))[:, None, None], first)
    assert room.codes() == []


def test_the_contrast_of_an_enhanced_object_follows_from_its_timing(room: Room) -> None:
    def change(dataset: FileDataset) -> None:
        dataset.SeriesDescription = "series 5"
        shared = dataset.SharedFunctionalGroupsSequence[0]
        echo, timing, modifier = Dataset(), Dataset(), Dataset()
        echo.EffectiveEchoTime, timing.RepetitionTime = 120.0, 9000.0
        modifier.InversionTimes = [2500.0]
        shared.MREchoSequence = [echo]
        shared.MRTimingAndRelatedParametersSequence = [timing]
        shared.MRModifierSequence = [modifier]

    write_multiframe(room.raw / "x.dcm", anatomy((6, 9, 10)), change=change)
    assert list(room.ingest().modality) == ["FLAIR"]


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
    room: Room, words: str, group: str, attribute: str
) -> None:
    change = at_one_place(words, group, attribute)
    write_multiframe(room.raw / "x.dcm", anatomy((6, 9, 10)), change=change)
    assert rejection_codes(room) == ["not-a-volume"]
    assert words in reasons(room)[0]


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
    room: Room, kind: str, code: str
) -> None:
    write_multiframe(room.raw / "x.dcm", anatomy((6, 9, 10)), change=break_functional_groups(kind))
    assert rejection_codes(room) == [code]
    assert "Error" not in reasons(room)[0]


def test_a_multiframe_object_of_two_frames_has_too_few(room: Room) -> None:
    write_multiframe(room.raw / "x.dcm", anatomy((2, 9, 10)))
    assert rejection_codes(room) == ["too-few-slices"]


# --- a series UID for each slice


def own_series(_: int, dataset: FileDataset) -> None:
    dataset.SeriesInstanceUID = generate_uid()


def test_slices_with_a_series_uid_each_are_one_volume(room: Room) -> None:
    pixels, turn = anatomy((6, 9, 10)), rotation(np.random.default_rng(2))
    affine = write_series(
        room.raw, pixels, orientation=(*turn[:, 0], *turn[:, 1]), change=own_series
    )
    manifest = room.ingest()
    assert_volume_equals(room, manifest.image[0], pixels, affine)
    assert room.codes() == []


def test_two_series_with_a_uid_a_slice_stay_two(room: Room) -> None:
    first, second = anatomy((5, 8, 8), 1), anatomy((5, 8, 8), 2)
    affine = write_series(room.raw, first, seed="a", prefix="a", change=own_series, SeriesNumber=4)
    write_series(room.raw, second, seed="b", prefix="b", change=own_series, SeriesNumber=5)
    third = write_series(
        room.raw, second, seed="c", prefix="c", change=own_series, SeriesDescription="T1"
    )
    manifest = room.ingest()
    assert_volume_equals(room, manifest.image[0], first, affine)
    assert_volume_equals(room, manifest.image[1], second, affine)
    assert_volume_equals(room, manifest.image[2], second, third)


def test_single_slices_that_form_no_volume_are_rejected(room: Room) -> None:
    places = (0.0, 9.0, 31.0)

    def scattered(index: int, dataset: FileDataset) -> None:
        own_series(index, dataset)
        x, y, _ = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, places[index]]

    write_series(room.raw / "x", anatomy((3, 8, 8)), change=scattered)
    assert rejection_codes(room) == ["uneven-spacing"]
