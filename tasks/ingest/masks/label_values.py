"""Which values of a mask are tumour: a region of its label convention, or a list of values."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.masks.label_conventions import BINARY, CONVENTIONS, Region
from tasks.params.ingest import LabelRule

MOST_LABELS = 16  # a picture's higher values are greys
FAINTEST_GREY = 32  # JPEG moves values by about ten: labels below cannot be told apart
SOFT = (0.2, 0.8)  # of the maximum: between lie soft edges, and what is no drawn mask
WITH_OEDEMA_AND_CORE = {1, 2, 4}
WITHOUT_CAVITY = {1, 2, 3}


def binarise_labels(
    data: NDArray[np.generic], rule: LabelRule | list[int], convention: str | None = None
) -> NDArray[np.uint8]:
    """(I,J,K) labels to {0,1}.

    Raises:
        RefusalError: `labels-unknown` where the convention does not hold a value or does not tell
            the region, where none is known and the values do not decide, or where values are no
            whole numbers, as in a map of probabilities.
    """
    drawn = data != 0
    labels = np.unique(data[drawn])
    if labels.dtype.kind == "f" and (labels % 1 != 0).any():
        raise RejectionError("labels-unknown", "values that are no whole numbers")
    present = {int(label) for label in labels}
    if not present:
        return np.zeros(data.shape, np.uint8)
    if isinstance(rule, str):
        values = values_of_region(present, rule, convention)
    else:
        values = values_of_list(present, rule, convention)
    chosen = drawn if values >= present else np.isin(data, list(values))
    return np.asarray(chosen, np.uint8)


def values_of_region(present: set[int], region: Region, convention: str | None) -> set[int]:
    """The values in a mask that belong to a region.

    All readings of the convention that hold every value of the mask must agree.
    """
    if convention in (None, BINARY) and len(present) == 1 and region == "whole":
        return present
    if convention == BINARY:
        found = f"{listed(present)}: one value expected, and no regions"
        raise RejectionError("labels-unknown", found)
    if convention is None:
        return values_of_unknown(present, region)
    readings = [one for one in CONVENTIONS[convention] if present <= one.tissues.keys()]
    if not readings:
        known = set().union(*(one.tissues.keys() for one in CONVENTIONS[convention]))
        odd = present - known
        found = f"{listed(odd)} in no reading" if odd else f"{listed(present)} in no one reading"
        raise RejectionError("labels-unknown", f"{found} of the label convention {convention}")
    answers = [one.values_of(region) for one in readings]
    first = answers[0]
    if first is None or any(a is None or a & present != first & present for a in answers):
        raise RejectionError(
            "labels-unknown",
            f"the label convention {convention} does not tell {region} for {listed(present)}",
        )
    return first & present


def values_of_unknown(present: set[int], region: Region) -> set[int]:
    """The same without a convention, where the values leave no doubt.

    1, 2 and 4 all there, and no 3, is BraTS until 2021. 1 to 3 mean other tissues in other data
    sets, but tumour in all of them. A 4 beside a 3 may be a cavity; higher values are an atlas's.
    """
    if present == WITH_OEDEMA_AND_CORE:
        return values_of_region(present, region, "brats-2012-2020")
    if region == "whole" and present <= WITHOUT_CAVITY:
        return present
    raise RejectionError("labels-unknown", f"{listed(present)}, and no label convention says more")


def values_of_list(present: set[int], values: list[int], convention: str | None) -> set[int]:
    """The listed values; none of them in a mask means no tumour only where the others are known."""
    chosen = present & set(values)
    readings = CONVENTIONS.get(convention or "", ())
    if not chosen and not any(present <= one.tissues.keys() for one in readings):
        raise RejectionError("labels-unknown", f"{listed(present)}, none of them listed as tumour")
    return chosen


def listed(values: set[int]) -> str:
    """`values 3, 4`, the first eight of them."""
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
    """(I,J,K) of drawn masks to {0,1}: what JPEG or soft edges blurred is cut at half the maximum.

    Raises:
        RefusalError: as `merge_labels`; blurred labels cannot be told from each other, nor greys
            that are neither near nothing nor near the maximum.
    """
    drawn: NDArray[Any] = data[data != 0]
    if not lossy and (len(np.unique(drawn)) <= 1 or drawn.max() <= MOST_LABELS):
        return binarise_labels(data, rule, convention)
    if rule != "whole":
        raise RejectionError("labels-unknown", "a picture of greys holds no labels")
    highest = float(drawn.max()) if drawn.size else 0.0
    if lossy and 0 < highest < FAINTEST_GREY:
        raise RejectionError("labels-unknown", f"a JPEG of values up to {highest:g}")
    high = int((drawn > SOFT[1] * highest).sum())
    soft = int((drawn > SOFT[0] * highest).sum()) - high
    if soft > high:
        raise RejectionError(
            "labels-unknown", f"{soft} pixels of middle grey, {high} near the maximum"
        )
    return np.asarray(np.asarray(data) > highest / 2, np.uint8)
