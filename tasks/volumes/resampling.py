"""From one canonical volume to slices of the common grid."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

Volume = NDArray[np.float32]


@dataclass(frozen=True)
class Grid:
    """Where the slices of a volume are sampled: one window, the same for all its slices.

    `centre` (x, y) in voxels; `step` (x, y) voxels a pixel; `size` pixels a side.
    """

    centre: tuple[float, float]
    step: tuple[float, float]
    size: int


def brain_mask(volume: Volume) -> NDArray[np.bool_]:
    """The largest body that stands out, holes filled slice by slice, of an (X,Y,Z) volume.

    Inside a skull-stripped volume this is the brain; in a whole-head volume it is the head.
    """
    labels, count = ndimage.label(foreground(volume))
    if count == 0:
        return np.zeros(volume.shape, dtype=bool)
    largest = 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    body = labels == largest
    filled = [ndimage.binary_fill_holes(body[:, :, z]) for z in range(body.shape[2])]
    return np.stack(filled, axis=2)


def foreground(volume: Volume) -> NDArray[np.bool_]:
    """What is bright; where the background itself would be, what differs from it.

    Otsu's threshold (1979) is halved because cerebrospinal fluid is dark on FLAIR. A stripped
    volume of z-scores has its background in the middle of its values.
    """
    smooth = ndimage.gaussian_filter(volume, sigma=(1, 1, 0))
    if float(smooth.max()) <= float(smooth.min()):
        return np.zeros(volume.shape, dtype=bool)
    # The floor is the air: the lowest percentile, not zero, in images with a noise floor.
    floor = float(np.percentile(smooth, 1))
    bright = floor + (threshold_otsu(smooth) - floor) / 2
    corners = volume[:: max(1, volume.shape[0] - 1), :: max(1, volume.shape[1] - 1)]
    background = float(corners.flat[0])
    if background > bright and (corners == background).all():
        return np.asarray(volume != background)
    return np.asarray(smooth > bright)


def extent_mm(brain: NDArray[np.bool_], spacing_mm: tuple[float, float]) -> tuple[float, float]:
    """Width and height of the brain's bounding box in the (X,Y) plane."""
    spans = [np.flatnonzero(brain.any(axis=axes)) for axes in ((1, 2), (0, 2))]
    x, y = (float(s[-1] - s[0] + 1) * mm for s, mm in zip(spans, spacing_mm, strict=True))
    return x, y


def window(
    brain: NDArray[np.bool_], spacing_mm: tuple[float, float], *, pixel_mm: float, size: int
) -> Grid:
    """The window centred on the brain's bounding box in the (X,Y) plane."""
    extent = [np.flatnonzero(brain.any(axis=axes)) for axes in ((1, 2), (0, 2))]
    x, y = ((float(e[0]) + float(e[-1])) / 2 for e in extent)
    return Grid((x, y), (pixel_mm / spacing_mm[0], pixel_mm / spacing_mm[1]), size)


def sample(volume: Volume, grid: Grid, *, fill: float) -> Volume:
    """Resample the slices of an (X,Y,Z) RAS volume to (Z, size, size), smoothed against aliasing.

    Rows run from anterior to posterior, columns from the patient's right to the left: the
    display that radiologists expect.
    """
    # The sigma of a low-pass before decimation by `step`, as in skimage.transform.resize.
    sigma = [max(0.0, (step - 1) / 2) for step in grid.step]
    smooth = ndimage.gaussian_filter(volume, sigma=(*sigma, 0), mode="nearest")
    half = (grid.size - 1) / 2
    # Output (column, row) = right-to-left x, anterior-to-posterior y: both run downwards.
    steps = [-grid.step[0], -grid.step[1]]
    offset = [grid.centre[i] - steps[i] * half for i in range(2)]
    slices = [
        ndimage.affine_transform(
            smooth[:, :, z],
            np.array(steps),
            offset,
            output_shape=(grid.size, grid.size),
            order=1,
            mode="constant",
            cval=fill,
        ).T
        for z in range(volume.shape[2])
    ]
    return np.stack(slices).astype(np.float32)


def sample_mask(mask: NDArray[np.bool_], grid: Grid) -> NDArray[np.uint8]:
    """Resample a mask to (Z, size, size); half covered pixels and more belong to it."""
    return (sample(mask.astype(np.float32), grid, fill=0.0) >= 0.5).astype(np.uint8)
