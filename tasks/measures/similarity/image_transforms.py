"""Blur, normalise, shrink, flip and shift images, for the searches by correlation and SSIM."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

Floats = NDArray[np.float32]

SIGMA = 1.5  # pixels
COARSE = 32  # pixels per side of the coarse grid, at least


def blur_and_normalise(images: Floats) -> Floats:
    """Blur images and scale each to mean 0 and norm 1, so that a product is a correlation."""
    down, across = (blur_matrix(size) for size in images.shape[2:])
    return normalise(apply_separable(images.astype(np.float32, copy=False), down, across))


@cache
def blur_matrix(size: int) -> Floats:
    """Return the matrix (size,size) of the blur along one axis."""
    table: Floats = gaussian_filter1d(np.eye(size), SIGMA, axis=0, mode="nearest").astype(
        np.float32
    )
    return table


def apply_separable(images: Floats, down: Floats, across: Floats) -> Floats:
    """Apply one matrix to the rows (h,H) and one to the columns (w,W) of images (N,C,H,W).

    Columns come first: all rows of all images in one product. The result is (N,C,h,w).
    """
    n, channels, height, width = images.shape
    result: Floats = down @ (images.reshape(-1, width) @ across.T).reshape(n, channels, height, -1)
    return result


def normalise(images: Floats) -> Floats:
    """Scale each image to mean 0 and norm 1; a constant image becomes 0, correlating with none."""
    flat = images.reshape(len(images), -1)
    centred = flat - flat.mean(axis=1, keepdims=True)
    norm = np.sqrt(np.einsum("np,np->n", centred, centred))
    centred *= np.where(norm > 1e-3, 1 / np.maximum(norm, 1e-3), 0)[:, None]
    scaled: Floats = centred.reshape(images.shape)
    return scaled


def downsample(images: Floats) -> Floats:
    """Shrink images to at least 32 pixels per side by means of blocks, and normalise them again."""
    factor = coarse_factor(*images.shape[2:])
    down, across = (
        np.repeat(np.eye(size // factor, size), factor, axis=1)[:, :size].astype(np.float32)
        for size in images.shape[2:]
    )
    return normalise(apply_separable(images, down, across))


def coarse_factor(height: int, width: int) -> int:
    """Return the factor by which the coarse grid is smaller than the image."""
    return max(min(height, width) // COARSE, 1)


def apply_flip(images: Floats, flip: tuple[bool, bool]) -> Floats:
    """Flip the rows (top and bottom) and the columns (left and right) of images."""
    return images[:, :, :: -1 if flip[0] else 1, :: -1 if flip[1] else 1]


def apply_transform(image: Floats, transform: NDArray[np.int16]) -> Floats:
    """Apply a row of `Nearest.transforms` to one image (C,H,W)."""
    turned = apply_flip(image[None], (bool(transform[0]), bool(transform[1])))
    shifted: Floats = np.roll(turned, (int(transform[2]), int(transform[3])), axis=(2, 3))[0]
    return shifted
