"""Hide counts of few patients in tables, and those from which such a count could be computed.

A count from 1 to `smallest_cell` - 1 is small. Whoever knows a row's or a column's total could
subtract the counts that are shown from it, so further counts are hidden until the hidden ones of a
line leave each small one every value from 1 to `smallest_cell` - 1 (complementary suppression,
Hundepool 2012, Statistical Disclosure Control, chapter 4).
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

HIDDEN: Final = "not shown"


def show_counts(counts: Sequence[Sequence[int]], smallest_cell: int) -> list[list[str]]:
    """Return a table of counts of patients as texts: the number, `<SMALLEST`, or `not shown`.

    Args:
        counts: rows of equal length; the totals of rows and of columns may be known to readers.
        smallest_cell: counts of fewer patients are hidden; 0 tells of nobody and is shown. 1 hides
            nothing.
    """
    numbers = np.array(counts, dtype=np.int64).reshape(len(counts), -1)
    hidden = hidden_cells(numbers, smallest_cell)
    return [
        [
            f"<{smallest_cell}" if is_small(int(count), smallest_cell)
            else HIDDEN if hide
            else str(count)
            for count, hide in zip(row, hidden_row, strict=True)
        ]
        for row, hidden_row in zip(numbers, hidden, strict=True)
    ]  # fmt: skip


def is_small(count: int, smallest_cell: int) -> bool:
    """Check whether a count of patients is too small to be shown."""
    return 0 < count < smallest_cell


def hidden_cells(counts: NDArray[np.int64], smallest_cell: int) -> NDArray[np.bool_]:
    """Return which cells (R,C) to hide: small ones, and more until no line gives one away."""
    hidden: NDArray[np.bool_] = (counts > 0) & (counts < smallest_cell)
    changed = True
    while changed:
        changed = False
        lines = [*zip(counts, hidden, strict=True), *zip(counts.T, hidden.T, strict=True)]
        for line, cells in lines:
            while cells.any() and not keeps_secret(line[cells], smallest_cell):
                visible = np.flatnonzero(~cells & (line > 0))
                if len(visible) == 0:
                    break
                cells[visible[line[visible].argmin()]] = changed = True  # a view of `hidden`
    return hidden


def keeps_secret(hidden: NDArray[np.int64], smallest_cell: int) -> bool:
    """Check that a line's hidden counts, whose sum may be known, leave each small one open."""
    small = hidden < smallest_cell
    least = small.sum() + smallest_cell * (~small).sum()  # of a sum of such counts
    most = np.inf if (~small).any() else small.sum() * (smallest_cell - 1)
    spread = smallest_cell - 2  # from the lowest to the highest small count
    # One may be the lowest while the others take up the rest, or the highest, with the others low.
    return bool(len(hidden) > 1 and least + spread <= hidden.sum() <= most - spread)
