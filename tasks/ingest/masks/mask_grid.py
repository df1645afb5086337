"""Masks on the grid of an image: by affine where both know where they lie, else refused.

A mask saved as a bare array (`Nifti1Image(mask, np.eye(4))`, SimpleITK's `GetImageFromArray`) has
the order of its image's voxels and an affine that says nothing; laid by that affine it lies in air.
A picture turned by its EXIF tag may have been drawn on before or after the turn. In both cases the
image must settle it: the outline follows it clearly, and no mirror image of the outline does.
"""

import numpy as np
from nibabel.orientations import apply_orientation, io_orientation, ornt_transform
from numpy.typing import NDArray

from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.core.volume import Volume, resample_mask
from tasks.ingest.masks.plausibility import settles

RAS = np.array([[0, 1], [1, 1], [2, 1]])
SAME = 1e-3  # mm, of affines
LEAST_KEPT, FEWEST_VOXELS = 0.1, 50  # of a mask inside the image, and to speak of a share


def place_mask(mask: Volume, image: Volume) -> NDArray[np.uint8]:
    """The mask on the image's grid, (I,J,K) in {0,1}.

    Raises:
        RefusalError: `mask-grid` where nothing says how it lies, `mask-outside-image`.
    """
    if on_one_grid(mask, image) or not is_in_doubt(mask, image):
        placed = resample_mask(mask, image)
        check_kept(mask, image, placed)
        if mask.exif_turns == image.exif_turns or not placed.any() or settles(placed, image):
            return placed
        raise RejectionError("mask-grid", "mask or picture has an EXIF turn that the other lacks")
    if stored_shape(mask) != stored_shape(image):
        raise RejectionError(
            "mask-grid", "an affine that says nothing, and another size than the image"
        )
    placed = in_order_of(mask, image)
    if placed.any() and not settles(placed, image):
        raise RejectionError(
            "mask-grid", "an affine that says nothing, and an image that does not settle it"
        )
    return placed


def check_kept(mask: Volume, image: Volume, placed: NDArray[np.uint8]) -> None:
    """Refuse a mask of which hardly anything falls inside the image: they share no space."""
    drawn = int((mask.data != 0).sum())
    if drawn < FEWEST_VOXELS:
        return
    volumes = [
        count * abs(float(np.linalg.det(one.affine[:3, :3])))
        for count, one in ((drawn, mask), (int(placed.sum()), image))
    ]
    if volumes[1] < LEAST_KEPT * volumes[0]:
        share = volumes[1] / volumes[0]
        raise RejectionError(
            "mask-outside-image", f"{share:.1%} of the tumour falls inside the image"
        )


def on_one_grid(mask: Volume, image: Volume) -> bool:
    """Whether voxel for voxel lies on the same place."""
    return mask.data.shape == image.data.shape and np.allclose(mask.affine, image.affine, atol=SAME)


def is_in_doubt(mask: Volume, image: Volume) -> bool:
    """Whether the mask's affine says nothing, or the image's does on the same number of voxels."""
    if says_nothing(mask, image):
        return True
    return stored_shape(mask) == stored_shape(image) and says_nothing(image, mask)


def says_nothing(volume: Volume, other: Volume) -> bool:
    """Whether an affine is what programs write that know none: no turn, no origin, no size.

    A size that is the other's counts as none where the numbers of voxels agree too.
    """
    affine = volume.affine if volume.stored_affine is None else volume.stored_affine
    size = np.diag(affine)[:3]
    if not np.array_equal(affine[:3], np.diag([*size, 1.0])[:3]):
        return False
    if np.array_equal(np.abs(size), np.ones(3)):
        return True
    same_size = np.allclose(sorted(np.abs(size)), sorted(other.spacing_mm), atol=SAME)
    return same_size and stored_shape(volume) == stored_shape(other)


def orientation_of(volume: Volume) -> NDArray[np.float64]:
    """nibabel's orientation (3,2) of the array as it was stored."""
    stored = volume.affine if volume.stored_affine is None else volume.stored_affine
    return np.asarray(io_orientation(stored))


def stored_shape(volume: Volume) -> tuple[int, ...]:
    """The shape of the array as it was stored."""
    axes = orientation_of(volume)[:, 0].astype(int)
    return tuple(volume.data.shape[axis] for axis in axes)


def in_order_of(mask: Volume, image: Volume) -> NDArray[np.uint8]:
    """The mask (I,J,K) of the image, as if its file had had the image's affine."""
    stored = apply_orientation(mask.data, ornt_transform(RAS, orientation_of(mask)))
    placed = apply_orientation(stored, orientation_of(image))
    return np.ascontiguousarray(placed != 0).astype(np.uint8)
