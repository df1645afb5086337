"""Write slices and masks as NIfTI in a BIDS tree, marked in every header."""

import json
from pathlib import Path
from typing import Any, Final

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from tasks.common.bids_suffixes import BIDS_SUFFIX
from tasks.common.stored_values import to_stored_values

MASK_SUFFIX: Final = "label-tumor_mask"
BIDS_VERSION: Final = "1.10.0"


def nifti_image(
    plane: NDArray[np.integer],
    *,
    pixel_mm: float,
    mark: str,
    synthetic: bool = True,
    slice_mm: float | None = None,
) -> Any:
    """Make one slice a NIfTI image of shape (W,H,1).

    Args:
        plane: (H,W), rows anterior to posterior, columns patient right to left.
        pixel_mm: of the square pixels.
        mark: at most 79 characters for the header's `descrip`.
        synthetic: whether the header's `intent_name` says SYNTHETIC as well.
        slice_mm: nominal thickness; a slice has no true one and is given `pixel_mm`.

    The origin is the middle of the slice: a synthetic slice has no position in a scanner.
    """
    H, W = plane.shape
    affine = np.diag([-pixel_mm, -pixel_mm, slice_mm or pixel_mm, 1.0])  # RAS: x falls to the left
    affine[:2, 3] = (W - 1) / 2 * pixel_mm, (H - 1) / 2 * pixel_mm
    image = nib.Nifti1Image(np.ascontiguousarray(plane.T[:, :, None]), affine)  # (H,W) to (W,H,1)
    image.header["descrip"] = mark.encode()
    image.header["intent_name"] = b"SYNTHETIC" if synthetic else b""
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code="aligned")
    image.set_qform(affine, code="aligned")
    return image


def write_nifti(
    anat: Path,
    name: str,
    image: NDArray[np.floating],
    mask: NDArray[np.uint8] | None,
    *,
    modalities: list[str],
    pixel_mm: float,
    mark: str,
    synthetic: bool = True,
) -> None:
    """Write one slice (C,H,W) in [-1, 1] and its mask (H,W), if any, as files of `anat`."""
    planes: dict[str, NDArray[Any]] = {
        BIDS_SUFFIX[modality]: to_stored_values(plane)
        for plane, modality in zip(image, modalities, strict=True)
    }
    if mask is not None:
        planes[MASK_SUFFIX] = mask
    for suffix, plane in planes.items():
        nifti = nifti_image(plane, pixel_mm=pixel_mm, mark=mark, synthetic=synthetic)
        nifti.to_filename(anat / file_name(name, suffix))


def file_name(name: str, suffix: str) -> str:
    """Return the name of a slice's file; of its entities `ce` goes before `chunk`, as BIDS asks."""
    stem, chunk, number = name.partition("_chunk-")
    entity, _, kind = suffix.rpartition("_")
    if chunk and entity.startswith("ce-"):
        return f"{stem}_{entity}{chunk}{number}_{kind}.nii.gz"
    return f"{name}_{suffix}.nii.gz"


def suffixes(modalities: list[str]) -> list[str]:
    """Return the endings of the images' names, in the order of the channels."""
    return [BIDS_SUFFIX[modality] for modality in modalities]


def write_bids_root(
    folder: Path,
    *,
    modalities: list[str],
    version: str,
    license_words: str,
    digest: str,
    skull_stripped: bool | None,
    synthetic_only: bool = True,
) -> None:
    """Write the files at the root of the tree; each JSON file holds for all images of one suffix.

    T1 and T1c share the suffix `T1w` and therefore one file: BIDS does not allow two files at one
    level that fit an image. `other` is no suffix of BIDS, so its files are listed in `.bidsignore`.
    `skull_stripped` describes the generator's training slices; None: unknown. Where the tree holds
    patients' slices as well (not `synthetic_only`), each subject has sidecars of its own that tell
    which they are.
    """
    described = describe_images(modalities, synthetic=True)
    by_suffix = {suffix: text for suffix, text in described.items() if suffix != MASK_SUFFIX}
    unknown = "" if skull_stripped is not None else "; not known whether without skull"
    trees: dict[str, dict[str, Any]] = {
        "dataset_description": dataset_description(
            version=version, license_words=license_words, digest=digest,
            synthetic_only=synthetic_only,
        ),
        MASK_SUFFIX: {"Type": "Lesion"},
    } | {
        # BIDS requires this key of derivatives and has no value for unknown.
        suffix: {"SkullStripped": bool(skull_stripped)} for suffix in by_suffix
    }  # fmt: skip
    for suffix, description in described.items():
        if synthetic_only:
            note = "" if suffix == MASK_SUFFIX else unknown
            trees[suffix] = bids_sidecar(description + note) | trees[suffix]
    for name, tree in trees.items():
        (folder / f"{name}.json").write_text(json.dumps(tree, indent=2, ensure_ascii=False) + "\n")
    if "other" in by_suffix:
        (folder / ".bidsignore").write_text("*_other.nii.gz\n*other.json\n")


def write_subject_sidecars(
    folder: Path, stem: str, *, modalities: list[str], synthetic: bool
) -> None:
    """Write the sidecars of one subject's slices in its folder: whether they are synthetic."""
    for suffix, description in describe_images(modalities, synthetic=synthetic).items():
        tree = bids_sidecar(description, synthetic=synthetic)
        (folder / f"{stem}_{suffix}.json").write_text(json.dumps(tree, indent=2) + "\n")


def describe_images(modalities: list[str], *, synthetic: bool) -> dict[str, str]:
    """Describe the images of each suffix, and the masks, in words."""
    by_suffix: dict[str, list[str]] = {}
    for modality in modalities:
        by_suffix.setdefault(BIDS_SUFFIX[modality].rpartition("_")[2], []).append(modality)
    if not synthetic:
        words = "slice of a patient, resampled; pseudonymised, not anonymous"
        return {MASK_SUFFIX: "Tumour mask of a patient's slice"} | {
            suffix: f"{' or '.join(members)} {words}" for suffix, members in by_suffix.items()
        }
    return {MASK_SUFFIX: "SYNTHETIC tumour mask"} | {
        suffix: f"SYNTHETIC {' or '.join(members)}-like slice; not of any person"
        for suffix, members in by_suffix.items()
    }


def dataset_description(
    *, version: str, license_words: str, digest: str, synthetic_only: bool
) -> dict[str, Any]:
    """Make BIDS `dataset_description.json`."""
    what = "Slices and tumour masks drawn by a generator; not of any person."
    if not synthetic_only:
        what = (
            "Slices and tumour masks of patients (pseudonymised, not anonymous), and others drawn"
            " by a generator: the column origin of participants.tsv tells which."
        )
    return {
        "Name": "auglift synthetic slices" if synthetic_only else "auglift augmented data set",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "License": license_words,
        "GeneratedBy": [{"Name": "auglift", "Description": what}],
        "DatasetVersion": version,
        "SyntheticData": True if synthetic_only else "partly",
        "CandidateDigest": digest,
    }


def bids_sidecar(description: str, *, synthetic: bool = True) -> dict[str, Any]:
    """Make the JSON that BIDS applies to every image of one kind, by its inheritance principle."""
    return {
        "SyntheticData": synthetic,
        "ImageType": ["DERIVED", "SECONDARY"],
        "Description": description,
    }
