"""SSIM with Wang's settings is scikit-image's, pair by pair."""

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from tasks.measures.similarity.ssim import moments, ssim


def pairs(n: int = 4, size: int = 48) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    a = rng.uniform(-1, 1, (n, 1, size, size)).astype(np.float32)
    return a, (0.7 * a + 0.3 * rng.uniform(-1, 1, a.shape)).astype(np.float32)


def test_it_equals_scikit_image() -> None:
    a, b = pairs()
    similarity = ssim(moments(a), moments(b))
    for x, y, value in zip(a, b, similarity, strict=True):
        expected = structural_similarity(
            (x[0] + 1) / 2,
            (y[0] + 1) / 2,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1,
        )
        assert value == pytest.approx(expected, abs=1e-4)


def test_an_image_is_like_itself_and_the_measure_is_symmetric() -> None:
    a, b = pairs()
    np.testing.assert_allclose(ssim(moments(a), moments(a)), 1, atol=1e-5)
    np.testing.assert_allclose(ssim(moments(a), moments(b)), ssim(moments(b), moments(a)))


def test_only_the_region_counts() -> None:
    a, b = pairs(1)
    b[..., :24] = a[..., :24]
    left = np.zeros((1, 48, 48), dtype=bool)
    left[..., :18] = True
    assert ssim(moments(a), moments(b), region=left)[0] == pytest.approx(1, abs=1e-5)
    assert ssim(moments(a), moments(b))[0] < 0.95


def test_small_images_are_refused() -> None:
    tiny = moments(np.zeros((1, 1, 8, 8), dtype=np.float32))
    with pytest.raises(ValueError, match="8 x 8"):
        ssim(tiny, tiny)
