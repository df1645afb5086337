"""Which labels of a mask are tumour: the regions of the BraTS challenge, or a list of values."""

import numpy as np
from numpy.typing import NDArray

from tasks.ingest.refusal import RefusalError
from tasks.params.ingest import LabelRule

# 1 necrotic core, 2 oedema, 4 enhancing until 2020, 3 enhancing since 2023.
REGIONS: dict[str, set[int]] = {"core": {1, 3, 4}, "enhancing": {3, 4}}
KNOWN = {0, 1, 2, 3, 4}
MOST_LABELS = 16  # more values than these are greys


def merge_labels(data: NDArray[np.generic], rule: LabelRule | list[int]) -> NDArray[np.uint8]:
    """(I,J,K) labels to {0,1}.

    Raises:
        RefusalError: `labels-unknown` where a region is asked for and the labels are not BraTS's,
            or where values are no whole numbers, as in a map of probabilities.
    """
    if data.dtype.kind == "f" and np.any(np.asarray(data, np.float64) % 1):
        raise RefusalError("labels-unknown", "values that are no whole numbers")
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


def merge_greys(
    data: NDArray[np.generic], rule: LabelRule | list[int], *, lossy: bool
) -> NDArray[np.uint8]:
    """(I,J,K) of drawn masks to {0,1}: what JPEG or soft edges blurred is cut at half the maximum.

    Raises:
        RefusalError: as `merge_labels`; blurred labels cannot be told from each other.
    """
    if not lossy and len(np.unique(data)) <= MOST_LABELS:
        return merge_labels(data, rule)
    if rule != "whole":
        raise RefusalError("labels-unknown", "a picture of greys holds no labels")
    return np.asarray(data > data.max() / 2, np.uint8)
