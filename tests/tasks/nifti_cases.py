"""Write small NIfTI files of known content, for the tests of ingest."""

from pathlib import Path

import nibabel as nib
import numpy as np

from tests.tasks.dicom_cases import anatomy, rotation
from tests.tasks.ingest_fixtures import IngestWorkspace

LGG = Path(__file__).parents[2] / "../shared/data/lgg"


def write_nifti(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-0.9, -0.9, 5.5, 1.0]) if affine is None else affine
    nib.save(nib.Nifti1Image(data, affine), path)
    return affine


def oblique(seed: int) -> np.ndarray:
    affine = np.eye(4)
    rng = np.random.default_rng(seed)
    affine[:3, :3] = rotation(rng) @ np.diag([0.9, 1.1, 4.0])
    affine[:3, 3] = rng.uniform(-80, 80, 3)
    return affine


def ball(shape: tuple[int, int, int], centre: tuple[float, float, float]) -> np.ndarray:
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    return (np.linalg.norm(grid - np.array(centre), axis=-1) < 3).astype(np.uint8)


def one_patient(workspace: IngestWorkspace, mask: np.ndarray | None = None) -> np.ndarray:
    data = anatomy((8, 9, 10)).astype(np.int16)
    write_nifti(workspace.raw / "sub-01/anat/sub-01_FLAIR.nii.gz", data)
    if mask is not None:
        write_nifti(
            workspace.raw / "derivatives/masks/sub-01/anat/sub-01_label-tumor_mask.nii.gz", mask
        )
    return data
