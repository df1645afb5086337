"""RT structure sets: which of their regions are tumour, and which image they lie on."""

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from tests.tasks.dicom_cases import anatomy, rotation, write_series, write_structures
from tests.tasks.ingest_fixtures import IngestWorkspace, canonical


@pytest.fixture
def workspace(tmp_path, monkeypatch: pytest.MonkeyPatch) -> IngestWorkspace:
    monkeypatch.chdir(tmp_path)
    return IngestWorkspace(tmp_path)


def outline(affine: np.ndarray, low: tuple[float, float], high: tuple[float, float], k: int):
    """Return a rectangle in voxel coordinates on slice k, as (4,3) LPS+ mm."""
    (a, b), (c, d) = low, high
    corners = np.array([[a, b, k, 1], [c, b, k, 1], [c, d, k, 1], [a, d, k, 1]])
    return (corners @ affine.T)[:, :3] * [-1, -1, 1]


def test_contours_are_filled_on_their_slices_with_holes(workspace: IngestWorkspace) -> None:
    turn = rotation(np.random.default_rng(5))
    pixels = anatomy((6, 20, 24))
    affine = write_series(workspace.raw / "x", pixels, orientation=(*turn[:, 0], *turn[:, 1]))
    regions = {
        "GTV": [
            outline(affine, (3.5, 2.5), (12.5, 9.5), 2),
            outline(affine, (5.5, 4.5), (7.5, 6.5), 2),
            outline(affine, (3.5, 2.5), (6.5, 5.5), 3),
        ],
        "Brain": [outline(affine, (0.5, 0.5), (20.5, 15.5), 4)],
    }
    write_structures(workspace.raw / "x/structures.dcm", workspace.raw / "x", regions)
    manifest = workspace.ingest()
    truth = np.zeros((24, 20, 6), np.uint8)
    truth[4:13, 3:10, 2] = 1
    truth[6:8, 5:7, 2] = 0
    truth[4:7, 3:6, 3] = 1
    mask = workspace.load(manifest["mask"][0])[0]
    assert np.array_equal(mask, canonical(truth, affine).get_fdata())
    assert workspace.codes() == []


def test_contours_across_the_slices_are_rejected(workspace: IngestWorkspace) -> None:
    affine = write_series(workspace.raw / "x", anatomy((6, 20, 24)))
    slanted = outline(affine, (3, 3), (12, 12), 2)
    slanted[2:, 2] += 8
    write_structures(workspace.raw / "x/structures.dcm", workspace.raw / "x", {"tumor": [slanted]})
    assert list(workspace.ingest().mask_status) == ["missing"]
    assert workspace.codes() == ["geometry"]


def test_a_structure_set_of_organs_is_no_tumour_mask(workspace: IngestWorkspace) -> None:
    affine = write_series(workspace.raw / "x", anatomy((6, 20, 24)))
    organs = {name: [outline(affine, (3, 3), (12, 12), 2)] for name in ("Brain", "Lens_L")}
    write_structures(workspace.raw / "x/structures.dcm", workspace.raw / "x", organs)
    assert list(workspace.ingest().mask_status) == ["missing"]
    assert workspace.codes() == ["not-a-tumour-mask"]


def test_a_derived_structure_does_not_count_as_tumour(workspace: IngestWorkspace) -> None:
    affine = write_series(workspace.raw / "x", anatomy((6, 20, 24)))
    tumour, brain = (
        [outline(affine, low, high, k) for k in (2, 3)]
        for low, high in (((3.5, 2.5), (9.5, 9.5)), ((0.5, 0.5), (20.5, 15.5)))
    )
    regions = {"GTV": tumour, "Brain-GTV": brain + tumour, "PTV": brain}
    write_structures(workspace.raw / "x/structures.dcm", workspace.raw / "x", regions)
    mask = workspace.load(workspace.ingest()["mask"][0])[0]
    assert mask.sum() == 6 * 7 * 2


@pytest.mark.parametrize(
    ("regions", "kind"),
    [
        ({"GTV": None}, "CLOSED_PLANAR"),
        ({"GTV": []}, "CLOSED_PLANAR"),
        ({"GTV": "point"}, "POINT"),
        ({"GTV": "square"}, "OPEN_PLANAR"),
        ({"GTV": "square"}, "OPEN_NONPLANAR"),
        ({"GTV": "point"}, "CLOSED_PLANAR"),
    ],
)
def test_a_tumour_that_is_not_drawn_is_missing_not_empty(
    workspace: IngestWorkspace, regions: dict[str, object], kind: str
) -> None:
    affine = write_series(workspace.raw / "x", anatomy((6, 20, 24)))
    square = outline(affine, (3, 3), (12, 12), 2)
    shapes = {"point": [square[:1]], "square": [square]}
    drawn = {name: shapes.get(str(shape), shape) for name, shape in regions.items()}
    write_structures(workspace.raw / "x/s.dcm", workspace.raw / "x", drawn, kind=kind)  # type: ignore[arg-type]
    assert list(workspace.ingest().mask_status) == ["missing"]
    assert workspace.codes() == ["mask-not-drawn"]
    assert workspace.accounts_for_every_file()


def test_a_region_of_a_template_that_was_never_drawn_hides_no_other(
    workspace: IngestWorkspace,
) -> None:
    affine = write_series(workspace.raw / "x", anatomy((6, 20, 24)))
    regions = {"GTV": [outline(affine, (3.5, 3.5), (9.5, 9.5), 2)], "GTV2": None}
    write_structures(workspace.raw / "x/s.dcm", workspace.raw / "x", regions)  # type: ignore[arg-type]
    assert list(workspace.ingest().mask_status) == ["segmented"]


def test_the_interpreted_type_gtv_counts_as_tumour(workspace: IngestWorkspace) -> None:
    affine = write_series(workspace.raw / "x", anatomy((6, 20, 24)))
    regions = {
        "volume 1": [outline(affine, (3.5, 3.5), (9.5, 9.5), 2)],
        "volume 2": [outline(affine, (1.5, 1.5), (15.5, 15.5), 2)],
    }
    kinds = {"volume 1": "GTV", "volume 2": "PTV"}
    write_structures(workspace.raw / "x/s.dcm", workspace.raw / "x", regions, interpreted=kinds)  # type: ignore[arg-type]
    assert workspace.load(workspace.ingest()["mask"][0])[0].sum() == 36


def test_mask_segments_can_name_an_unknown_region(workspace: IngestWorkspace) -> None:
    affine = write_series(workspace.raw / "x", anatomy((6, 20, 24)))
    regions = {
        "Doe 1": [outline(affine, (3.5, 3.5), (9.5, 9.5), 2)],
        "Brain": [outline(affine, (1.5, 1.5), (15.5, 15.5), 2)],
    }
    write_structures(workspace.raw / "x/s.dcm", workspace.raw / "x", regions)  # type: ignore[arg-type]
    assert list(workspace.ingest().mask_status) == ["missing"]
    assert workspace.codes() == ["not-a-tumour-mask"]
    for named in (["doe 1"], [1], ["GTV", "Doe 1 "]):
        manifest = workspace.ingest(mask_segments=named)
        assert workspace.load(manifest["mask"][0])[0].sum() == 36
        assert workspace.codes() == []


def test_contours_of_thick_slices_fill_a_thin_series_of_the_same_frame(
    workspace: IngestWorkspace,
) -> None:
    thick = write_series(workspace.raw / "x", anatomy((6, 20, 24)), seed="x", gap=5.0)
    write_series(workspace.raw / "y", anatomy((30, 20, 24)), seed="y", gap=1.0)
    regions = {"GTV": [outline(thick, (3.5, 3.5), (9.5, 9.5), k) for k in (2, 3)]}
    write_structures(workspace.raw / "s.dcm", workspace.raw / "x", regions)  # type: ignore[arg-type]
    manifest = workspace.ingest()
    slices = [workspace.load(path)[0].any(axis=(0, 1)).sum() for path in manifest["mask"]]
    assert slices == [2, 10]


def test_a_structure_set_of_two_frames_of_reference_uses_that_of_its_regions(
    workspace: IngestWorkspace,
) -> None:
    affine = write_series(workspace.raw / "x", anatomy((6, 20, 24)), seed="x")
    other = generate_uid()
    write_series(workspace.raw / "y", anatomy((6, 20, 24)), seed="y", FrameOfReferenceUID=other)
    regions = {"GTV": [outline(affine, (3.5, 3.5), (9.5, 9.5), k) for k in (2, 3)]}
    write_structures(workspace.raw / "s.dcm", workspace.raw / "x", regions)  # type: ignore[arg-type]
    dataset = pydicom.dcmread(workspace.raw / "s.dcm")
    second = Dataset()
    second.FrameOfReferenceUID = other
    own = dataset.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID
    dataset.ReferencedFrameOfReferenceSequence.append(second)
    dataset.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = own
    dataset.save_as(workspace.raw / "s.dcm")
    manifest = workspace.ingest().set_index("image")
    assert sorted(manifest.mask_status) == ["missing", "segmented"]
