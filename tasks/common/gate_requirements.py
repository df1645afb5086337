"""Numbers of real slices and patients that the gate needs, and what to change for more.

The numbers are known as soon as `slices` has split the patients, so that stage reports what is
lacking before a generator is trained that cannot be judged. This module needs no torch.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.common.slice_set import MIN_SLICES, mask_known
from tasks.stage.errors import InputError

LEAST_PATIENTS = 2  # validation patients: no patient is compared with their own slices
NULL_PATIENTS = 4  # training and validation patients each, for the null range (`null95`)
LEAST_OF_LABEL = 10  # slices of a label in each set; a label with fewer is left out of comparisons
LEAST_HELD_OUT = 20  # validation slices, or tumours, from which a copy detector gets its limits
LEAST_MARKED = 10  # outlined training tumours, for the segmenter behind `mask_agreement`

MORE_PATIENTS_HINT = "raise slices.val_fraction or slices.train_patients, or add patients"
MORE_SLICES_HINT = "set slices.training_slices to auto where it is not, or add patients"


@dataclass(frozen=True)
class Shortfall:
    """Why no set can be judged, and what to change."""

    finding: str
    remedy: str

    def __str__(self) -> str:
        """Return both, as a verdict gives them."""
        return f"{self.finding}; {self.remedy}"


class CannotJudgeError(InputError):
    """Too few slices or patients to judge a set: a rejection with this reason, not a fault."""


def count_outlined_tumors(table: pd.DataFrame) -> int:
    """Count the slices that show a tumour whose outline is known."""
    return int(((table["label"] == 1).to_numpy() & mask_known(table)).sum())


@dataclass(frozen=True)
class CountedSlices:
    """What the gate's needs are counted by: patients as numbers, labels, outlined tumours (N,).

    Selections of the same slices are counted many times, which takes long with tables.
    """

    patients: NDArray[np.int_]
    labels: NDArray[np.int_]
    is_outlined: NDArray[np.bool_]

    @classmethod
    def of_table(cls, table: pd.DataFrame) -> "CountedSlices":
        """Return them of rows of `slices.parquet`."""
        labels = table["label"].to_numpy()
        return cls(pd.factorize(table["subject"])[0], labels, (labels == 1) & mask_known(table))

    def select(self, keep: NDArray[np.bool_]) -> "CountedSlices":
        """Return some of the slices."""
        return CountedSlices(self.patients[keep], self.labels[keep], self.is_outlined[keep])


def count_comparable_tumors(val: CountedSlices) -> int:
    """Count the outlined tumours that can be compared with those of another validation patient."""
    shown = val.patients[val.is_outlined]
    return len(shown) if len(np.unique(shown)) > 1 else 0


def count_needed_slices(train: CountedSlices, val: CountedSlices) -> int:
    """Count the slices that the gate needs, each kind up to the number it needs.

    Slices without a label do not count. Of two selections of slices of the same patients, more can
    be measured with the one of the higher count.
    """
    count = min(count_comparable_tumors(val), LEAST_HELD_OUT)
    for slices in (train, val):
        of_label = [int((slices.labels == label).sum()) for label in (0, 1)]
        count += min(sum(of_label), MIN_SLICES)
        count += sum(min(n, LEAST_OF_LABEL) for n in of_label)
    return count


def why_no_verdict(train: pd.DataFrame, val: pd.DataFrame) -> list[Shortfall]:
    """Return why no set can be compared with these slices; empty where one can.

    Args:
        train: rows of `slices.parquet` that the generator sees.
        val: rows of patients that it never sees.
    """
    reasons = []
    patients = val["subject"].nunique()
    if patients < LEAST_PATIENTS:
        reasons.append(
            Shortfall(
                f"{patients} validation patient{'' if patients == 1 else 's'}, at least"
                f" {LEAST_PATIENTS} are needed",
                MORE_PATIENTS_HINT,
            )
        )
    for name, table in (("training", train), ("validation", val)):
        if len(table) < MIN_SLICES:
            reasons.append(
                Shortfall(
                    f"{len(table)} {name} slices, at least {MIN_SLICES} are needed to judge",
                    MORE_SLICES_HINT,
                )
            )
    counts = {
        label: tuple(int((table["label"] == label).sum()) for table in (train, val))
        for label in sorted(set(train["label"]) & set(val["label"]))
    }
    if not reasons and counts and max(map(min, counts.values())) < LEAST_OF_LABEL:
        sizes = ", ".join(f"{a} and {b} of label {label}" for label, (a, b) in counts.items())
        reasons.append(
            Shortfall(
                f"no label has {LEAST_OF_LABEL} slices in training and in validation ({sizes})",
                MORE_SLICES_HINT,
            )
        )
    return reasons


def why_not_measured(train: pd.DataFrame, val: pd.DataFrame) -> dict[str, str]:
    """Return the parts of a verdict that these slices do not suffice for, each with the reason."""
    reasons = {}
    for label, kind in ((0, "without tumour"), (1, "with tumour")):
        for name, table in (("training", train), ("validation", val)):
            count = int((table["label"] == label).sum())
            if 0 < count < LEAST_OF_LABEL:
                reasons[f"label_{label}"] = (
                    f"{count} {name} slices {kind}, {needed_in_words(count, LEAST_OF_LABEL)}"
                )
    counted = CountedSlices.of_table(val)
    if mask_known(val).any() and (count := count_comparable_tumors(counted)) < LEAST_HELD_OUT:
        where = " in one patient" if count_outlined_tumors(val) and not count else ""
        reasons["tumor_copies"] = (
            f"{count_outlined_tumors(val)} validation slices with an outlined tumour{where}, "
            + (
                "at least two patients with tumours are needed"
                if where
                else needed_in_words(count, LEAST_HELD_OUT)
            )
        )
    if 0 < count_outlined_tumors(train) < LEAST_MARKED:
        reasons["mask_agreement"] = (
            f"{count_outlined_tumors(train)} training slices with an outlined tumour,"
            f" {needed_in_words(count_outlined_tumors(train), LEAST_MARKED)}"
        )
    return reasons


def needed_in_words(count: int, least: int) -> str:
    """Return in words how many are needed, and how many more that is."""
    return f"at least {least} are needed ({least - count} more)"


def why_no_null_range(train: pd.DataFrame, val: pd.DataFrame) -> str | None:
    """Return why patients are too few for a limit of null in `gate.limits`; else None."""
    fewest = min(table["subject"].nunique() for table in (train, val))
    if fewest >= NULL_PATIENTS:
        return None
    return (
        f"a limit of null in gate.limits cannot be had: it needs {NULL_PATIENTS} patients to"
        f" train and {NULL_PATIENTS} to validate on"
    )
