"""Divide patients into the folds of another tool's cross-validation: a patient is in one fold."""

from collections import Counter
from typing import Final

MOST_FOLDS: Final = 5


def folds_by_patient(subjects: list[str]) -> dict[str, int]:
    """Assign each patient to one of at most five folds of about equally many slices.

    Patients with most slices come first, each to the fold that has fewest so far. A single patient
    cannot be divided: the result is empty.

    Args:
        subjects: the patient of each slice.
    """
    slices = Counter(subjects)
    if len(slices) < 2:
        return {}
    sizes = [0] * min(MOST_FOLDS, len(slices))
    fold_of = {}
    for subject, count in sorted(slices.items(), key=lambda item: (-item[1], item[0])):
        fold = sizes.index(min(sizes))
        fold_of[subject] = fold
        sizes[fold] += count
    return fold_of
