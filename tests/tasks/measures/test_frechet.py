"""The Fréchet distance against its closed form and against two libraries."""

import numpy as np
import pytest

from tasks.measures.features.frechet import at_infinity, frechet_distance, gaussian_distance

RNG = np.random.default_rng


def test_two_axis_aligned_gaussians_have_the_closed_form() -> None:
    mean_a, mean_b = np.array([1.0, -2.0, 0.5]), np.array([0.0, 1.0, 0.5])
    std_a, std_b = np.array([1.0, 2.0, 0.0]), np.array([3.0, 0.5, 1.0])
    expected = ((mean_a - mean_b) ** 2).sum() + ((std_a - std_b) ** 2).sum()
    distance = gaussian_distance(mean_a, np.diag(std_a**2), mean_b, np.diag(std_b**2))
    assert distance == pytest.approx(expected, rel=1e-12)


def test_it_agrees_with_the_matrix_square_root_on_full_covariances() -> None:
    from scipy.linalg import sqrtm

    a, b = RNG(0).normal(size=(60, 12)), RNG(1).normal(1, 2, size=(50, 12))
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(
        cov_a + cov_b - 2 * sqrtm(cov_a @ cov_b).real
    )
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)


def test_fewer_rows_than_features_stay_real_and_finite() -> None:
    a, b = RNG(2).normal(size=(5, 40)), RNG(3).normal(size=(9, 40))
    assert np.isfinite(frechet_distance(a, b))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_few_rows_take_another_way_to_the_same_distance() -> None:
    for n, m in ((10, 14), (10, 60), (60, 10)):
        a, b = RNG(n).normal(size=(n, 24)), RNG(m + 1).normal(0.5, 2, size=(m, 24))
        expected = gaussian_distance(a.mean(0), np.cov(a.T), b.mean(0), np.cov(b.T))
        assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-7)


def test_the_line_through_the_bias_meets_the_axis_at_the_truth() -> None:
    sizes = np.array([40.0, 60, 120])
    assert at_infinity(sizes, 7 + 300 / sizes) == pytest.approx(7)
    with pytest.raises(ValueError, match="two different sizes"):
        at_infinity(np.array([50.0, 50]), np.array([1.0, 2]))
    # Two Gaussians 1 apart in each of 8 dimensions: the distance is 8, of few rows more.
    draws = {
        n: [
            frechet_distance(RNG(s).normal(size=(n, 8)), RNG(s + 900).normal(1, 1, size=(n, 8)))
            for s in range(60)
        ]
        for n in (50, 100)
    }
    means = np.array([np.mean(draws[n]) for n in (50, 100)])
    extrapolated = at_infinity(np.array([50.0, 100]), means)
    assert abs(extrapolated - 8) < abs(means[1] - 8) / 2


def test_it_is_symmetric_and_ignores_order_shift_and_rotation() -> None:
    a, b = RNG(4).normal(size=(30, 6)), RNG(5).normal(size=(30, 6)) * 2
    d = frechet_distance(a, b)
    turn = np.linalg.qr(RNG(6).normal(size=(6, 6)))[0]
    assert frechet_distance(b, a) == pytest.approx(d)
    assert frechet_distance(a[::-1], b) == pytest.approx(d)
    assert frechet_distance(a @ turn + 3, b @ turn + 3) == pytest.approx(d)


def test_one_row_is_refused() -> None:
    with pytest.raises(ValueError, match="rows"):
        frechet_distance(np.zeros((1, 3)), np.zeros((4, 3)))


@pytest.mark.verify
def test_it_agrees_with_torchmetrics_and_monai() -> None:
    import torch
    from monai.metrics.fid import FIDMetric
    from torchmetrics.image.fid import FrechetInceptionDistance

    a, b = RNG(7).normal(size=(200, 16)), RNG(8).normal(0.3, 1.5, size=(200, 16))
    ours = frechet_distance(a, b)
    assert float(FIDMetric()(torch.tensor(a), torch.tensor(b))) == pytest.approx(ours, rel=1e-6)

    metric = FrechetInceptionDistance(feature=torch.nn.Flatten(), normalize=True,
                                      input_img_size=(1, 4, 4))  # fmt: skip
    metric.set_dtype(torch.float64)
    metric.used_custom_model = True
    metric.update(torch.tensor(a).reshape(-1, 1, 4, 4), real=True)
    metric.update(torch.tensor(b).reshape(-1, 1, 4, 4), real=False)
    assert float(metric.compute()) == pytest.approx(ours, rel=1e-5)
