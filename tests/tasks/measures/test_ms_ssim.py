"""MS-SSIM: one for equal images, MONAI's figure for others, and settings for small pictures."""

import numpy as np
import pytest

from tasks.measures.similarity.ms_ssim import WEIGHTS, choose_settings, ms_ssim

RNG = np.random.default_rng


def pictures(n: int, side: int) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(RNG(0).normal(size=(n, 1, side, side)), 3, axes=(2, 3))
    return np.tanh(smooth * 8).astype(np.float32)


def test_small_pictures_get_fewer_taps_and_then_fewer_scales() -> None:
    settings = {side: choose_settings(side) for side in (64, 128, 176, 256)}
    assert {side: (s.taps, len(s.weights)) for side, s in settings.items()} == {
        64: (7, 4), 128: (7, 5), 176: (11, 5), 256: (11, 5),
    }  # fmt: skip
    assert settings[176].weights == pytest.approx(np.array(WEIGHTS) / sum(WEIGHTS))
    assert sum(settings[64].weights) == pytest.approx(1)
    with pytest.raises(ValueError, match="4 pixels"):
        choose_settings(4)


def test_an_image_is_as_its_own_copy_and_the_order_of_a_pair_does_not_matter() -> None:
    x = pictures(3, 64)
    same, ahead, behind = ms_ssim(x, np.array([[1, 1], [0, 2], [2, 0]]))
    assert same == pytest.approx(1, abs=1e-5)
    assert ahead == pytest.approx(behind, abs=1e-6)
    assert ahead < 0.9


@pytest.mark.verify
@pytest.mark.parametrize("side", [64, 128, 176])
def test_it_is_the_figure_of_monai(side: int) -> None:
    import torch
    from monai.metrics.regression import MultiScaleSSIMMetric

    x = pictures(4, side)
    x[2:] = 0.7 * x[:2] + 0.3 * x[2:]  # of strangers a term may be negative, and all is 0
    chosen = choose_settings(side)
    metric = MultiScaleSSIMMetric(
        spatial_dims=2, kernel_size=chosen.taps, weights=list(chosen.weights), reduction="none"
    )
    a, b = (torch.from_numpy((x[rows] + 1) / 2) for rows in ([0, 1], [2, 3]))
    expected = metric(a, b)[:, 0].numpy()
    assert expected.min() > 0.3
    np.testing.assert_allclose(ms_ssim(x, np.array([[0, 2], [1, 3]])), expected, atol=2e-4)
    if side == 176:  # the published settings, which torchmetrics cannot leave
        from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

        of_torchmetrics = multiscale_structural_similarity_index_measure(
            a, b, data_range=1.0, betas=chosen.weights, reduction="none", normalize="relu"
        )
        np.testing.assert_allclose(expected, of_torchmetrics.numpy(), atol=5e-3)
