"""Features are per image: batches, neighbours and broken pixels do not matter."""

import numpy as np

from tasks.measures.features.feature_extraction import SHA256, features, load_extractor


def images(n: int = 7) -> np.ndarray:
    return np.random.default_rng(3).uniform(-1, 1, (n, 1, 64, 64)).astype(np.float32)


def test_a_row_depends_on_its_image_alone() -> None:
    x = images()
    rows = features(x, batch=3)
    order = np.random.default_rng(4).permutation(len(x))
    np.testing.assert_allclose(features(x[order], batch=5), rows[order], rtol=1e-4, atol=1e-4)


def test_a_broken_image_still_gives_finite_features() -> None:
    x = images(2)
    x[0, 0, :5] = np.nan
    x[1] = np.inf
    assert np.isfinite(features(x)).all()


def test_the_weights_are_the_known_ones() -> None:
    assert load_extractor().sha256 == SHA256
