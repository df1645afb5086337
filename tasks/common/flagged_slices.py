"""Leave out of a release candidate what readers flagged."""

import hashlib
from dataclasses import replace

import numpy as np

from tasks.common.reader_ratings import slice_sha256
from tasks.common.release_candidate import ReleaseCandidate
from tasks.schemas.review import Review

FLAGGED = "flagged"  # the reason of an accepted slice that a reader keeps out of a release


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

    Flagged slices lose `accepted`, with the reason `flagged`. The candidate's digest then changes,
    so that an approval of the whole set does not hold for the rest.
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
