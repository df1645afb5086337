"""SSIM of all pairs at once is scikit-image's; the search finds what an exhaustive one finds."""

import tracemalloc
from itertools import product

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity

from tasks.measures.similarity import approximate_ssim as windows
from tasks.measures.similarity import ssim_search as search
from tasks.measures.similarity.approximate_ssim import ALL, ssim_pairs
from tasks.measures.similarity.image_transforms import apply_transform
from tasks.measures.similarity.ncc_search import nearest_by_ncc
from tasks.measures.similarity.ssim import TAPS, moments, ssim
from tasks.measures.similarity.ssim_search import NearestSsim, nearest_ssim


def textures(n: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (N,1,H,W) on air, each a rough texture within a disc, and the discs (N,H,W)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    radius = rng.uniform(0.3, 0.38, (n, 1, 1)) * size
    bodies = x**2 + y**2 <= radius**2
    noise = gaussian_filter(rng.normal(size=(n, size, size)), (0, 2, 2))
    images = np.where(bodies, (noise / noise.std() * 0.4).clip(-0.9, 1), -1)
    return images.astype(np.float32)[:, None], bodies


def scikit(a: np.ndarray, b: np.ndarray) -> float:
    settings = {"sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    return float(structural_similarity(
        (a[0] + 1) / 2, (b[0] + 1) / 2, gaussian_weights=True, **settings
    ))  # fmt: skip


def test_all_pairs_at_every_window_are_scikit_images() -> None:
    a, _ = textures(5, 40, 0)
    b, _ = textures(4, 40, 1)
    nearest = ssim_pairs(a, b, stride=1, degree=ALL)
    expected = [[scikit(x, y) for y in b] for x in a]
    np.testing.assert_allclose(nearest, expected, atol=1e-5)


def test_every_fourth_window_and_few_polynomials_are_nearly_as_good() -> None:
    a, bodies = textures(12, 64, 2)
    b = 0.6 * a[::-1] + 0.4 * textures(12, 64, 3)[0]
    nearly = ssim_pairs(a, b, bodies, bodies)
    exact = ssim_pairs(a, b, bodies, bodies, stride=1, degree=ALL)
    assert np.abs(exact - nearly).max() < 0.08  # far rougher than anatomy
    assert np.corrcoef(exact.ravel(), nearly.ravel())[0, 1] > 0.995
    np.testing.assert_array_equal(nearly.argmax(axis=1), exact.argmax(axis=1))


def test_the_polynomials_are_orthonormal_under_the_window() -> None:
    weights = windows.polynomial_weights(10).astype(np.float64)
    np.testing.assert_allclose(weights[0], TAPS, atol=1e-7)
    np.testing.assert_allclose((weights / TAPS) @ weights.T, np.eye(11), atol=1e-5)


def test_the_air_around_both_bodies_does_not_count() -> None:
    a, bodies = textures(4, 40, 4)
    b, others = textures(4, 40, 5)
    nearest = np.diag(ssim_pairs(a, b, bodies, others, stride=1, degree=ALL))
    expected = ssim(moments(a), moments(b), region=bodies | others)
    np.testing.assert_allclose(nearest, expected, atol=1e-5)


def test_blocks_and_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    a, bodies = textures(9, 32, 6)
    b, others = textures(7, 32, 7)
    whole = ssim_pairs(a, b, bodies, others)
    for name, size in (("ROWS", 2), ("COLUMNS", 3), ("CHUNK", 4)):
        monkeypatch.setattr(windows, name, size)
    np.testing.assert_allclose(ssim_pairs(a, b, bodies, others, workers=2), whole, atol=1e-6)


def test_memory_does_not_grow_with_the_number_of_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    a, _ = textures(60, 32, 8)
    monkeypatch.setattr(windows, "CHUNK", 20)
    peaks = []
    for n in (20, 60):
        tracemalloc.start()
        ssim_pairs(a[:n], a[:n])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 60 * 60 * 4


def found_in(
    queries: np.ndarray,
    references: np.ndarray,
    q: np.ndarray,
    r: np.ndarray,
    *,
    max_shift: int = 2,
    owners: tuple[np.ndarray, np.ndarray] | None = None,
) -> NearestSsim:
    near = nearest_by_ncc(queries, references, max_shift=max_shift, owners=owners)
    return nearest_ssim(
        queries, references, q, r, correlated=near, max_shift=max_shift, owners=owners
    )


def test_it_finds_what_an_exhaustive_search_finds() -> None:
    references, bodies = textures(12, 40, 9)
    queries, own = textures(5, 40, 10)
    queries = 0.5 * queries + 0.5 * np.roll(references[3:8], 1, axis=2)
    nearest = found_in(queries, references, own, bodies)
    best = np.full(len(queries), -1.0)
    for flip, down, across in product((0, 1), range(-2, 3), range(-2, 3)):
        change = np.array([0, flip, down, across], dtype=np.int16)
        turned = np.stack([apply_transform(image, change) for image in queries])
        body = np.stack([apply_transform(one[None], change)[0] for one in own])
        for k in range(len(references)):
            rows = np.full(len(queries), k)
            region = body | bodies[rows]
            pairs = ssim(moments(turned), moments(references[rows]), region=region)
            best = np.maximum(best, pairs)
    np.testing.assert_allclose(nearest.scores, best, atol=5e-3)
    assert (np.abs(nearest.scores - best) < 1e-5).mean() >= 0.8


@pytest.mark.parametrize("size", [64, 128])
def test_a_mirrored_shifted_copy_finds_its_original(size: int) -> None:
    references, bodies = textures(15, size, 11)
    change = np.array([0, 1, 3, -4], dtype=np.int16)
    queries = np.stack([apply_transform(image, change) for image in references])
    own = np.stack([apply_transform(body[None], change)[0] for body in bodies])
    noise = np.random.default_rng(12).normal(0, 0.02, queries.shape).astype(np.float32)
    nearest = found_in(queries + noise * own[:, None], references, own, bodies, max_shift=4)
    np.testing.assert_array_equal(nearest.rows, np.arange(15))
    assert nearest.scores.min() > 0.9
    for query, row, transform in zip(queries, nearest.rows, nearest.transforms, strict=True):
        np.testing.assert_array_equal(apply_transform(query, transform), references[row])


@pytest.mark.parametrize("reach", range(7))
def test_every_shift_is_at_most_one_pixel_from_those_tried(reach: int) -> None:
    tried = search.every_third(reach)
    looked_at = {place for body in tried for place in search.neighbouring_shifts(body, reach)}
    assert looked_at == set(range(-reach, reach + 1))
    assert 0 in tried


@pytest.mark.parametrize("reach", [2, 5])
def test_the_largest_shift_is_found(reach: int) -> None:
    references, bodies = textures(6, 48, 14)
    queries = np.roll(references, (reach, -reach), axis=(2, 3))
    nearest = found_in(queries, references, np.roll(bodies, (reach, -reach), axis=(1, 2)), bodies,
                     max_shift=reach)  # fmt: skip
    np.testing.assert_array_equal(nearest.rows, np.arange(6))
    assert nearest.scores.min() > 0.995
    np.testing.assert_array_equal(nearest.transforms[:, 2:], np.tile([-reach, reach], (6, 1)))


def test_few_references_are_searched_as_well() -> None:
    references, bodies = textures(2, 40, 15)
    queries, own = textures(5, 40, 16)
    queries[:2], own[:2] = references, bodies
    nearest = found_in(queries, references, own, bodies)
    np.testing.assert_array_equal(nearest.rows[:2], [0, 1])
    assert nearest.scores[:2].min() > 0.999


def test_forbidden_pairs_and_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    images, bodies = textures(10, 32, 13)
    same = np.arange(10), np.arange(10)
    whole = found_in(images, images, bodies, bodies, owners=same)
    assert (whole.rows != np.arange(10)).all()
    monkeypatch.setattr(search, "CHUNK", 3)
    parts = found_in(images, images, bodies, bodies, owners=same)
    np.testing.assert_array_equal(whole.rows, parts.rows)
    np.testing.assert_allclose(whole.scores, parts.scores, atol=1e-6)
