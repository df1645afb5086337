"""Bodies, outlines and tumour masks on shapes whose figures are known."""

import numpy as np
import pytest

from tasks.measures.anatomy.body_mask import body_masks, hull_area, outline_shape
from tasks.measures.anatomy.tumor_shape import body_extent, tumor_shapes
from tasks.measures.rank_auroc import auroc


def disc(size: int = 64, radius: int = 20) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return x**2 + y**2 <= radius**2


def test_a_disc_is_its_own_body_and_dark_holes_belong_to_it() -> None:
    image = np.where(disc(), 0.3, -1.0).astype(np.float32)
    image[30:34, 30:34] = -1
    body = body_masks(image[None, None])[0]
    assert abs(body.sum() - disc().sum()) / disc().sum() < 0.15
    assert body[31, 31]


def test_the_outline_of_a_disc_is_solid_centred_and_in_one_piece() -> None:
    area, solid, piece, row, column = outline_shape(disc()[None])[0]
    assert area == pytest.approx(disc().mean())
    assert solid > 0.97
    assert (piece, row, column) == (1, pytest.approx(0.5), pytest.approx(0.5))
    assert outline_shape(np.zeros((1, 8, 8), dtype=bool)).sum() == 0


def test_a_bright_tumour_contrasts_and_a_misplaced_mask_does_not() -> None:
    rng = np.random.default_rng(0)
    body = disc()
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[20:28, 30:38] = 1
    image = np.where(body, rng.normal(0, 0.1, body.shape), -1) + mask * 0.8
    images = image.clip(-1, 1).astype(np.float32)[None, None]
    share, row, _, inside, contrast, solidity, _ = tumor_shapes(images, mask[None], body[None])[0]
    assert solidity == 1
    assert share == pytest.approx(64 / body.sum())
    assert 0.2 < row < 0.4
    assert inside == 1
    assert contrast > 0.99
    wrong = np.roll(mask, 15, axis=0)
    assert abs(tumor_shapes(images, wrong[None], body[None])[0, 4] - 0.5) < 0.2
    assert np.isnan(tumor_shapes(images, np.zeros_like(mask)[None], body[None])).all()


@pytest.mark.parametrize("speck", [None, (0, 0), (63, 5), (2, 60)])
def test_a_speck_in_the_air_does_not_move_where_a_tumour_lies(
    speck: tuple[int, int] | None,
) -> None:
    body = disc()
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[30:34, 40:44] = 1
    if speck is not None:
        body[speck] = True
    image = np.where(body, 0.0, -1.0).astype(np.float32)[None, None]
    row, column = tumor_shapes(image, mask[None], body[None])[0, 1:3]
    assert row == pytest.approx(0.5, abs=0.02)
    assert column == pytest.approx((41.5 - 12) / 39)


def test_a_body_in_two_pieces_reaches_over_both() -> None:
    body = np.zeros((40, 40), dtype=bool)
    body[10:20, 5:15] = body[10:20, 25:35] = True
    assert body_extent(body) == ((10, 19), (5, 34))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 3), (40, 33)])
def test_the_area_of_the_hull_is_scikit_images(size: tuple[int, int]) -> None:
    from skimage.morphology import convex_hull_image

    rng = np.random.default_rng(1)
    for share in (0.02, 0.3, 1.0):
        body = rng.random(size) < share
        body[size[0] // 2, size[1] // 2] = True
        assert hull_area(body) == convex_hull_image(body).sum()


def test_auroc_counts_ties_as_half() -> None:
    a, b = np.array([1.0, 2.0], dtype=np.float32), np.array([1.0, 0.0], dtype=np.float32)
    assert auroc(a, b) == pytest.approx(3.5 / 4)
    assert np.isnan(auroc(a, a[:0]))
