"""The nearest slice is found through every change it was searched under."""

import numpy as np
import pytest

from tasks.measures.similarity.image_transforms import apply_flip, apply_transform
from tasks.measures.similarity.ncc_search import nearest_by_ncc, parity_parts


def blobs(n: int, size: int = 64) -> np.ndarray:
    """Smooth pictures on air, no two alike."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    images = np.full((n, 1, size, size), -1.0, dtype=np.float32)
    for image in images:
        for _ in range(12):
            row, column = rng.uniform(0.3, 0.7, 2) * size
            width = rng.uniform(0.03, 0.1) * size
            image[0] += rng.uniform(0.2, 1) * np.exp(
                -((y - row) ** 2 + (x - column) ** 2) / (2 * width**2)
            )
    return images.clip(-1, 1)


@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("transform", [(0, 0, 0, 0), (0, 1, 0, 0), (0, 1, 3, -4), (1, 0, -2, 1)])
def test_a_changed_copy_finds_its_original(size: int, transform: tuple[int, ...]) -> None:
    references = blobs(30, size)
    change = np.array(transform, dtype=np.int16)
    noise = np.random.default_rng(1).normal(0, 0.05, references.shape)
    queries = np.stack([apply_transform(image, change) for image in references]) * 0.9 - 0.1 + noise
    nearest = nearest_by_ncc(queries.astype(np.float32), references)
    np.testing.assert_array_equal(nearest.rows[:, 0], np.arange(30))
    assert nearest.scores[:, 0].min() > 0.98
    assert ((nearest.inverted > nearest.upright) == bool(transform[0])).mean() > 0.9


def test_the_transform_brings_the_query_onto_its_reference() -> None:
    references = blobs(12)
    queries = np.roll(references[..., ::-1], (2, -3), axis=(2, 3))
    nearest = nearest_by_ncc(queries, references)
    for query, rows, change in zip(queries, nearest.rows, nearest.transforms, strict=True):
        np.testing.assert_allclose(
            apply_transform(query, change[0]), references[rows[0]], atol=1e-6
        )


def test_forbidden_pairs_are_never_returned() -> None:
    images = blobs(10)
    nearest = nearest_by_ncc(images, images, owners=(np.arange(10), np.arange(10)), chunk=4)
    assert (nearest.rows[:, 0] != np.arange(10)).all()
    with pytest.raises(ValueError, match="reference"):
        nearest_by_ncc(images, images, owners=(np.zeros(10, int), np.zeros(10, int)))


def test_order_and_chunks_do_not_matter() -> None:
    queries, references = blobs(9)[::-1], blobs(20)
    whole, parts = (nearest_by_ncc(queries, references, chunk=size) for size in (512, 2))
    np.testing.assert_array_equal(whole.rows[:, 0], parts.rows[:, 0])
    np.testing.assert_allclose(whole.scores[:, 0], parts.scores[:, 0], atol=1e-5)


def test_a_constant_image_is_near_to_nothing() -> None:
    nearest = nearest_by_ncc(np.zeros((1, 1, 64, 64), dtype=np.float32), blobs(5))
    assert abs(float(nearest.scores[0, 0])) < 1e-5


def test_parts_give_the_products_under_all_flips() -> None:
    rng = np.random.default_rng(3)
    for shape in ((2, 8, 8), (1, 7, 8), (1, 5, 9)):
        a, b = rng.normal(size=(2, 4, *shape)).astype(np.float32)
        ee, eo, oe, oo = (x @ y.T for x, y in zip(parity_parts(a), parity_parts(b), strict=True))
        sums = {
            (False, False): ee + eo + oe + oo,
            (False, True): ee - eo + oe - oo,
            (True, False): ee + eo - oe - oo,
            (True, True): ee - eo - oe + oo,
        }
        for flip, nearest in sums.items():
            expected = apply_flip(a, flip).reshape(4, -1) @ b.reshape(4, -1).T
            np.testing.assert_allclose(nearest, expected, atol=1e-4)
