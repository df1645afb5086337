"""Write a release as a raw data set of nnU-Net v2.

Rules: documentation/dataset_format.md and verify_dataset_integrity of nnunetv2 2.x: a folder
`DatasetNNN_NAME` with `dataset.json`, `imagesTr/CASE_0000.nii.gz` (one file a channel) and
`labelsTr/CASE.nii.gz`, one geometry within a case, labels 0, 1, ... A case is a slice; 999 mm from
slice to slice is nnU-Net's own convention for 2D images, so only its `2d` configuration is planned.
"""

import json
from pathlib import Path
from typing import Any, Final

import nibabel as nib
import numpy as np

from tasks.commands.export_dataset.folds import folds_by_patient
from tasks.commands.export_dataset.release_folder import ReleaseFolder, Slice

SLICE_MM: Final = 999.0

README: Final = """# nnU-Net data set

{marked} A case is one slice. Put this folder below `$nnUNet_raw` under a
name such as `Dataset501_Auglift`, then

    nnUNetv2_plan_and_preprocess -d 501 -c 2d --verify_dataset_integrity
    nnUNetv2_train 501 2d {fold}

{splits}
{left_out}Slices are resampled to {pixel_mm} mm, integers 0 to 4095; nnU-Net normalises each itself.
"""


def write_nnunet(release: ReleaseFolder, out: Path) -> str:
    """Write the data set; return how many cases it has, in words."""
    for name in ("imagesTr", "labelsTr"):
        (out / name).mkdir()
    cases = release.outlined
    for case in cases:
        write_case(out, case)
    dataset = {
        "channel_names": dict(zip(map(str, range(99)), release.modalities, strict=False)),
        "labels": {"background": 0, "tumour": 1},
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
        "name": "auglift",
        "description": release.description,
        "licence": release.license_words,
        "release": release.summary["version"],
    }
    write_json(out / "dataset.json", dataset)
    splits = fold_splits(cases)
    if splits:
        write_json(out / "splits_final.json", splits)
    left_out = len(release.slices) - len(cases)
    (out / "README.md").write_text(
        README.format(
            marked=release.description,
            fold="0" if splits else "all",
            splits=describe_splits(len(splits)),
            left_out=f"{left_out} slices without an outline are left out.\n" if left_out else "",
            pixel_mm=release.pixel_mm,
        )
    )
    return f"{len(cases)} cases" + (f", {left_out} without an outline left out" * bool(left_out))


def write_case(out: Path, case: Slice) -> None:
    """Write a slice's channels and its mask, 999 mm thick, with the marks in their headers."""
    assert case.mask is not None
    for channel, image in enumerate(case.images):
        write_thick(image, out / "imagesTr" / f"{case.name}_{channel:04d}.nii.gz")
    write_thick(case.mask, out / "labelsTr" / f"{case.name}.nii.gz")


def write_thick(source: Path, target: Path) -> None:
    """Copy a slice with another nominal thickness."""
    image: Any = nib.load(source)
    affine = image.affine.copy()
    affine[:3, 2] *= SLICE_MM / np.linalg.norm(affine[:3, 2])
    copy: Any = nib.Nifti1Image(np.asarray(image.dataobj), affine, image.header)
    copy.set_sform(affine, code="aligned")
    copy.set_qform(affine, code="aligned")
    copy.to_filename(target)


def fold_splits(cases: list[Slice]) -> list[dict[str, list[str]]]:
    """Split the cases for nnU-Net's cross-validation, which by itself would split patients.

    Synthetic slices train in every fold and validate in none. Without patients there is nothing to
    validate on, and no split.
    """
    synthetic = [case.name for case in cases if case.synthetic]
    real = [case for case in cases if not case.synthetic]
    fold_of = folds_by_patient([case.subject for case in real])
    return [
        {
            "train": synthetic + [case.name for case in real if fold_of[case.subject] != fold],
            "val": [case.name for case in real if fold_of[case.subject] == fold],
        }
        for fold in sorted(set(fold_of.values()))
    ]


def describe_splits(folds: int) -> str:
    """Say in the README how nnU-Net's folds are made up."""
    if not folds:
        return (
            "There is no `splits_final.json`: synthetic cases must never validate. Train with all"
            " of\nthem (`all`), or add patients and list the synthetic cases under `train` only."
        )
    return (
        f"`splits_final.json` (nnU-Net copies it while planning) has {folds} folds by patient;"
        " synthetic\ncases train in each and validate in none. The generator learnt from the same"
        " patients, so what\na fold validates is a little too good: evaluate on patients who are"
        " not in this data set."
    )


def write_json(path: Path, tree: Any) -> None:
    """Write JSON for people and machines."""
    path.write_text(json.dumps(tree, indent=2, ensure_ascii=False) + "\n")
