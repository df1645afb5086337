"""Hide counts of few patients in tables, and those from which such a count could be computed.

A count from 1 to `smallest_cell` - 1 is small. Whoever knows totals could subtract the counts that
are shown, so further counts are hidden until no sum by itself excludes a small value of a small
count (complementary suppression, Hundepool 2012, Statistical Disclosure Control, chapter 4).
Several sums together may still give one away. That is checked, not assumed: an integer program
seeks two possible values of each small count among all tables that a reader must hold possible.
"""

import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

HIDDEN: Final = "not shown"
NUMBER_OF_PATIENTS: Final = re.compile(
    # Neither least numbers nor parts of one (1.03; 1,003; 3/4), nor slices or seeds of a patient.
    r"(?<!at least )(?<!needs )(?<![\d.,/])\b\d+(?= (?:(?!slices\b|seeds?\b)\w+ ){0,4}patients?\b)"
)
# By which the number could be computed.
HOW_MANY_MORE: Final = re.compile(r" \(\d+ more\)")
HOW_MANY_NEEDED: Final = re.compile(r", (?:at least )?\d+ (?:of each )?are needed")
FEW: Final = 4  # small counts; of more, several are sought at once
MANY: Final = 10_000  # patients, as good as no bound
LIMIT_REACHED: Final = 1  # status of an integer program
SECONDS: Final = 2.0  # for one integer program
ALL_SECONDS: Final = 60.0  # for all of a table, after which all of it is hidden
R = TypeVar("R", bound=BaseModel)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class KnownSum:
    """What a reader knows: the counts `terms`, each times its factor, sum up to `total`."""

    terms: Mapping[Any, int]
    total: int = 0


def show_counts(counts: Sequence[Sequence[int]], smallest_cell: int) -> list[list[str]]:
    """Return a table of counts of patients as texts: the number, `<SMALLEST`, or `not shown`.

    Args:
        counts: rows of equal length; the totals of rows and of columns may be known to readers.
        smallest_cell: counts of fewer patients are hidden; 0 tells of nobody and is shown. 1 hides
            nothing.
    """
    rows = range(len(counts))
    columns = range(len(counts[0]) if counts else 0)
    lines = [[(r, c) for c in columns] for r in rows] + [[(r, c) for r in rows] for c in columns]
    numbers = {(r, c): int(counts[r][c]) for r in rows for c in columns}
    sums = [known_total(line, numbers, smallest_cell) for line in lines if len(line) > 1]
    texts = hide_counts(numbers, [each for each in sums if each], smallest_cell)
    return [[texts[r, c] for c in columns] for r in rows]


def known_total(
    line: Sequence[Any], counts: Mapping[Any, int], smallest_cell: int
) -> KnownSum | None:
    """Return that the sum of some counts is known; None where it is small itself."""
    total = sum(counts[key] for key in line)
    return None if is_small(total, smallest_cell) else KnownSum(dict.fromkeys(line, 1), total)


def is_small(count: int, smallest_cell: int) -> bool:
    """Check whether a count of patients is too small to be shown."""
    return 0 < count < smallest_cell


def hide_counts(
    counts: Mapping[Any, int],
    sums: Sequence[KnownSum],
    smallest_cell: int,
    *,
    unlisted: Collection[Any] = (),
    hidden: Collection[Any] = (),
    whole_range: bool = True,
) -> dict[Any, str]:
    """Return each count as a text, so that nobody who knows the sums learns a small one.

    Where the totals leave a small count only one value as soon as it is said to be small, `not
    shown` stands for small counts beside it too, and at last for zeros. What totals tell without
    any table nothing can hide. Where the search takes longer than `SECONDS` for a count or
    `ALL_SECONDS` for all, all is hidden.

    Args:
        counts: by any key; small ones are protected.
        sums: what readers know of them.
        smallest_cell: counts of fewer patients are small.
        unlisted: keys of counts that stand in no table.
        hidden: keys that are hidden anyway.
        whole_range: no single sum may exclude any value of a small count; else two are enough.
    """
    table = HiddenTable(
        dict(counts), list(sums), smallest_cell, frozenset(unlisted), set(hidden), whole_range
    )
    try:
        table.hide_more()
        if told := table.told():
            hopeless = table.told_by_totals(told)
            while told := table.told() - hopeless:
                if not table.protect(told):
                    break
    except TimeoutError:
        table.hide_all()
    return {key: table.text(key) for key in counts if key not in table.unlisted}


def hide_in_sentences(record: R, smallest_cell: int, also: Collection[int] = ()) -> R:
    """Return a record in whose texts no small number of patients is said, nor those of `also`."""

    def hide(value: Any) -> Any:
        if isinstance(value, str):
            return hide_in_sentence(value, smallest_cell, also)
        if isinstance(value, dict):
            return {key: hide(each) for key, each in value.items()}
        return [hide(each) for each in value] if isinstance(value, list | tuple) else value

    return type(record).model_validate(hide(record.model_dump()))


def hide_in_sentence(text: str, smallest_cell: int, also: Collection[int] = ()) -> str:
    """Return a sentence without small numbers of patients: `fewer than 5 validation patients`."""

    def hide(found: re.Match[str]) -> str:
        number = int(found[0])
        if is_small(number, smallest_cell):
            return f"fewer than {smallest_cell}"
        return f"({HIDDEN})" if number in also else found[0]

    hidden = NUMBER_OF_PATIENTS.sub(hide, text)
    if hidden == text:
        return text
    hidden = HOW_MANY_NEEDED.sub(", which is too few", HOW_MANY_MORE.sub("", hidden))
    return re.sub(rf"(fewer than {smallest_cell} (?:\w+ ){{0,4}}patient)\b", r"\1s", hidden)


@dataclass
class HiddenTable:
    """Counts of which some are hidden, as a reader who knows some sums sees them.

    Small counts are said to be small, but for the `unmarked` ones.
    """

    counts: dict[Any, int]
    sums: list[KnownSum]
    smallest_cell: int
    unlisted: frozenset[Any]
    hidden: set[Any]
    whole_range: bool
    unmarked: set[Any] = field(default_factory=set)
    deadline: float = field(default_factory=lambda: time.monotonic() + ALL_SECONDS)

    def __post_init__(self) -> None:
        """Hide the small counts."""
        # What was found possible stays so, for ever less is said.
        self.low = np.array(list(self.counts.values()), dtype=np.float64)
        self.high = self.low.copy()
        self.small = [key for key, n in self.counts.items() if is_small(n, self.smallest_cell)]
        self.harmless = self.unlisted.difference(self.small)
        self.hidden |= {*self.small, *self.unlisted}

    def marked(self, key: Any) -> bool:
        """Check whether a count is said to be small."""
        return is_small(self.counts[key], self.smallest_cell) and key not in self.unmarked

    def text(self, key: Any) -> str:
        """Return what is shown of a count."""
        if key not in self.hidden:
            return str(self.counts[key])
        return f"<{self.smallest_cell}" if self.marked(key) else HIDDEN

    def bounds(self, key: Any, least_hidden: int) -> tuple[float, float]:
        """Return the least and the greatest value that a count's text allows."""
        if key not in self.hidden:
            return self.counts[key], self.counts[key]
        if key in self.unlisted:
            return 0, np.inf
        return (1, self.smallest_cell - 1) if self.marked(key) else (least_hidden, np.inf)

    def least_hidden(self) -> int:
        """Return the least count that `not shown` stands for."""
        hidden = [key for key in self.hidden - self.unlisted if not self.marked(key)]
        least = min((self.counts[key] for key in hidden), default=self.smallest_cell)
        return min(least, 1) if least < self.smallest_cell else self.smallest_cell

    def hide_more(self) -> None:
        """Hide the smallest count beside small ones until no single sum gives one away."""
        choices = dict(enumerate(map(self.could_hide, self.sums)))
        while key := next((min(keys, key=self.order) for keys in choices.values() if keys), None):
            self.check_time()
            self.hidden.add(key)
            for number, each in enumerate(self.sums):
                if key in each.terms:
                    choices[number] = self.could_hide(each)

    def hide_all(self) -> None:
        """Hide every count and say of none that it is small."""
        self.hidden, self.unmarked = set(self.counts), set(self.counts)

    def check_time(self) -> None:
        """Give up after `ALL_SECONDS`.

        Raises:
            TimeoutError: they are over.
        """
        if time.monotonic() > self.deadline:
            raise TimeoutError

    def could_hide(self, known: KnownSum) -> list[Any]:
        """List what is shown in a sum that gives small counts away by itself."""
        hidden = self.hidden & known.terms.keys()
        if hidden <= self.harmless:
            return []
        values = np.array([self.counts[key] for key in hidden])
        if len(hidden) > 1 and not (self.whole_range and self.tells(values)):
            return []
        return [key for key in known.terms if key not in self.hidden and self.counts[key]]

    def tells(self, hidden: NDArray[np.int64]) -> bool:
        """Check whether hidden counts whose sum is known leave a small one only some values."""
        k, small = self.smallest_cell, hidden < self.smallest_cell
        least = small.sum() + k * (~small).sum()  # of a sum of such counts
        most = np.inf if (~small).any() else small.sum() * (k - 1)
        spread = k - 2  # from the lowest to the highest small count
        # One may be the lowest while the others take up the rest, or the highest, others low.
        return bool(small.any() and not least + spread <= hidden.sum() <= most - spread)

    def order(self, key: Any) -> tuple[int, str]:
        """Return the order in which counts are hidden."""
        return self.counts[key], str(key)

    def protect(self, told: set[Any]) -> bool:
        """Say less of counts that are told and of those beside them; return whether one could."""
        near = {key for each in self.sums if told & each.terms.keys() for key in each.terms} | told
        marked = {key for key in near - self.unlisted if self.marked(key)}
        shown = {key for key in near if key not in self.hidden}
        if marked:
            self.unmarked |= marked
        elif shown:
            self.hidden.add(min(shown, key=lambda key: (not self.counts[key], *self.order(key))))
        elif linked := {
            key
            for each in self.sums
            if self.hidden & each.terms.keys()
            for key in each.terms
            if key not in self.hidden
        }:
            self.hidden.add(min(linked, key=self.order))
        else:
            return False
        return True

    def told(self) -> set[Any]:
        """Return the small counts that have one possible value only."""
        return {key for key, (low, high) in self.ranges().items() if low == high}

    def told_by_totals(self, told: set[Any]) -> set[Any]:
        """Return those of the small counts that are told though nothing at all is shown."""
        blank = replace(self)
        blank.hide_all()
        blank.low, blank.high = self.low.copy(), self.high.copy()
        return told & blank.told()

    def ranges(self) -> dict[Any, tuple[float, float]]:
        """Return the least and the greatest value of each small count that was found possible.

        Most are found by aims at many counts at once; only what these leave open is sought singly.
        """
        if not self.small:
            return {}
        place = {key: number for number, key in enumerate(self.counts)}
        small = np.array([place[key] for key in self.small])
        left = small[self.low[small] == self.high[small]]
        if len(left):
            solve = self.solver()
            for bit in range(len(left).bit_length() if len(left) > FEW else 0):
                aim = np.zeros(len(self.low))
                aim[left] = np.where(np.arange(len(left)) >> bit & 1, 1, -1)
                for sign in (1, -1):
                    self.add(solve(sign * aim))
            for number in left:
                for sign in (1, -1):
                    if self.low[number] == self.high[number]:
                        aim = np.zeros(len(self.low))
                        aim[number] = sign
                        self.add(solve(aim))
        return {key: (self.low[place[key]], self.high[place[key]]) for key in self.small}

    def add(self, possible: Floats) -> None:
        """Note possible values (N,) of the counts."""
        self.low, self.high = np.minimum(self.low, possible), np.maximum(self.high, possible)

    def solver(self) -> Callable[[Floats], Floats]:
        """Return a function that finds the possible counts (N,) which make an aim (N,) least.

        Raises:
            TimeoutError: a program took longer than `SECONDS`, or all than `ALL_SECONDS`.
        """
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import lil_array

        truth = np.array(list(self.counts.values()), dtype=np.float64)
        place = {key: number for number, key in enumerate(self.counts)}
        matrix = lil_array((max(len(self.sums), 1), len(truth)))
        for row, each in enumerate(self.sums):
            for key, factor in each.terms.items():
                matrix[row, place[key]] = factor
        totals = matrix @ truth  # what the sums come to
        least_hidden = self.least_hidden()
        lower, upper = np.array([self.bounds(key, least_hidden) for key in self.counts]).T
        bounds = Bounds(lower, np.where(np.isinf(upper), truth.sum() + MANY, upper))
        known = LinearConstraint(matrix.tocsr(), totals, totals)
        whole = np.ones(len(truth))

        def solve(aim: Floats) -> Floats:
            self.check_time()
            found = milp(
                aim, constraints=known, bounds=bounds, integrality=whole,
                options={"time_limit": SECONDS},
            )  # fmt: skip
            if found.status == LIMIT_REACHED:
                raise TimeoutError
            solution: Floats = truth if found.x is None else found.x.round()
            return solution

        return solve
