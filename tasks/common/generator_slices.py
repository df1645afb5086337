"""Say which slices teach a generator, with a mask or by their image alone.

The trainer, the gate's search for copies and the count of patients behind an exported generator
must agree on it. This module needs no torch.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.common.slice_set import mask_known

WITHOUT_OUTLINES = "slices_without_outlines"  # key of config.json and summary.json: their number


def teach_with_masks(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which slices (N,) of a partition are shown with their mask.

    They are those with a label. A tumour that nobody outlined is one of them only where no tumour
    is outlined: beside outlined ones its empty mask would be a lie.
    """
    labels = table["label"].to_numpy()
    known = mask_known(table)
    outlined, hidden = (labels == 1) & known, (labels == 1) & ~known
    shown: NDArray[np.bool_] = labels >= 0
    return shown & ~hidden if outlined.any() else shown


def teach_a_generator(table: pd.DataFrame, *, without_outlines: bool) -> NDArray[np.bool_]:
    """Return which training slices (N,) a generator saw, also by their image alone."""
    return np.ones(len(table), dtype=bool) if without_outlines else teach_with_masks(table)
