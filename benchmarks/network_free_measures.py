"""Measures of image sets without a network: diversity by SSIM, sliced Wasserstein distance."""

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity
from skimage.transform import pyramid_laplacian

PATCH_SEED = 7


def mean_pair_ssim(images: NDArray[np.float32]) -> float:
    """Compute the mean SSIM of 64 pairs far apart in the set."""
    half = len(images) // 2
    rows = np.linspace(0, half - 1, min(64, half)).round().astype(int)
    return float(np.mean([
        structural_similarity(
            images[row, 0], images[row + half, 0], data_range=2.0, gaussian_weights=True,
            sigma=1.5, use_sample_covariance=False,
        )
        for row in rows
    ]))  # fmt: skip


def sliced_wasserstein(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Compute the sliced Wasserstein distance of 7 x 7 patches of Laplacian pyramids.

    Karras 2018, sec. 5. `a` and `b` (n,C,H,W), equally many. Down to 16 pixels a side, 32 patches a
    slice and level, 128 directions, the mean over levels; patches are standardised by those of `b`.
    """
    levels = int(np.log2(a.shape[-1] / 16))
    distances = []
    for patches_a, patches_b in zip(
        pyramid_patches(a, levels), pyramid_patches(b, levels), strict=True
    ):
        scale = patches_b.std() + 1e-8
        directions = np.random.default_rng(PATCH_SEED).normal(size=(patches_a.shape[1], 128))
        directions /= np.linalg.norm(directions, axis=0)
        projected = [
            np.sort((patches - patches_b.mean()) / scale @ directions, axis=0)
            for patches in (patches_a, patches_b)
        ]
        distances.append(np.abs(projected[0] - projected[1]).mean())
    return float(np.mean(distances))


def pyramid_patches(images: NDArray[np.float32], levels: int) -> list[NDArray[np.float64]]:
    """Extract patches (32 n,49) of the first channel, one table a level of the pyramid."""
    rng = np.random.default_rng(PATCH_SEED)
    patches_by_level: list[list[NDArray[np.float64]]] = [[] for _ in range(levels + 1)]
    for image in images[:, 0]:
        for level, layer in enumerate(pyramid_laplacian(image, max_layer=levels)):
            windows = np.lib.stride_tricks.sliding_window_view(layer, (7, 7))
            at = rng.integers(0, windows.shape[0], (2, 32))
            patches_by_level[level].append(windows[at[0], at[1]].reshape(32, 49))
    return [np.concatenate(tables) for tables in patches_by_level]
