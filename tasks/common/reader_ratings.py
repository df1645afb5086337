"""Join readers' scores with the slices that they saw.

An answer belongs to a slice by the hash of its pixels, so it is never taken for another slice's.
"""

import hashlib

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.common.stored_values import to_stored_values
from tasks.schemas.review import CRITERIA, FoldReview


def slice_sha256(image: NDArray[np.floating], mask: NDArray[np.uint8]) -> str:
    """Return the SHA-256 of a slice (C,H,W) in [-1, 1] and its mask (H,W), as readers see them."""
    digest = hashlib.sha256(str(image.shape).encode())
    digest.update(to_stored_values(image).astype("<u2").tobytes())
    digest.update((mask > 0).astype(np.uint8).tobytes())
    return digest.hexdigest()


def mean_scores(study: FoldReview) -> pd.DataFrame:
    """Return the mean score of each synthetic slice over its readers.

    Returns:
        A row a slice, indexed by its hash, and a column a criterion; NaN where nobody rated it.
    """
    answers = [
        {"slice_sha256": rating.slice_sha256, **rating.scores}
        for rating in study.ratings
        if rating.origin == "synthetic"
    ]
    table = pd.DataFrame(answers, columns=["slice_sha256", *CRITERIA])
    means: pd.DataFrame = table.groupby("slice_sha256").mean()
    return means
