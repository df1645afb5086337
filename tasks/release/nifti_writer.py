"""Write slices and masks as NIfTI in a BIDS tree, marked in every header."""

import json
from pathlib import Path
from typing import Any, Final

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from tasks.common.bids_suffixes import BIDS_SUFFIX

MAX_STORED_VALUE: Final = (
    4095  # 12 bits, as scanners store: the same integers in NIfTI and in DICOM
)
MASK_SUFFIX: Final = "label-tumor_mask"
BIDS_VERSION: Final = "1.10.0"


def to_stored_values(image: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Convert [-1, 1] to the stored integers 0 to 4095; air is 0."""
    unit = (image.astype(np.float32).clip(-1, 1) + 1) / 2
    return np.asarray(np.rint(unit * MAX_STORED_VALUE), dtype=np.uint16)


def nifti_image(plane: NDArray[np.integer], *, pixel_mm: float, mark: str) -> Any:
    """Make one slice a NIfTI image of shape (W,H,1).

    Args:
        plane: (H,W), rows anterior to posterior, columns patient right to left.
        pixel_mm: of the square pixels; the slice has no true thickness and is given the same.
        mark: at most 79 characters for the header's `descrip`.

    The origin is the middle of the slice: a synthetic slice has no position in a scanner.
    """
    H, W = plane.shape
    affine = np.diag([-pixel_mm, -pixel_mm, pixel_mm, 1.0])  # RAS: x falls to the left
    affine[:2, 3] = (W - 1) / 2 * pixel_mm, (H - 1) / 2 * pixel_mm
    image = nib.Nifti1Image(np.ascontiguousarray(plane.T[:, :, None]), affine)  # (H,W) to (W,H,1)
    image.header["descrip"] = mark.encode()
    image.header["intent_name"] = b"SYNTHETIC"
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code="aligned")
    image.set_qform(affine, code="aligned")
    return image


def write_nifti(
    anat: Path,
    name: str,
    image: NDArray[np.floating],
    mask: NDArray[np.uint8],
    *,
    modalities: list[str],
    pixel_mm: float,
    mark: str,
) -> None:
    """Write one slice (C,H,W) in [-1, 1] and its mask (H,W) as files of the folder `anat`."""
    for plane, modality in zip(image, modalities, strict=True):
        nifti = nifti_image(to_stored_values(plane), pixel_mm=pixel_mm, mark=mark)
        nifti.to_filename(anat / f"{name}_{BIDS_SUFFIX[modality]}.nii.gz")
    nifti_image(mask, pixel_mm=pixel_mm, mark=mark).to_filename(
        anat / f"{name}_{MASK_SUFFIX}.nii.gz"
    )


def write_bids_root(
    folder: Path,
    *,
    modalities: list[str],
    version: str,
    license_words: str,
    digest: str,
    skull_stripped: bool | None,
) -> None:
    """Write the files at the root of the tree; each JSON file holds for all images of one suffix.

    T1 and T1c share the suffix `T1w` and therefore one file: BIDS does not allow two files at one
    level that fit an image. `other` is no suffix of BIDS, so its files are listed in `.bidsignore`.
    `skull_stripped` describes the generator's training slices; None: unknown.
    """
    by_suffix: dict[str, list[str]] = {}
    for modality in modalities:
        by_suffix.setdefault(BIDS_SUFFIX[modality].rpartition("_")[2], []).append(modality)
    trees = {
        "dataset_description": dataset_description(
            version=version, license_words=license_words, digest=digest
        ),
        MASK_SUFFIX: {**bids_sidecar("SYNTHETIC tumour mask"), "Type": "Lesion"},
    }
    for suffix, members in by_suffix.items():
        description = f"SYNTHETIC {' or '.join(members)}-like slice; not of any person"
        unknown = "" if skull_stripped is not None else "; not known whether without skull"
        # BIDS requires this key of derivatives and has no value for unknown.
        stripped = {"SkullStripped": bool(skull_stripped)}
        trees[suffix] = bids_sidecar(description + unknown) | stripped
    for name, tree in trees.items():
        (folder / f"{name}.json").write_text(json.dumps(tree, indent=2, ensure_ascii=False) + "\n")
    if "other" in by_suffix:
        (folder / ".bidsignore").write_text("*_other.nii.gz\nother.json\n")


def dataset_description(*, version: str, license_words: str, digest: str) -> dict[str, Any]:
    """Make BIDS `dataset_description.json`."""
    return {
        "Name": "auglift synthetic slices",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "License": license_words,
        "GeneratedBy": [
            {
                "Name": "auglift",
                "Description": "Slices and tumour masks drawn by a generator; not of any person.",
            }
        ],
        "DatasetVersion": version,
        "SyntheticData": True,
        "CandidateDigest": digest,
    }


def bids_sidecar(description: str) -> dict[str, Any]:
    """Make the JSON that BIDS applies to every image of one kind, by its inheritance principle."""
    return {
        "SyntheticData": True,
        "ImageType": ["DERIVED", "SECONDARY"],
        "Description": description,
    }
