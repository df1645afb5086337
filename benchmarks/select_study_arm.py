"""What a study left, and which candidate validation patients liked best in each size and draw."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from tasks.lift import learning_curves
from tasks.lift.claim import candidates, references
from tasks.lift.downstream_results import FLAT

BASE = "base"
CURVE, ALONE = "real+classical", "synthetic"
CHOSEN = "real+synthetic"  # the name under which the chosen candidate enters the family
BEST_REAL = "best without synthetic"  # of as many trainings as arms, chosen on validation too
FIXED = "fixed"  # one candidate, named beforehand: no choice can flatter it
FIXED_ARM = "real+classical+synthetic"
DESCRIBED = (BEST_REAL, FIXED)  # beside the family, never in it
PRIMARY = {"segment": "patients", "classify": "predictions"}  # the table of the primary metric
Cell = tuple[int, int]  # size and draw


@dataclass(frozen=True)
class Result:
    """What one arm of one experiment left in `place`."""

    size: int
    draw: int
    variant: str
    arm: str
    place: Path
    runs: pd.DataFrame

    @property
    def name(self) -> str:
        """The arm, and the variant where it is not the base."""
        return self.arm if self.variant == BASE else f"{self.arm} ({self.variant})"

    @property
    def validation(self) -> float:
        """The primary metric on validation patients."""
        return float(self.runs["val_metric"].mean())

    @property
    def learnt(self) -> bool:
        """Whether the networks found something of validation patients."""
        return bool(self.runs["learnt"].all())

    @property
    def rising(self) -> bool:
        """Whether more steps might have helped."""
        return bool(self.runs["rise"].mean() > FLAT)

    def table(self, name: str) -> pd.DataFrame:
        """One of the arm's tables: what its networks said of test patients."""
        return pd.read_parquet(self.place / f"{name}.parquet")


@dataclass
class Settled:
    """The arms to compare at each size, a table over its draws for each; and what was decided.

    The arms are those of the plan without its candidates, the chosen candidate as `CHOSEN`, and
    those of `DESCRIBED`.
    """

    tables: dict[int, dict[str, pd.DataFrame]] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)


def read(folder: Path, task: str) -> list[Result]:
    """The results of a task; arms that were not trained are left out."""
    found = []
    for place in sorted(folder.glob(f"[0-9]*/[!.]*/downstream/{task}-*")):
        size, _, draw = place.parents[2].name.partition("-")
        runs = pd.read_parquet(place / "runs.parquet")
        if len(runs):
            arm = place.name.removeprefix(f"{task}-")
            found.append(Result(int(size), int(draw), place.parents[1].name, arm, place, runs))
    return found


def on_validation(results: Iterable[Result]) -> pd.DataFrame:
    """What is chosen by: a row an arm and variant, a column a size, the mean over draws."""
    table = pd.DataFrame(
        [{"arm": one.name, "size": one.size, "value": one.validation} for one in results]
    )
    return table.pivot_table(index="arm", columns="size", values="value", sort=False)


def settle(task: str, results: Iterable[Result]) -> Settled:
    """Choose in each size and draw, and put the draws of a size together.

    A draw counts for all arms of its size or for none, since no difference could be paired
    otherwise: it is left out where an arm is missing (too few slices passed the gate) and where
    one learnt nothing, but for `synthetic`, whose failures are what it is worth.
    """
    by_cell: dict[Cell, list[Result]] = {}
    for one in results:
        by_cell.setdefault((one.size, one.draw), []).append(one)
    arms = sorted({one.arm for of in by_cell.values() for one in of if one.variant == BASE})
    parts: dict[int, dict[str, list[pd.DataFrame]]] = {}
    picked: Counter[str] = Counter()
    settled = Settled()
    for (size, draw), mine in sorted(by_cell.items()):
        if silent := [one.name for one in mine if not one.learnt]:
            settled.said.append(
                f"Size {size}, draw {draw}: {', '.join(silent)} learnt nothing of validation"
                " patients."
            )
        chosen = choose(mine, arms)
        if isinstance(chosen, str):
            settled.said.append(f"Size {size}, draw {draw} is left out: {chosen}.")
            continue
        picked[chosen[CHOSEN].name] += 1
        for name, one in chosen.items():
            table = learning_curves.by_draw(one.table(PRIMARY[task]), draw)
            parts.setdefault(size, {}).setdefault(name, []).append(table)
    settled.tables = {
        size: {name: pd.concat(tables, ignore_index=True) for name, tables in of_size.items()}
        for size, of_size in parts.items()
    }
    if picked:
        said = ", ".join(f"{name} {count} times" for name, count in picked.most_common())
        settled.said.append(f"Chosen on validation patients: {said}.")
    rising = Counter(one.name for of in by_cell.values() for one in of if one.rising)
    total = sum(map(len, by_cell.values()))
    settled.said.append(
        f"Still rising by more than {FLAT} in the last fifth of the steps: {rising.total()} of"
        f" {total} networks" + "".join(f", {name} {n}" for name, n in rising.most_common()) + "."
    )
    return settled


def choose(mine: Sequence[Result], arms: Sequence[str]) -> Mapping[str, Result] | str:
    """What of a size and draw stands for each arm; or why it must be left out."""
    base = {one.arm: one for one in mine if one.variant == BASE}
    if missing := [arm for arm in arms if arm not in base]:
        return f"no result of {', '.join(missing)}"
    mixed = candidates(arms)
    named = {arm: one for arm, one in base.items() if arm not in mixed}
    if not mixed:
        return "no candidate"
    named[CHOSEN] = best([one for one in mine if one.arm in mixed])
    if failed := [one.name for arm, one in named.items() if arm != ALONE and not one.learnt]:
        return f"{', '.join(failed)} learnt nothing"
    named[BEST_REAL] = best([base[arm] for arm in references(arms)])
    if FIXED_ARM in base:
        named[FIXED] = base[FIXED_ARM]
    return named


def best(results: Sequence[Result]) -> Result:
    """The one that validation patients like best."""
    return max(results, key=lambda one: one.validation)
