"""Hold a volume with its affine; reorient it, resample masks onto it and write it as NIfTI."""

from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from isal import isal_zlib
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from numpy.typing import NDArray

from tasks.ingest.core.rejection import RejectionError

NO_EXTENSIONS = b"\0\0\0\0"
GZIP = 31  # window bits that ask for a gzip container; its mtime stays 0


@dataclass(frozen=True)
class Volume:
    """`data` (I,J,K); `affine` (4,4) maps (i,j,k,1) to RAS+ millimetres.

    `stored_affine` is the affine of the array as the file stores it, where axes were flipped or
    swapped since. `exif_turns` are the EXIF orientations by which 2D images were turned.
    `synthetic` is whether the file itself marks it as synthetic.
    """

    data: NDArray[np.generic]
    affine: NDArray[np.float64]
    stored_affine: NDArray[np.float64] | None = None
    exif_turns: frozenset[int] = frozenset()
    synthetic: bool = False

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centres along i, j, k, in mm."""
        x, y, z = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))
        return float(x), float(y), float(z)


def to_ras(volume: Volume) -> Volume:
    """Flip and swap axes so that i, j, k run most nearly to right, anterior, superior."""
    orientation = io_orientation(volume.affine)
    data = apply_orientation(volume.data, orientation)
    affine = volume.affine @ inv_ornt_aff(orientation, volume.data.shape)
    return replace(volume, data=data, affine=affine, stored_affine=volume.affine)


def to_smallest_dtype(data: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return the same values as int16 where they fit, else as float32.

    Raises:
        RejectionError: values are not finite.
    """
    if data.dtype.kind in "biu":
        low, high = int(data.min()), int(data.max())
        if low < -(2**15) or high >= 2**15:
            return data.astype(np.float32)
        return data.view(np.int16) if data.dtype == np.uint16 else data.astype(np.int16, copy=False)
    if not np.isfinite(data).all():
        bad = int(data.size - np.isfinite(data).sum())
        raise RejectionError("nan-pixels", f"{bad} of {data.size} voxels are not finite")
    return data.astype(np.float32, copy=False)


def resample_mask(mask: Volume, image: Volume) -> NDArray[np.uint8]:
    """Resample a mask onto the image's grid: nearest voxel by affine, 0 outside the mask's grid.

    Returns:
        (I,J,K) of the image, in {0,1}.

    Raises:
        RejectionError: the mask has tumour, but no voxel of it lies inside the image.
    """
    if mask.data.shape == image.data.shape and np.allclose(mask.affine, image.affine, atol=1e-3):
        return np.asarray(mask.data != 0, np.uint8)
    to_mask = np.linalg.inv(mask.affine) @ image.affine
    matrix, offset = to_mask[:3, :3], to_mask[:3, 3]
    size = image.data.shape
    i, j = np.meshgrid(np.arange(size[0]), np.arange(size[1]), indexing="ij")
    in_plane = matrix[:, :2] @ np.stack([i, j]).reshape(2, -1) + offset[:, None]  # (3, I*J)
    limits = np.array(mask.data.shape)[:, None]
    result = np.zeros(size, np.uint8)
    for k in range(size[2]):  # one slice at a time bounds the memory
        shift = (matrix[:, 2] * k)[:, None]
        nearest = np.floor(in_plane + shift + 0.5 + 1e-6).astype(np.intp)  # (3, I*J)
        inside = ((nearest >= 0) & (nearest < limits)).all(axis=0)
        a, b, c = nearest[:, inside]
        plane = np.zeros(size[0] * size[1], np.uint8)
        plane[inside] = mask.data[a, b, c] != 0
        result[:, :, k] = plane.reshape(size[:2])
    if mask.data.any() and not result.any():
        raise RejectionError("mask-outside-image", "no voxel of the tumour falls inside the image")
    return result


def write_nifti(path: Path, volume: Volume) -> None:
    """Write NIfTI-1, gzipped by ISA-L at level 1: four times faster than zlib's, same size.

    The bytes equal those of nibabel's `to_bytes`, but the voxels are copied once only.
    """
    image = nib.Nifti1Image(volume.data, volume.affine)
    image.set_qform(volume.affine, code=1)
    image.set_sform(volume.affine, code=1)
    image.header.set_xyzt_units("mm")
    header = image.header.copy()
    header.set_slope_inter(1, 0)
    header.set_data_offset(header.sizeof_hdr + len(NO_EXTENSIONS))
    start = header.binaryblock + NO_EXTENSIONS
    content = np.empty(len(start) + volume.data.nbytes, np.uint8)
    content[: len(start)] = np.frombuffer(start, np.uint8)
    voxels = content[len(start) :].view(volume.data.dtype)
    voxels.reshape(volume.data.shape, order="F")[...] = volume.data
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(isal_zlib.compress(content, 1, GZIP))
