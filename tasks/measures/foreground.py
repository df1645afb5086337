"""Where the head or brain is in a slice, and what its outline looks like."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

AIR = -0.95  # brighter than this in [-1, 1] is body; generators seldom reach -1 itself
OUTLINE = ("area", "solid", "one_piece", "centre_row", "centre_column")


def foreground(images: NDArray[np.float32]) -> Bools:
    """The body (N,H,W) in images (N,C,H,W) in [-1, 1]: bright in the mean channel, holes filled."""
    bright = ndimage.gaussian_filter(images.mean(axis=1), 0.7, axes=(1, 2)) > AIR
    return np.stack([ndimage.binary_fill_holes(image) for image in bright])


def outline(bodies: Bools) -> Floats:
    """Five figures (N,5) of each outline (N,H,W), named in `OUTLINE`; all in [0, 1].

    Area as a share of the image, area as a share of the convex hull, the largest piece as a share
    of the area, and the centre of mass as a share of the height and width.
    """
    from skimage.morphology import convex_hull_image

    rows = np.zeros((len(bodies), len(OUTLINE)))
    height, width = bodies.shape[1:]
    for row, body in zip(rows, bodies, strict=True):
        area = body.sum()
        if area == 0:
            continue
        pieces, _ = ndimage.label(body)
        centre = ndimage.center_of_mass(body)
        row[:] = (
            area / body.size,
            area / max(convex_hull_image(body).sum(), 1),
            np.bincount(pieces.ravel())[1:].max() / area,
            centre[0] / (height - 1),
            centre[1] / (width - 1),
        )
    return rows
