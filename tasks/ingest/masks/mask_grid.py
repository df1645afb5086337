"""Bring a mask onto an image's grid: by affine if both affines are known, else by voxel order.

A mask saved as a bare array (`Nifti1Image(mask, np.eye(4))`, SimpleITK's `GetImageFromArray`) has
the order of its image's voxels and an affine that says nothing; placed by that affine it lies in
air. A 2D image turned by its EXIF tag may have been annotated before or after the turn. In both
cases the image must confirm the placement: the outline follows it clearly, and no mirror image of
the outline does. Otherwise the mask is rejected.
"""

import numpy as np
from nibabel.orientations import apply_orientation, io_orientation, ornt_transform
from numpy.typing import NDArray

from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.core.volume import Volume, resample_mask
from tasks.ingest.masks.plausibility import confirms_placement

RAS = np.array([[0, 1], [1, 1], [2, 1]])
SAME_AFFINE_MM = 1e-3
LEAST_INSIDE = 0.1  # share of a mask that must fall inside the image
FEWEST_VOXELS = 50  # of a mask, to compute that share


def place_mask(mask: Volume, image: Volume) -> NDArray[np.uint8]:
    """Bring a mask onto the image's grid, (I,J,K) in {0,1}.

    Raises:
        RejectionError: `mask-grid` if nothing says how it lies, or `mask-outside-image`.
    """
    if same_grid(mask, image) or not is_placement_uncertain(mask, image):
        placed = resample_mask(mask, image)
        check_share_inside(mask, image, placed)
        if (
            mask.exif_turns == image.exif_turns
            or not placed.any()
            or confirms_placement(placed, image)
        ):
            return placed
        raise RejectionError("mask-grid", "mask or picture has an EXIF turn that the other lacks")
    if stored_shape(mask) != stored_shape(image):
        raise RejectionError(
            "mask-grid", "an affine that says nothing, and another size than the image"
        )
    placed = copy_voxel_order(mask, image)
    if placed.any() and not confirms_placement(placed, image):
        raise RejectionError(
            "mask-grid", "an affine that says nothing, and an image that does not settle it"
        )
    return placed


def check_share_inside(mask: Volume, image: Volume, placed: NDArray[np.uint8]) -> None:
    """Reject a mask of which hardly anything falls inside the image: they do not share a space."""
    voxel_count = int((mask.data != 0).sum())
    if voxel_count < FEWEST_VOXELS:
        return
    volumes = [
        count * abs(float(np.linalg.det(volume.affine[:3, :3])))
        for count, volume in ((voxel_count, mask), (int(placed.sum()), image))
    ]
    if volumes[1] < LEAST_INSIDE * volumes[0]:
        share = volumes[1] / volumes[0]
        raise RejectionError(
            "mask-outside-image", f"{share:.1%} of the tumour falls inside the image"
        )


def same_grid(mask: Volume, image: Volume) -> bool:
    """Check whether shape and affine of mask and image are equal."""
    return mask.data.shape == image.data.shape and np.allclose(
        mask.affine, image.affine, atol=SAME_AFFINE_MM
    )


def is_placement_uncertain(mask: Volume, image: Volume) -> bool:
    """Check whether the mask's affine says nothing, or the image's on the same number of voxels."""
    if is_default_affine(mask, image):
        return True
    return stored_shape(mask) == stored_shape(image) and is_default_affine(image, mask)


def is_default_affine(volume: Volume, other: Volume) -> bool:
    """Check whether an affine is one that programs write by default: no turn, no origin, no size.

    A size that is the other volume's counts as none if the numbers of voxels agree too.
    """
    affine = volume.affine if volume.stored_affine is None else volume.stored_affine
    size = np.diag(affine)[:3]
    if not np.array_equal(affine[:3], np.diag([*size, 1.0])[:3]):
        return False
    if np.array_equal(np.abs(size), np.ones(3)):
        return True
    same_size = np.allclose(sorted(np.abs(size)), sorted(other.spacing_mm), atol=SAME_AFFINE_MM)
    return same_size and stored_shape(volume) == stored_shape(other)


def stored_orientation(volume: Volume) -> NDArray[np.float64]:
    """Return nibabel's orientation (3,2) of the array as it was stored."""
    stored = volume.affine if volume.stored_affine is None else volume.stored_affine
    return np.asarray(io_orientation(stored))


def stored_shape(volume: Volume) -> tuple[int, ...]:
    """Return the shape of the array as it was stored."""
    axes = stored_orientation(volume)[:, 0].astype(int)
    return tuple(volume.data.shape[axis] for axis in axes)


def copy_voxel_order(mask: Volume, image: Volume) -> NDArray[np.uint8]:
    """Return the mask (I,J,K) as if its file had had the image's affine."""
    stored = apply_orientation(mask.data, ornt_transform(RAS, stored_orientation(mask)))
    placed = apply_orientation(stored, stored_orientation(image))
    return np.ascontiguousarray(placed != 0).astype(np.uint8)
