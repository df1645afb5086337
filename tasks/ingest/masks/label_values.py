"""Binarise a mask by the region of its label convention, or by a list of values."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.masks.label_conventions import BINARY, CONVENTIONS, Region
from tasks.params.ingest import LabelRule

MOST_LABELS = 16  # higher values of a 2D image are greys
FAINTEST_GREY = 32  # JPEG changes values by about ten: labels below cannot be distinguished
SOFT_EDGE = (0.2, 0.8)  # of the maximum: values between are soft edges, or of no drawn mask
WITH_OEDEMA_AND_CORE = {1, 2, 4}
WITHOUT_CAVITY = {1, 2, 3}


def binarise_labels(
    data: NDArray[np.generic], rule: LabelRule | list[int], convention: str | None = None
) -> NDArray[np.uint8]:
    """Binarise (I,J,K) labels to {0,1}.

    Raises:
        RejectionError: `labels-unknown` if the convention does not hold a value or does not tell
            the region, if no convention is known and the values do not decide, or if values are not
            whole numbers, as in a map of probabilities.
    """
    labelled = data != 0
    labels = np.unique(data[labelled])
    if labels.dtype.kind == "f" and (labels % 1 != 0).any():
        raise RejectionError("labels-unknown", "values that are no whole numbers")
    present = {int(label) for label in labels}
    if not present:
        return np.zeros(data.shape, np.uint8)
    if isinstance(rule, str):
        values = values_of_region(present, rule, convention)
    else:
        values = values_of_list(present, rule, convention)
    chosen = labelled if values >= present else np.isin(data, list(values))
    return np.asarray(chosen, np.uint8)


def values_of_region(present: set[int], region: Region, convention: str | None) -> set[int]:
    """Return the values in a mask that belong to a region.

    All interpretations of the convention that hold every value of the mask must agree.
    """
    if convention in (None, BINARY) and len(present) == 1 and region == "whole":
        return present
    if convention == BINARY:
        reason = f"{list_values(present)}: one value expected, and no regions"
        raise RejectionError("labels-unknown", reason)
    if convention is None:
        return values_without_convention(present, region)
    interpretations = [
        interpretation
        for interpretation in CONVENTIONS[convention]
        if present <= interpretation.tissues.keys()
    ]
    if not interpretations:
        known = set().union(
            *(interpretation.tissues.keys() for interpretation in CONVENTIONS[convention])
        )
        odd = present - known
        reason = (
            f"{list_values(odd)} in no reading"
            if odd
            else f"{list_values(present)} in no one reading"
        )
        raise RejectionError("labels-unknown", f"{reason} of the label convention {convention}")
    regions = [interpretation.labels_of(region) for interpretation in interpretations]
    first = regions[0]
    if first is None or any(a is None or a & present != first & present for a in regions):
        raise RejectionError(
            "labels-unknown",
            f"the label convention {convention} does not tell {region} for {list_values(present)}",
        )
    return first & present


def values_without_convention(present: set[int], region: Region) -> set[int]:
    """Return the values of a region without a known convention, if the values are unambiguous.

    1, 2 and 4 all together, without a 3, are BraTS until 2021. 1 to 3 mean other tissues in other
    data sets, but tumour in all of them. A 4 beside a 3 may be a cavity; higher values are an
    atlas's.
    """
    if present == WITH_OEDEMA_AND_CORE:
        return values_of_region(present, region, "brats-2012-2020")
    if region == "whole" and present <= WITHOUT_CAVITY:
        return present
    raise RejectionError(
        "labels-unknown", f"{list_values(present)}, and no label convention says more"
    )


def values_of_list(present: set[int], values: list[int], convention: str | None) -> set[int]:
    """Return the listed values in a mask.

    None of them in a mask means no tumour only if a convention explains the mask's values.

    Raises:
        RejectionError: `labels-unknown` for none of them, and unknown values.
    """
    chosen = present & set(values)
    interpretations = CONVENTIONS.get(convention or "", ())
    if not chosen and not any(
        present <= interpretation.tissues.keys() for interpretation in interpretations
    ):
        raise RejectionError(
            "labels-unknown", f"{list_values(present)}, none of them listed as tumour"
        )
    return chosen


def list_values(values: set[int]) -> str:
    """Return `values 3, 4`, with the first eight values."""
    several = ", ".join(map(str, sorted(values)[:8]))
    more = f" and {len(values) - 8} more" if len(values) > 8 else ""
    return f"value{'s' if len(values) > 1 else ''} {several}{more}"


def binarise_greys(
    data: NDArray[np.generic],
    rule: LabelRule | list[int],
    convention: str | None = None,
    *,
    lossy: bool,
) -> NDArray[np.uint8]:
    """Binarise (I,J,K) of 2D masks to {0,1}; JPEG noise and soft edges are cut at half the maximum.

    Raises:
        RejectionError: as `binarise_labels`; also for blurred labels, which cannot be
            distinguished, and for greys that are neither near 0 nor near the maximum.
    """
    labelled: NDArray[Any] = data[data != 0]
    if not lossy and (len(np.unique(labelled)) <= 1 or labelled.max() <= MOST_LABELS):
        return binarise_labels(data, rule, convention)
    if rule != "whole":
        raise RejectionError("labels-unknown", "a picture of greys holds no labels")
    highest = float(labelled.max()) if labelled.size else 0.0
    if lossy and 0 < highest < FAINTEST_GREY:
        raise RejectionError("labels-unknown", f"a JPEG of values up to {highest:g}")
    high = int((labelled > SOFT_EDGE[1] * highest).sum())
    middle = int((labelled > SOFT_EDGE[0] * highest).sum()) - high
    if middle > high:
        raise RejectionError(
            "labels-unknown", f"{middle} pixels of middle grey, {high} near the maximum"
        )
    return np.asarray(np.asarray(data) > highest / 2, np.uint8)
