"""Which labels of a mask are tumour: the regions of the BraTS challenge, or a list of values."""

import numpy as np
from numpy.typing import NDArray

from tasks.ingest.refusal import RefusalError
from tasks.params.ingest import LabelRule

# 1 necrotic core, 2 oedema, 4 enhancing until 2020, 3 enhancing since 2023.
REGIONS: dict[str, set[int]] = {"core": {1, 3, 4}, "enhancing": {3, 4}}
KNOWN = {0, 1, 2, 3, 4}


def merge_labels(data: NDArray[np.generic], rule: LabelRule | list[int]) -> NDArray[np.uint8]:
    """(I,J,K) labels to {0,1}.

    Raises:
        RefusalError: `labels-unknown` where a region is asked for and the labels are not BraTS's.
    """
    if rule == "whole":
        return np.asarray(data != 0, np.uint8)
    if isinstance(rule, str):
        present = set(np.unique(data).tolist())
        if not present <= KNOWN:
            raise RefusalError("labels-unknown", f"{len(present - KNOWN)} labels are not BraTS's")
        values = REGIONS[rule]
    else:
        values = set(rule)
    merged: NDArray[np.uint8] = np.isin(data, list(values)).astype(np.uint8)
    return merged
