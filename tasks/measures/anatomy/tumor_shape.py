"""Size, position, shape and contrast of the tumour that a mask marks in its slice."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tasks.measures.rank_auroc import auroc

Floats = NDArray[np.float64]

RING = 3  # pixels around the mask that it is compared with
COLUMNS = ("share", "row", "column", "inside", "contrast", "solidity", "eccentricity")
LEAST = 6  # pixels; smaller ones have no shape


def tumor_shapes(images: NDArray[np.float32], masks: NDArray[np.uint8], bodies: NDArray[np.bool_]
             ) -> Floats:  # fmt: skip
    """Compute seven figures (N,7) of each slice, named in `COLUMNS`; NaN where the mask is empty.

    `share` of the body's area; `row` and `column` of the centre as a share of the body's bounding
    box; `inside` share of the mask within the body; `contrast` the probability that a pixel of the
    mask is brighter than one of the ring around it (AUROC): .5 when the mask lies anywhere
    or has no ring;
    `solidity` and `eccentricity` of the largest piece, NaN where it has less than `LEAST` pixels.
    """
    grey = images.mean(axis=1)
    rows = np.full((len(masks), len(COLUMNS)), np.nan)
    for row, image, mask, body in zip(rows, grey, masks > 0, bodies, strict=True):
        if mask.any() and body.any():
            (top, bottom), (left, right) = body_extent(body)
            centre = ndimage.center_of_mass(mask)
            ring = ndimage.binary_dilation(mask, iterations=RING) & ~mask & body
            row[:] = (
                mask.sum() / body.sum(),
                (centre[0] - top) / max(bottom - top, 1),
                (centre[1] - left) / max(right - left, 1),
                (mask & body).sum() / mask.sum(),
                auroc(image[mask], image[ring]) if ring.any() else 0.5,
                *largest_piece_shape(mask),
            )
    return rows


def body_extent(body: NDArray[np.bool_]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return first and last row, first and last column of a body without its specks.

    Pieces of less than a tenth of the largest one are specks: a single bright pixel in the air
    must not change the tumour's relative position.
    """
    pieces, count = ndimage.label(body)
    if count > 1:
        areas = np.bincount(pieces.ravel())
        areas[0] = 0
        body = (areas * 10 >= areas.max())[pieces] & body
    rows, columns = np.flatnonzero(body.any(axis=1)), np.flatnonzero(body.any(axis=0))
    return (int(rows[0]), int(rows[-1])), (int(columns[0]), int(columns[-1]))


def largest_piece_shape(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Compute solidity (area over that of the convex hull) and eccentricity of the largest piece.

    Eccentricity is that of the ellipse with the same second moments: 0 a disc, near 1 a line.
    """
    from skimage.measure import label, regionprops

    largest = max(regionprops(label(mask)), key=lambda piece: piece.area)
    if largest.area < LEAST:
        return np.nan, np.nan
    return float(largest.solidity), float(largest.eccentricity)
