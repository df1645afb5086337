"""DICOM series become volumes whose voxels and geometry are kept."""

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import FileDataset
from pydicom.uid import (
    generate_uid,
)

from tests.tasks.dicom_cases import (
    anatomy,
    rotation,
    tumour,
    write_multiframe,
    write_segmentation,
    write_series,
)
from tests.tasks.ingest_fixtures import IngestWorkspace, assert_volume_equals

CONFORMANCE = Path(__file__).parents[2] / "../shared/data/dicom-conformance"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IngestWorkspace:
    monkeypatch.chdir(tmp_path)
    return IngestWorkspace(tmp_path)


@pytest.mark.parametrize("seed", range(6))
def test_an_oblique_series_keeps_voxels_and_geometry(workspace: IngestWorkspace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = anatomy((7, 12, 9), seed)
    turn = rotation(rng)
    affine = write_series(
        workspace.raw / "x", pixels, orientation=(*turn[:, 0], *turn[:, 1]), gap=rng.uniform(1, 6)
    )
    manifest = workspace.ingest()
    assert_volume_equals(workspace, manifest.image[0], pixels, affine)
    assert manifest.orientation[0] == "RAS"
    assert np.allclose(
        manifest.spacing_mm[0],
        nib.affines.voxel_sizes(workspace.load(manifest.image[0])[1]),
        atol=1e-4,
    )


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_file_names_numbers_and_order_do_not_change_the_volume(
    workspace: IngestWorkspace, data: st.DataObject
) -> None:
    """Vary the orientation, and the order in which files are named, numbered and stored."""
    count = data.draw(st.integers(3, 7))
    order = data.draw(st.permutations(range(count)))
    numbers = data.draw(st.lists(st.integers(-5, 9), min_size=count, max_size=count))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**20)))
    turn, gap = rotation(rng), rng.uniform(0.8, 8)
    pixels = anatomy((count, 6, 7), int(rng.integers(99)))

    def renumber(index: int, dataset: FileDataset) -> None:
        dataset.InstanceNumber = numbers[index]

    shutil.rmtree(workspace.raw, ignore_errors=True)
    affine = write_series(
        workspace.raw, pixels, orientation=(*turn[:, 0], *turn[:, 1]), gap=gap, change=renumber
    )
    for index, name in enumerate(order):
        (workspace.raw / f"slice{index:03d}.dcm").rename(workspace.raw / f"IM{name}")
    assert_volume_equals(workspace, workspace.ingest().image[0], pixels, affine)


def test_instance_numbers_do_not_decide_the_order(workspace: IngestWorkspace) -> None:
    pixels = anatomy((5, 8, 8))

    def shuffle(index: int, dataset: FileDataset) -> None:
        dataset.InstanceNumber = [3, 1, 5, 2, 4][index]

    affine = write_series(workspace.raw, pixels, change=shuffle)
    assert_volume_equals(workspace, workspace.ingest().image[0], pixels, affine)


def test_missing_instance_numbers_do_not_matter(workspace: IngestWorkspace) -> None:
    pixels = anatomy((5, 8, 8))

    def drop(_: int, dataset: FileDataset) -> None:
        del dataset.InstanceNumber

    affine = write_series(workspace.raw, pixels, change=drop)
    assert_volume_equals(workspace, workspace.ingest().image[0], pixels, affine)


def test_slope_and_intercept_are_those_of_each_slice(workspace: IngestWorkspace) -> None:
    pixels = anatomy((5, 8, 8))

    def scale(index: int, dataset: FileDataset) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = 1 + index / 2, -index

    write_series(workspace.raw, pixels, change=scale)
    data, _ = workspace.load(workspace.ingest().image[0])
    factors = 1 + np.arange(5)[:, None, None] / 2
    expected = pixels * factors - np.arange(5)[:, None, None]
    assert np.allclose(np.sort(data.ravel()), np.sort(expected.ravel()), rtol=1e-6)
    assert data[0, 0, 4] == expected[4, -1, -1]  # R+ and A+ are LPS's last column and row


@pytest.mark.parametrize("kind", ["i2", "u2", "u1"])
def test_stored_values_survive_whatever_their_type(workspace: IngestWorkspace, kind: str) -> None:
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    pixels = np.linspace(low, high, 5 * 8 * 8).reshape(5, 8, 8).astype(kind)
    affine = write_series(workspace.raw, pixels)
    assert_volume_equals(workspace, workspace.ingest().image[0], pixels, affine)


def test_twelve_bits_with_an_overlay_in_the_high_bits_are_masked(
    workspace: IngestWorkspace,
) -> None:
    pixels = anatomy((4, 8, 8))

    def dirty(_: int, dataset: FileDataset) -> None:
        dataset.BitsStored, dataset.HighBit = 12, 11
        values = np.frombuffer(dataset.PixelData, "<u2") | 0x8000
        dataset.PixelData = values.astype("<u2").tobytes()

    affine = write_series(workspace.raw, pixels, change=dirty)
    assert_volume_equals(workspace, workspace.ingest().image[0], pixels, affine)


def test_a_duplicate_slice_is_dropped_and_reported(workspace: IngestWorkspace) -> None:
    pixels = anatomy((5, 8, 8))
    affine = write_series(workspace.raw, pixels)
    write_series(workspace.raw / "again", pixels[:1])

    manifest = workspace.ingest()
    assert_volume_equals(workspace, manifest.image[0], pixels, affine)
    assert workspace.codes() == ["duplicate"]
    assert workspace.accounts_for_every_file()


def test_a_duplicate_under_a_new_uid_is_recognised_by_its_pixels(
    workspace: IngestWorkspace,
) -> None:
    pixels = anatomy((5, 8, 8))
    affine = write_series(workspace.raw, pixels)

    def renew(_: int, dataset: FileDataset) -> None:
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()

    write_series(workspace.raw / "again", pixels[:1], change=renew)
    assert_volume_equals(workspace, workspace.ingest().image[0], pixels, affine)
    assert workspace.codes() == ["duplicate"]


def test_two_series_in_one_folder_become_two_volumes(workspace: IngestWorkspace) -> None:
    first, second = anatomy((5, 8, 8), 1), anatomy((6, 10, 8), 2)
    write_series(workspace.raw, first, seed="a", prefix="a", SeriesDescription="T1")
    write_series(workspace.raw, second, seed="b", prefix="b", SeriesDescription="T2")
    manifest = workspace.ingest()
    assert [tuple(shape) for shape in manifest["shape"]] == [(8, 8, 5), (8, 10, 6)]
    assert list(manifest.modality) == ["T1", "T2"]


def test_a_localiser_in_the_same_series_does_not_reject_the_series(
    workspace: IngestWorkspace,
) -> None:
    pixels = anatomy((5, 8, 8))
    affine = write_series(workspace.raw, pixels)
    write_series(
        workspace.raw, anatomy((1, 8, 8)), orientation=(0, 1, 0, 0, 0, -1), prefix="scout",
        change=lambda _, dataset: setattr(dataset, "SOPInstanceUID", generate_uid()),
    )  # fmt: skip
    assert_volume_equals(workspace, workspace.ingest().image[0], pixels, affine)
    assert workspace.codes() == ["too-few-slices"]


def test_two_echoes_in_one_series_become_two_volumes(workspace: IngestWorkspace) -> None:
    first, second = anatomy((5, 8, 8), 1), anatomy((5, 8, 8), 2)
    affine = write_series(workspace.raw, first, prefix="a", EchoTime=20)
    write_series(
        workspace.raw, second, prefix="b", EchoTime=90,
        change=lambda _, dataset: setattr(dataset, "SOPInstanceUID", generate_uid()),
    )  # fmt: skip
    manifest = workspace.ingest()
    assert_volume_equals(workspace, manifest.image[0], first, affine)
    assert_volume_equals(workspace, manifest.image[1], second, affine)


@pytest.mark.parametrize("seed", range(3))
def test_an_enhanced_multiframe_series_is_sorted_scaled_and_placed(
    workspace: IngestWorkspace, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    pixels = anatomy((6, 9, 10), seed)
    turn = rotation(rng)
    affine = write_multiframe(
        workspace.raw / "IM_0001", pixels, orientation=(*turn[:, 0], *turn[:, 1]),
        order=list(map(int, rng.permutation(6))),
    )  # fmt: skip
    manifest = workspace.ingest()
    scaled = pixels * (1 + np.arange(6))[:, None, None]
    assert_volume_equals(workspace, manifest.image[0], scaled, affine)
    assert list(manifest.source_format) == ["dicom-multiframe"]
    assert list(manifest.modality) == ["T2"]


@pytest.mark.parametrize("omit", [False, True])
def test_a_segmentation_is_placed_on_its_image(workspace: IngestWorkspace, omit: bool) -> None:
    pixels = anatomy((7, 9, 10))
    turn = rotation(np.random.default_rng(3))
    affine = write_series(workspace.raw / "x", pixels, orientation=(*turn[:, 0], *turn[:, 1]))
    mask = tumour(pixels.shape)
    write_segmentation(
        workspace.raw / "x/seg.dcm", workspace.raw / "x", mask, omit_empty_frames=omit
    )
    manifest = workspace.ingest()
    assert list(manifest.mask_status) == ["segmented"]
    assert_volume_equals(workspace, manifest["mask"][0], mask, affine)
    assert workspace.accounts_for_every_file()


def test_an_empty_segmentation_means_examined_without_tumour(workspace: IngestWorkspace) -> None:
    pixels = anatomy((5, 9, 10))
    write_series(workspace.raw / "x", pixels)
    write_segmentation(
        workspace.raw / "x/seg.dcm", workspace.raw / "x", np.zeros(pixels.shape, np.uint8)
    )
    manifest = workspace.ingest()
    assert list(manifest.mask_status) == ["empty"]
    assert not workspace.load(manifest["mask"][0])[0].any()


def test_no_segmentation_means_not_examined(workspace: IngestWorkspace) -> None:
    write_series(workspace.raw / "x", anatomy((5, 9, 10)))
    manifest = workspace.ingest()
    assert list(manifest.mask_status) == ["missing"]
    assert manifest["mask"].isna().all()


def test_synthetic_data_is_marked(workspace: IngestWorkspace) -> None:
    write_series(workspace.raw / "x", anatomy((5, 9, 10)), SyntheticData="YES")
    write_series(workspace.raw / "y", anatomy((5, 9, 10)), patient="P2")
    assert sorted(workspace.ingest(allow_synthetic=True).synthetic) == [False, True]


def test_the_site_is_a_hash_of_the_station_name(workspace: IngestWorkspace) -> None:
    write_series(workspace.raw / "x", anatomy((5, 9, 10)), InstitutionName="St. Elsewhere")
    site = workspace.ingest().site[0]
    assert site.startswith("site-")
    assert "Elsewhere" not in site
