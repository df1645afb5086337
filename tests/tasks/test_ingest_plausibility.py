"""Masks that cannot be a tumour's outline in their image are rejected; true masks pass."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.core.volume import Volume
from tasks.ingest.masks.plausibility import (
    CheckedImage,
    check_place,
    confirms_placement,
    ignores_image,
    judge_outline,
)
from tests.tasks.ingest_fixtures import IngestWorkspace
from tests.tasks.synthetic_heads import (
    HEAD_MM,
    ORIENTATIONS,
    SHAPE,
    TUMOUR,
    affine_of,
    ball,
    head,
    places,
    shape_of,
)

AFFINE = affine_of()
IMAGE = head(SHAPE, AFFINE)
TRUE = ball(SHAPE, AFFINE)
BRAIN = ((places(SHAPE, AFFINE) / (HEAD_MM * 0.85)) ** 2).sum(-1) <= 1
ELSEWHERE = np.array([24.0, 20.0, -4.0])


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IngestWorkspace:
    monkeypatch.chdir(tmp_path)
    return IngestWorkspace(tmp_path)


def write(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data.astype(np.int16), affine), path)


def one_patient(workspace: IngestWorkspace, mask: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    write(workspace.raw / "P1_FLAIR.nii.gz", IMAGE)
    write(workspace.raw / "P1_FLAIR_mask.nii.gz", mask, affine)


def tissue() -> np.ndarray:
    """Return a third of the brain, in sheets over both sides, as grey matter is."""
    return BRAIN & (np.sin(places(SHAPE, AFFINE)[..., 1] / 3) > 0.3)


@pytest.mark.parametrize(
    ("mask", "code"),
    [
        (ball(SHAPE, AFFINE, np.array([-66.0, -70.0, 0.0])), "mask-in-air"),
        (BRAIN, "mask-of-head"),
        (IMAGE > 100, "mask-of-head"),
        (tissue(), "mask-of-head"),
        (ball(SHAPE, AFFINE, ELSEWHERE), "mask-ignores-image"),
        (TRUE[::-1], "mask-ignores-image"),
    ],
)
def test_a_mask_that_is_no_outline_is_rejected_and_the_image_stays(
    workspace: IngestWorkspace, mask: np.ndarray, code: str
) -> None:
    one_patient(workspace, mask)
    manifest = workspace.ingest()
    assert list(manifest.mask_status) == ["missing"]
    assert manifest["mask"].isna().all()
    assert workspace.codes() == [code]
    assert not list(workspace.volumes.rglob("*_mask.nii.gz"))
    assert workspace.accounts_for_every_file()
    assert list(workspace.ingest(check_masks=False).mask_status) == ["segmented"]


@pytest.mark.parametrize("contrast", [1.0, 0.3, -0.5])
@pytest.mark.parametrize("radius", [8.0, 16.0, 30.0])
def test_true_masks_pass_bright_or_dark_small_or_large(contrast: float, radius: float) -> None:
    mask = ball(SHAPE, AFFINE, radius=radius)
    grey = head(SHAPE, AFFINE, contrast=0) + contrast * 300 * mask
    checked_image = CheckedImage.of(Volume(grey.astype(np.float32), AFFINE))
    check_place(mask, checked_image)
    assert judge_outline(mask, checked_image) == "clear"


@pytest.mark.parametrize("change", ["stripped", "z-scored", "inverted"])
def test_a_head_is_found_under_any_change_of_its_greys(change: str) -> None:
    grey = np.where(BRAIN, IMAGE, 0)
    if change == "z-scored":
        grey = np.where(BRAIN, (IMAGE - IMAGE[BRAIN].mean()) / IMAGE[BRAIN].std(), 0)
    if change == "inverted":
        grey = 1000 - grey
    checked_image = CheckedImage.of(Volume(grey.astype(np.float32), AFFINE))
    check_place(TRUE, checked_image)
    assert judge_outline(TRUE, checked_image) == "clear"
    with pytest.raises(RejectionError, match="mask-of-head"):
        check_place(BRAIN.astype(np.uint8), checked_image)
    with pytest.raises(RejectionError, match="mask-in-air"):
        check_place(ball(SHAPE, AFFINE, np.array([-66.0, -70.0, 0.0])), checked_image)


def test_one_image_that_shows_the_outline_is_enough(workspace: IngestWorkspace) -> None:
    """Check an oedema: it is visible in a FLAIR, not in a T1; its mask belongs to both."""
    write(workspace.raw / "P1/P1_FLAIR.nii.gz", IMAGE)
    write(workspace.raw / "P1/P1_T1.nii.gz", head(SHAPE, AFFINE, contrast=0, seed=1))
    write(workspace.raw / "P1/P1_seg.nii.gz", TRUE)
    assert list(workspace.ingest().mask_status) == ["segmented"] * 2
    write(workspace.raw / "P1/P1_seg.nii.gz", TRUE[::-1])
    assert list(workspace.ingest().mask_status) == ["missing"] * 2
    assert workspace.codes() == ["mask-ignores-image"]


def test_a_region_without_its_own_edge_passes_if_the_whole_tumour_is_visible(
    workspace: IngestWorkspace,
) -> None:
    labels = TRUE.astype(np.int16) * 2
    labels[ball(SHAPE, AFFINE, radius=9.0) > 0] = 3
    one_patient(workspace, labels)
    manifest = workspace.ingest(mask_labels="enhancing", label_convention="brats-2024")
    assert list(manifest.mask_status) == ["segmented"]
    one_patient(workspace, labels[::-1])
    manifest = workspace.ingest(mask_labels="enhancing", label_convention="brats-2024")
    assert workspace.codes() == ["mask-ignores-image"]


@pytest.mark.parametrize(
    ("views", "ignored"),
    [
        ((), False),
        (("unseen",), True),
        (("unseen", "faint"), False),
        (("elsewhere", "faint"), True),
        (("elsewhere", "unseen", "clear"), False),
    ],
)
def test_a_mask_is_ignored_by_all_its_images_together(
    views: tuple[str, ...], ignored: bool
) -> None:
    assert ignores_image(views) == ignored  # type: ignore[arg-type]


def test_a_brain_mask_beside_the_tumour_mask_is_left_out_alone(workspace: IngestWorkspace) -> None:
    write(workspace.raw / "P1/P1_FLAIR.nii.gz", IMAGE)
    write(workspace.raw / "P1/P1_a_mask.nii.gz", TRUE)
    write(workspace.raw / "P1/P1_b_mask.nii.gz", BRAIN)
    manifest = workspace.ingest()
    flair = manifest[manifest.modality == "FLAIR"].iloc[0]
    if isinstance(flair["mask"], str):
        assert np.array_equal(workspace.load(flair["mask"])[0], TRUE)


def test_a_mask_without_voxels_is_empty_not_missing(workspace: IngestWorkspace) -> None:
    one_patient(workspace, np.zeros(SHAPE))
    assert list(workspace.ingest().mask_status) == ["empty"]
    assert workspace.codes() == []


def test_a_mask_of_which_a_corner_falls_inside_the_image_is_rejected(
    workspace: IngestWorkspace,
) -> None:
    away = AFFINE.copy()
    away[0, 3] += 111  # 3 of the tumour's 32 mm still lie in the image, whose edge is at 72 mm
    one_patient(workspace, TRUE, away)
    assert list(workspace.ingest(check_masks=False).mask_status) == ["missing"]
    assert workspace.codes() == ["mask-outside-image"]


def identity(kind: str) -> np.ndarray:
    """Return an affine that programs write by default."""
    return {
        "numpy": np.eye(4),
        "itk": np.diag([-1.0, -1.0, 1.0, 1.0]),
        "spacing": np.diag([2.4, 2.4, 5.0, 1.0]),
    }[kind]


@pytest.mark.parametrize(
    ("codes", "kind"),
    [("RAS", "numpy"), ("LAS", "itk"), ("LPS", "numpy"), ("LPS", "spacing"), ("PSR", "numpy")],
)
def test_a_mask_without_affine_is_placed_by_voxel_order_if_the_image_confirms_it(
    workspace: IngestWorkspace, codes: str, kind: str
) -> None:
    affine, shape = affine_of(codes), shape_of(codes)
    write(workspace.raw / "P1_FLAIR.nii.gz", head(shape, affine), affine)
    write(workspace.raw / "P1_FLAIR_mask.nii.gz", ball(shape, affine), identity(kind))
    manifest = workspace.ingest()
    assert workspace.codes() == []
    mask, where = workspace.load(manifest["mask"][0])
    assert np.array_equal(mask, ball(mask.shape, where))


@pytest.mark.parametrize("damage", ["flipped", "cut", "faint", "tiny"])
def test_a_mask_without_affine_is_rejected_if_the_image_does_not_confirm_it(
    workspace: IngestWorkspace, damage: str
) -> None:
    shape = (12, 14, 10) if damage == "tiny" else SHAPE
    affine = affine_of(spacing=(10.0, 10.0, 10.0)) if damage == "tiny" else affine_of("LAS")
    mask = ball(shape, affine)
    if damage == "flipped":
        mask = mask[::-1]
    if damage == "cut":
        mask = mask[:, :-2]
    mask[0, 0, 0] = 1
    contrast = 0.0 if damage == "faint" else 1.0
    write(workspace.raw / "P1_FLAIR.nii.gz", head(shape, affine, contrast=contrast), affine)
    write(workspace.raw / "P1_FLAIR_mask.nii.gz", mask, np.eye(4))
    assert list(workspace.ingest().mask_status) == ["missing"]
    assert workspace.codes() == ["mask-grid"]


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_only_the_true_placement_is_confirmed(codes: str) -> None:
    affine, shape = affine_of(codes), shape_of(codes)
    image = Volume(head(shape, affine).astype(np.float32), affine)
    mask = ball(shape, affine)
    assert confirms_placement(mask, image)
    for axis in range(3):
        if abs(TUMOUR[abs(affine[:3, axis]).argmax()]) > 10:  # it lies near the middle plane
            assert not confirms_placement(np.flip(mask, axis).copy(), image)
