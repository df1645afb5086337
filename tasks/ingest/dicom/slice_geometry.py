"""Compute the affine of a stack from the positions of its slices, or reject the stack.

DICOM PS3.3 C.7.6.2.1.1 gives the mapping of a slice's pixels to LPS+ millimetres; C.7.6.16.2.3
the order of slices. Everything is checked: an affine is exact, or the stack is rejected.
"""

import numpy as np
from numpy.typing import NDArray

from tasks.ingest.core.rejection import RejectionError

SAME_POSITION_MM = 1e-3
SAME_COSINES = 1e-3
SAME_SPACING_MM = 1e-3
MOST_JITTER_MM = 0.02  # between positions that count as one plane
SHEAR_DEGREES = 0.2
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def slice_normal(orientation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the unit normal of a slice from its six direction cosines.

    Raises:
        RejectionError: `geometry` for cosines that are not two perpendicular unit vectors.
    """
    row, column = orientation[:3], orientation[3:]
    lengths = np.linalg.norm([row, column], axis=1)
    if np.abs(lengths - 1).max() > 1e-2 or abs(row @ column) > 1e-2:
        raise RejectionError("geometry", "the direction cosines are no perpendicular unit vectors")
    normal = np.cross(row, column)
    return np.asarray(normal / np.linalg.norm(normal))


def order_along_normal(
    positions: NDArray[np.float64], normal: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Return indices that sort (N,3) positions along the normal; instance numbers are not used."""
    return np.argsort(positions @ normal, kind="stable")


def share_position(positions: NDArray[np.float64], normal: NDArray[np.float64]) -> bool:
    """Check whether two of the (N,3) positions share a plane."""
    along = np.sort(positions @ normal)
    return bool((np.diff(along) < SAME_POSITION_MM).any())


def checked_slice_step(
    positions: NDArray[np.float64], normal: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Compute the vector between slices of (N,3) sorted positions; it is even and perpendicular.

    Raises:
        RejectionError: `missing-slice`, `uneven-spacing` or `sheared-stack`.
    """
    along = positions @ normal
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    tolerance = max(0.02 * usual, 0.01)
    if np.abs(gaps - usual).max() > 2 * tolerance:
        multiples = gaps / usual
        if np.abs(multiples - np.round(multiples)).max() < 0.05 and multiples.min() > 0.9:
            missing = int(np.round(multiples).sum()) - len(gaps)
            raise RejectionError(
                "missing-slice",
                f"{missing} of {len(along) + missing} slices are missing at {usual:.2f} mm",
            )
        raise RejectionError(
            "uneven-spacing", f"gaps run from {gaps.min():.2f} to {gaps.max():.2f} mm"
        )
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    angle = np.degrees(np.arccos(np.clip(step @ normal / np.linalg.norm(step), -1, 1)))
    if angle > SHEAR_DEGREES:
        raise RejectionError(
            "sheared-stack", f"slices drift by {angle:.1f} degrees from their normal"
        )
    expected = positions[0] + np.arange(len(positions))[:, None] * step
    off = float(np.linalg.norm(positions - expected, axis=1).max())
    if off > 2 * tolerance:
        raise RejectionError("uneven-spacing", f"a slice lies {off:.2f} mm off the stack's line")
    return np.asarray(step)


def stack_affine(
    orientation: NDArray[np.float64],
    pixel_spacing: NDArray[np.float64],
    origin: NDArray[np.float64],
    step: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Compute the affine (4,4) from (column, row, slice) to RAS+ mm.

    `orientation` (6,), `pixel_spacing` (between rows, between columns), `origin` (3,) the centre
    of the first slice's first pixel, `step` (3,) to the next slice, all LPS+.
    """
    affine = np.eye(4)
    affine[:3, 0] = orientation[:3] * pixel_spacing[1]
    affine[:3, 1] = orientation[3:] * pixel_spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = origin
    return LPS_TO_RAS @ affine


def sparse_stack(
    positions: NDArray[np.float64], normal: NDArray[np.float64], slice_spacing: float | None
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Return the slice index of each of (N,3) positions, the first slice's origin and the step.

    Positions may repeat, and planes without content may be missing, as in segmentations.
    `slice_spacing` in mm, if known, must divide all gaps; else the largest distance that does is
    taken.

    Raises:
        RejectionError: `uneven-spacing` or `sheared-stack`, or `geometry` for one plane of unknown
            thickness.
    """
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    new = np.diff(along[order]) > MOST_JITTER_MM
    planes = positions[order[np.concatenate([[True], new])]]  # (P,3)
    if len(planes) == 1:
        if not slice_spacing:
            raise RejectionError("geometry", "one plane, and nothing says how thick it is")
        return np.zeros(len(positions), np.intp), planes[0], normal * slice_spacing
    gaps = np.diff(planes @ normal)
    candidates = [slice_spacing or 0.0, *(float(gaps.min()) / part for part in range(1, 5))]
    for step in candidates:
        if step < MOST_JITTER_MM:
            continue
        multiples = gaps / step
        if np.abs(multiples - np.round(multiples)).max() < 0.1:
            break
    else:
        reason = f"gaps of the planes run from {gaps.min():.2f} to {gaps.max():.2f} mm"
        raise RejectionError("uneven-spacing", reason)
    numbers = np.concatenate([[0], np.round(multiples)]).cumsum().astype(np.intp)
    vector = (planes[-1] - planes[0]) / numbers[-1]
    angle = np.degrees(np.arccos(np.clip(vector @ normal / np.linalg.norm(vector), -1, 1)))
    if angle > SHEAR_DEGREES:
        raise RejectionError(
            "sheared-stack", f"planes drift by {angle:.1f} degrees from their normal"
        )
    slices = np.round((along - planes[0] @ normal) / (vector @ normal)).astype(np.intp)
    off = np.linalg.norm(positions - planes[0] - slices[:, None] * vector, axis=1).max()
    if off > max(0.1 * np.linalg.norm(vector), 2 * MOST_JITTER_MM):
        raise RejectionError("uneven-spacing", f"a plane lies {off:.2f} mm off the stack's line")
    return slices, planes[0], vector
