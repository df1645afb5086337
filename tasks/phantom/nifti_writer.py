"""Write a patient as NIfTI in a BIDS tree, in one of the axis orders that sites use."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from tasks.phantom.simulator import SimulatedPatient

# Axis orders as converters and archives leave them. A mask may be stored in another order than
# its image: the same voxels in world space, so it stays exact, but only the affine says so.
AXIS_ORDERS = ("RAS", "LPS", "LAS", "LPS", "ASR", "PIR")


def image_path(root: Path, patient: SimulatedPatient) -> Path:
    """Return the path of the image in BIDS."""
    name = patient.participant_id
    return root / name / "anat" / f"{name}_FLAIR.nii.gz"


def mask_path(root: Path, patient: SimulatedPatient) -> Path:
    """Return the path of a manual mask in BIDS, below `derivatives/`."""
    name = patient.participant_id
    folder = root / "derivatives" / "masks" / name / "anat"
    return folder / f"{name}_label-tumor_mask.nii.gz"


def write_nifti(
    root: Path, patient: SimulatedPatient, rng: np.random.Generator, *, outlined: bool = True
) -> None:
    """Write the image (int16) and the mask (uint8, all zero where there is no tumour).

    Where nobody outlined the tumour there is no mask.
    """
    order = AXIS_ORDERS[rng.integers(len(AXIS_ORDERS))]
    mask_order = AXIS_ORDERS[rng.integers(len(AXIS_ORDERS))] if rng.random() < 0.33 else order
    volume = np.rint(patient.volume).astype(np.int16)
    save_nifti(image_path(root, patient), volume, patient.affine, order)
    if outlined:
        save_nifti(mask_path(root, patient), patient.mask, patient.affine, mask_order)


def save_nifti(
    path: Path,
    array: NDArray[np.int16] | NDArray[np.uint8],
    affine: NDArray[np.float64],
    order: str,
) -> None:
    """Write one NIfTI file in the given axis order, without a time in its gzip header."""
    image = nib.Nifti1Image(array, affine)
    target = nib.orientations.axcodes2ornt(order)
    image = image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(affine), target))
    image.header.set_xyzt_units("mm", "sec")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))
