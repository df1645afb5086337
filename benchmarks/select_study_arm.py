"""Read a study's results, and choose the candidate with the best validation metric in each cell."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from tasks.lift import learning_curves
from tasks.lift.claim import claim_candidates, claim_references
from tasks.lift.downstream_results import MAX_LATE_RISE

BASE = "base"
CURVE, ALONE = "real+classical", "synthetic"
CHOSEN = "real+synthetic"  # the name under which the chosen candidate enters the family
BEST_REAL = "best without synthetic"  # of as many trainings as arms, chosen on validation too
FIXED = "fixed"  # one candidate, named beforehand: no choice can flatter it
FIXED_ARM = "real+classical+synthetic"
DESCRIBED = (BEST_REAL, FIXED)  # beside the family, never in it
PRIMARY_TABLE = {
    "segment": "patients",
    "classify": "predictions",
}  # the table of the primary metric
Cell = tuple[int, int]  # size and draw


@dataclass(frozen=True)
class ArmTraining:
    """The result of one arm of one experiment, in `folder`."""

    size: int
    draw: int
    variant: str
    arm: str
    folder: Path
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
        """Whether the networks learnt anything, by validation patients."""
        return bool(self.runs["learnt"].all())

    @property
    def rising(self) -> bool:
        """Whether more steps might have helped."""
        return bool(self.runs["rise"].mean() > MAX_LATE_RISE)

    def table(self, name: str) -> pd.DataFrame:
        """Read one of the arm's tables of test patients."""
        return pd.read_parquet(self.folder / f"{name}.parquet")


@dataclass
class ChosenArms:
    """The arms to compare at each size, a table over its draws for each, and messages.

    The arms are those of the plan without its candidates, the chosen candidate as `CHOSEN`, and
    those of `DESCRIBED`.
    """

    tables: dict[int, dict[str, pd.DataFrame]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)


def read_results(folder: Path, task: str) -> list[ArmTraining]:
    """Read the results of a task; arms that were not trained are left out."""
    trainings = []
    for arm_folder in sorted(folder.glob(f"[0-9]*/[!.]*/downstream/{task}-*")):
        size, _, draw = arm_folder.parents[2].name.partition("-")
        runs = pd.read_parquet(arm_folder / "runs.parquet")
        if len(runs):
            arm = arm_folder.name.removeprefix(f"{task}-")
            trainings.append(
                ArmTraining(int(size), int(draw), arm_folder.parents[1].name, arm, arm_folder, runs)
            )
    return trainings


def tabulate_validation(results: Iterable[ArmTraining]) -> pd.DataFrame:
    """Tabulate the mean validation metric over draws: a row an arm and variant, a column a size."""
    table = pd.DataFrame(
        [
            {"arm": training.name, "size": training.size, "value": training.validation}
            for training in results
        ]
    )
    return table.pivot_table(index="arm", columns="size", values="value", sort=False)


def choose_arms(task: str, results: Iterable[ArmTraining]) -> ChosenArms:
    """Choose an arm in each size and draw, and concatenate the draws of a size.

    A draw counts for all arms of its size or for none, since no difference could be paired
    otherwise: it is left out where an arm is missing (too few slices passed the gate) and where
    an arm learnt nothing, except `synthetic`, whose failures are part of its worth.
    """
    by_cell: dict[Cell, list[ArmTraining]] = {}
    for training in results:
        by_cell.setdefault((training.size, training.draw), []).append(training)
    arms = sorted(
        {
            training.arm
            for trainings in by_cell.values()
            for training in trainings
            if training.variant == BASE
        }
    )
    parts: dict[int, dict[str, list[pd.DataFrame]]] = {}
    times_chosen: Counter[str] = Counter()
    result = ChosenArms()
    for (size, draw), of_cell in sorted(by_cell.items()):
        if failed := [training.name for training in of_cell if not training.learnt]:
            result.messages.append(
                f"Size {size}, draw {draw}: {', '.join(failed)} learnt nothing of validation"
                " patients."
            )
        chosen = choose_in_cell(of_cell, arms)
        if isinstance(chosen, str):
            result.messages.append(f"Size {size}, draw {draw} is left out: {chosen}.")
            continue
        times_chosen[chosen[CHOSEN].name] += 1
        for name, training in chosen.items():
            table = learning_curves.use_draw_as_seed(training.table(PRIMARY_TABLE[task]), draw)
            parts.setdefault(size, {}).setdefault(name, []).append(table)
    result.tables = {
        size: {name: pd.concat(tables, ignore_index=True) for name, tables in of_size.items()}
        for size, of_size in parts.items()
    }
    if times_chosen:
        counts = ", ".join(f"{name} {count} times" for name, count in times_chosen.most_common())
        result.messages.append(f"Chosen on validation patients: {counts}.")
    rising = Counter(
        training.name for trainings in by_cell.values() for training in trainings if training.rising
    )
    total = sum(map(len, by_cell.values()))
    result.messages.append(
        f"Still rising by more than {MAX_LATE_RISE} in the last fifth of the steps:"
        f" {rising.total()} of {total} networks"
        + "".join(f", {name} {n}" for name, n in rising.most_common())
        + "."
    )
    return result


def choose_in_cell(
    trainings: Sequence[ArmTraining], arms: Sequence[str]
) -> Mapping[str, ArmTraining] | str:
    """Choose a training for each arm in one size and draw; or say why the draw must be left out."""
    base = {training.arm: training for training in trainings if training.variant == BASE}
    if missing := [arm for arm in arms if arm not in base]:
        return f"no result of {', '.join(missing)}"
    candidates = claim_candidates(arms)
    chosen = {arm: training for arm, training in base.items() if arm not in candidates}
    if not candidates:
        return "no candidate"
    chosen[CHOSEN] = best_on_validation(
        [training for training in trainings if training.arm in candidates]
    )
    if failed := [
        training.name for arm, training in chosen.items() if arm != ALONE and not training.learnt
    ]:
        return f"{', '.join(failed)} learnt nothing"
    chosen[BEST_REAL] = best_on_validation([base[arm] for arm in claim_references(arms)])
    if FIXED_ARM in base:
        chosen[FIXED] = base[FIXED_ARM]
    return chosen


def best_on_validation(results: Sequence[ArmTraining]) -> ArmTraining:
    """Return the training with the best validation metric."""
    return max(results, key=lambda training: training.validation)
