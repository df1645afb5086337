"""Find painted tumours that copy one of the tumours the painter learnt from.

The tumour's pixels are compared, not the slice: the head around it is a real one, on purpose. Two
patients' tumours are alike to a degree; what is more alike than any two of different patients is a
copy.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.common.slice_set import SliceSet
from tasks.measures.similarity.tumor_patch_search import nearest_patch

QUANTILE = 0.9975  # of the likeness of different patients' tumours
LEAST_PATIENTS = 2
MAX_SHIFT = 2  # pixels


@dataclass(frozen=True)
class TumorCopies:
    """The likeness of N painted tumours to those of the training slices.

    `likeness` (N,) normalised cross-correlation, NaN where a tumour is too small to compare;
    `rows` (N,) positions of the most similar ones, -1 where there is none; `limit`: above it a
    tumour is a copy; NaN with tumours of one patient.
    """

    likeness: NDArray[np.float32]
    rows: NDArray[np.intp]
    limit: float

    @property
    def copied(self) -> NDArray[np.bool_]:
        """Which of the tumours are copies (N,)."""
        copied: NDArray[np.bool_] = self.likeness > self.limit  # NaN is no copy
        return copied


def find_tumor_copies(painted: SliceSet, tumors: SliceSet, *, workers: int) -> TumorCopies:
    """Compare painted tumours with those of the slices that the painter was trained on.

    Args:
        painted: slices with the painted tumours' masks.
        tumors: slices with tumours; `subject`.
        workers: threads.
    """
    nearest = nearest_patch(
        painted.images, painted.masks, tumors.images, tumors.masks,
        max_shift=MAX_SHIFT, workers=workers,
    )  # fmt: skip
    patients = np.unique(tumors.table["subject"].to_numpy(dtype=str), return_inverse=True)[1]
    limit = float("nan")
    if len(set(patients.tolist())) >= LEAST_PATIENTS:
        between = nearest_patch(
            tumors.images, tumors.masks, tumors.images, tumors.masks,
            max_shift=MAX_SHIFT, owners=(patients, patients), workers=workers,
        ).scores  # fmt: skip
        if np.isfinite(between).any():
            limit = float(np.nanquantile(between, QUANTILE))
    return TumorCopies(nearest.scores, nearest.rows, limit)
