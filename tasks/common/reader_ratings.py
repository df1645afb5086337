"""Apply what readers answered to the slices that they saw: ratings and flags of each slice.

An answer belongs to a slice by the hash of its pixels, so it is never taken for another slice's.
"""

import hashlib
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.common.release_candidate import ReleaseCandidate
from tasks.common.stored_values import to_stored_values
from tasks.schemas.review import CRITERIA, FoldReview, Review

FLAGGED = "flagged"  # the reason of an accepted slice that a reader keeps out of a release


def slice_sha256(image: NDArray[np.floating], mask: NDArray[np.uint8]) -> str:
    """Return the SHA-256 of a slice (C,H,W) in [-1, 1] and its mask (H,W), as readers see them."""
    digest = hashlib.sha256(str(image.shape).encode())
    digest.update(to_stored_values(image).astype("<u2").tobytes())
    digest.update((mask > 0).astype(np.uint8).tobytes())
    return digest.hexdigest()


def flagged_hashes(review: Review) -> set[str]:
    """Return the hashes of the synthetic slices that at least one reader flagged."""
    return {
        rating.slice_sha256
        for study in review.folds.values()
        for rating in study.ratings
        if rating.flagged and rating.origin == "synthetic"
    }


def exclude_flagged(candidate: ReleaseCandidate, review: Review) -> ReleaseCandidate:
    """Return the candidate without the slices that readers flagged.

    They are no longer accepted, with the reason `flagged`; where there are any, the digest is
    another, so that an approval of the whole set does not hold for what is left.
    """
    hashes = flagged_hashes(review)
    accepted_rows = np.flatnonzero(candidate.samples["accepted"]) if hashes else ()
    flagged = [
        row for row in accepted_rows
        if slice_sha256(candidate.images[row], candidate.masks[row]) in hashes
    ]  # fmt: skip
    if not flagged:
        return candidate
    samples = candidate.samples.copy()
    samples.loc[flagged, "accepted"] = False
    samples.loc[flagged, "reason"] = FLAGGED
    digest = hashlib.sha256(f"{candidate.digest} without {flagged}".encode()).hexdigest()
    return replace(candidate, samples=samples, digest=digest)


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
