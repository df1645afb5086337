"""The mask of the head or brain in a slice, and the shape of its outline."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

AIR = -0.95  # brighter than this in [-1, 1] is body; generators seldom reach -1 itself
EDGE = 1e-9  # pixels; a centre on the edge of a hull belongs to it
OUTLINE = ("area", "solid", "one_piece", "centre_row", "centre_column")


def body_masks(images: NDArray[np.float32]) -> Bools:
    """Compute body masks (N,H,W) of images (N,C,H,W) in [-1, 1].

    The body is what is bright in the blurred mean channel, with its holes filled.
    """
    bright = ndimage.gaussian_filter(images.mean(axis=1), 0.7, axes=(1, 2)) > AIR
    return np.stack([fill_holes(image) for image in bright])


def fill_holes(bright: Bools) -> Bools:
    """Fill the holes: dark pieces that do not touch the frame; equal to `binary_fill_holes`."""
    pieces, _ = ndimage.label(np.pad(~bright, 1, constant_values=True))
    inside: Bools = (pieces != pieces[0, 0])[1:-1, 1:-1]
    return inside


def outline_shape(bodies: Bools) -> Floats:
    """Compute five figures (N,5) of each outline (N,H,W), named in `OUTLINE`; all in [0, 1].

    They are the area as a share of the image, the area as a share of the convex hull, the largest
    piece as a share of the area, and the centre of mass as a share of height and width.
    """
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
            area / max(hull_area(body), 1),
            np.bincount(pieces.ravel())[1:].max() / area,
            centre[0] / (height - 1),
            centre[1] / (width - 1),
        )
    return rows


def hull_area(body: Bools) -> int:
    """Count the pixels of the convex hull of a body (H,W) that is not empty.

    The result is that of scikit-image's `convex_hull_image`: the hull contains the midpoints of all
    pixel edges, and a pixel counts when its centre lies in the hull or on its edge. This function
    works row by row instead of pixel by pixel.
    """
    rows = np.flatnonzero(body.any(axis=1))
    first = body[rows].argmax(axis=1)
    last = body.shape[1] - 1 - body[rows, ::-1].argmax(axis=1)
    points = np.concatenate(
        [
            np.stack([rows + down, column + across], axis=1)
            for column in (first, last)
            for down, across in ((-0.5, 0), (0.5, 0), (0, -0.5), (0, 0.5))
        ]
    )
    corners = points[ConvexHull(points).vertices]
    after = np.roll(corners, -1, axis=0)
    inside = np.arange(rows[0], rows[-1] + 1)[:, None]  # rows whose centres may lie inside
    low, high = np.minimum(corners[:, 0], after[:, 0]), np.maximum(corners[:, 0], after[:, 0])
    steep = high > low
    share = (inside - corners[steep, 0]) / (after[steep, 0] - corners[steep, 0])
    crossing = corners[steep, 1] + share * (after[steep, 1] - corners[steep, 1])
    met = (inside >= low[steep]) & (inside <= high[steep])
    left = np.where(met, crossing, np.inf).min(axis=1)
    right = np.where(met, crossing, -np.inf).max(axis=1)
    return int((np.floor(right + EDGE) - np.ceil(left - EDGE) + 1).sum())
