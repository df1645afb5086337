"""DICOM series that are no volume, or not to be used, are rejected with a code."""

from pathlib import Path

import pytest
from pydicom.dataset import FileDataset
from pydicom.uid import (
    generate_uid,
)

from tests.tasks.dicom_cases import (
    anatomy,
    write_multiframe,
    write_series,
)
from tests.tasks.ingest_fixtures import IngestWorkspace

CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IngestWorkspace:
    monkeypatch.chdir(tmp_path)
    return IngestWorkspace(tmp_path)


def rejection_codes(workspace: IngestWorkspace, **settings: object) -> list[str]:
    """Ingest one good patient beside the rejected files; return the rejection codes."""
    write_series(workspace.raw / "good", anatomy((4, 8, 8)), patient="good")
    manifest = workspace.ingest(**settings)
    assert len(manifest) == 1
    assert workspace.accounts_for_every_file()
    return workspace.codes()


def test_a_missing_slice_is_rejected(workspace: IngestWorkspace) -> None:
    write_series(workspace.raw / "x", anatomy((9, 8, 8)))
    (workspace.raw / "x/slice004.dcm").unlink()
    assert rejection_codes(workspace) == ["missing-slice"]


def test_uneven_spacing_is_rejected(workspace: IngestWorkspace) -> None:
    def move(index: int, dataset: FileDataset) -> None:
        if index == 2:
            x, y, z = dataset.ImagePositionPatient
            dataset.ImagePositionPatient = [x, y, z + 1.5]

    write_series(workspace.raw / "x", anatomy((6, 8, 8)), change=move)
    assert rejection_codes(workspace) == ["uneven-spacing"]


def test_a_sheared_stack_is_rejected(workspace: IngestWorkspace) -> None:
    write_series(workspace.raw / "x", anatomy((6, 8, 8)), step=(0.0, 0.4, 5.5))
    assert rejection_codes(workspace) == ["sheared-stack"]


def test_a_single_slice_is_rejected(workspace: IngestWorkspace) -> None:
    write_series(workspace.raw / "x", anatomy((1, 8, 8)))
    assert rejection_codes(workspace) == ["too-few-slices"]


def test_different_slices_at_one_position_are_rejected(workspace: IngestWorkspace) -> None:
    write_series(workspace.raw / "x", anatomy((5, 8, 8)), step=(0.0, 0.0, 0.0))
    assert rejection_codes(workspace) == ["not-a-volume"]


def test_missing_positions_are_rejected(workspace: IngestWorkspace) -> None:
    def drop(_: int, dataset: FileDataset) -> None:
        del dataset.ImagePositionPatient

    write_series(workspace.raw / "x", anatomy((5, 8, 8)), change=drop)
    assert rejection_codes(workspace) == ["geometry"]


def test_a_truncated_file_is_rejected_with_its_series(workspace: IngestWorkspace) -> None:
    write_series(workspace.raw / "x", anatomy((5, 64, 64)))
    path = workspace.raw / "x/slice002.dcm"
    path.write_bytes(path.read_bytes()[:-4000])
    assert rejection_codes(workspace) == ["truncated"]


def test_burned_in_text_is_rejected_unless_allowed(workspace: IngestWorkspace) -> None:
    write_series(workspace.raw / "x", anatomy((3, 8, 8)), BurnedInAnnotation="YES")
    assert rejection_codes(workspace) == ["burned-in-text"] * 3
    assert len(workspace.ingest(allow_burned_in=True)) == 2


def test_colour_is_rejected(workspace: IngestWorkspace) -> None:
    write_series(workspace.raw / "x", anatomy((3, 8, 8)), PhotometricInterpretation="RGB")
    assert rejection_codes(workspace) == ["not-greyscale"]


def test_slices_at_one_place_with_impossible_bits_are_rejected(workspace: IngestWorkspace) -> None:
    def change(_: int, dataset: FileDataset) -> None:
        dataset.SOPInstanceUID = generate_uid()
        dataset.BitsAllocated = 3

    write_series(workspace.raw / "x", anatomy((4, 8, 8)), step=(0.0, 0.0, 0.0), change=change)
    assert rejection_codes(workspace) == ["not-a-volume"]


def test_a_multiframe_series_without_one_frame_is_rejected(workspace: IngestWorkspace) -> None:
    write_multiframe(workspace.raw / "x.dcm", anatomy((6, 9, 10)), order=[0, 1, 2, 4, 5])
    assert rejection_codes(workspace) == ["missing-slice"]


def test_localisers_maps_captures_and_reports_are_rejected_by_their_codes(
    workspace: IngestWorkspace,
) -> None:
    def report(_: int, dataset: FileDataset) -> None:
        dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
        for name in ("Rows", "Columns", "PixelData"):
            delattr(dataset, name)

    pixels = anatomy((3, 8, 8))
    write_series(
        workspace.raw / "l", pixels, seed="l", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]
    )
    write_series(workspace.raw / "m", pixels, seed="m", ImageType=["DERIVED", "PRIMARY", "ADC"])
    write_series(workspace.raw / "c", pixels, seed="c", SOPClassUID=CAPTURE)
    write_series(workspace.raw / "r", pixels, seed="r", change=report)
    expected = ["derived-map"] * 3 + ["localiser"] * 3
    expected += ["not-an-image"] * 3 + ["secondary-capture"] * 3
    assert rejection_codes(workspace) == expected
