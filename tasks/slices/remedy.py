"""What the gate will lack of real slices, and which key of `params.yaml` would give it."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pandas as pd

from tasks.common.gate_requirements import (
    LEAST_PATIENTS,
    why_no_null_range,
    why_no_verdict,
    why_not_measured,
)
from tasks.params.slices import Slices
from tasks.slices.patient_split import FITTED, PartitionOrUnused
from tasks.slices.selection import select_slices
from tasks.stage.errors import InputError

PartitionsByFold = dict[str, dict[str, PartitionOrUnused]]
SplitPatients = Callable[[float], PartitionsByFold]
MOST = 60  # other splits are tried for up to so many patients; with more the split seldom matters


@dataclass(frozen=True)
class GateShortfall:
    """Of one fold: why no set can be judged, what cannot be measured, and what else to know."""

    verdict: list[str]
    measures: dict[str, str]
    chance: str | None

    def lines(self) -> list[str]:
        """Return lines for the terminal, without remedies: `suggest_change` gives the best one."""
        said = [f"the gate will reject every set: {why.split('; ')[0]}" for why in self.verdict]
        said += [
            f"the gate will not measure {name}, and reject every set if gate.required lists it:"
            f" {why}"
            for name, why in self.measures.items()
        ]
        return said if self.verdict or self.chance is None else [*said, self.chance]


def gate_shortfall(kept: pd.DataFrame, fold: str) -> GateShortfall:
    """Return what the gate will lack in a fold of `slices.parquet`."""
    train, val = (kept[kept[f"partition_{fold}"] == side] for side in FITTED)
    return GateShortfall(
        why_no_verdict(train, val), why_not_measured(train, val), why_no_null_range(train, val)
    )


def suggest_change(table: pd.DataFrame, split: SplitPatients, config: Slices) -> str | None:
    """Say which change of `slices.val_fraction` or `slices.training_slices` helps the gate most.

    Args:
        table: every slice of the patients who were cut.
        split: splits the patients by a `val_fraction`.
        config: the params as they are.

    Returns:
        None where the gate lacks nothing.
    """
    found = [
        (combined_shortfall(table, sides, changed), changed, sides)
        for changed, sides in iterate_changes(split, config)
        if changed is config or is_complete(table, sides)
    ]
    now = found[0][0]
    if not any(now):
        return None
    best, changed, sides = min(found, key=lambda one: (bool(one[0][0]), len(one[0][1])))
    if (bool(best[0]), len(best[1])) >= (bool(now[0]), len(now[1])):
        if too_few_validate(found[0][2]):
            for changed, sides in iterate_changes(split, config):
                if not too_few_validate(sides):  # how many slices they have is unknown
                    keys = describe_changed_keys(changed, config)
                    return f"{keys} would have {describe_counts(sides)}"
        more = (
            f"raise slices.train_patients, now {config.train_patients}, or add patients"
            if config.train_patients
            else "add patients"
        )
        return f"no slices.val_fraction would give the gate more of these patients: {more}"
    would = "give the gate all that it needs" if not best[1] else "let the gate judge"
    if best[1]:
        would += f", but not measure {', '.join(best[1])}"
    return f"{describe_changed_keys(changed, config)} would {would} ({describe_counts(sides)})"


def describe_changed_keys(changed: Slices, config: Slices) -> str:
    """Return the keys that differ, as they would stand in params.yaml."""
    return " and ".join(
        f"slices.{key}: {getattr(changed, key)}"
        for key in ("training_slices", "val_fraction")
        if getattr(changed, key) != getattr(config, key)
    )


def describe_counts(sides: PartitionsByFold) -> str:
    """Say how many patients train and validate in the first fold."""
    count = Counter(next(iter(sides.values())).values())
    return f"{count['train']} patients train and {count['val']} validate"


def too_few_validate(sides: PartitionsByFold) -> bool:
    """Check whether a fold has fewer validation patients than the gate judges by."""
    return any(list(of.values()).count("val") < LEAST_PATIENTS for of in sides.values())


def is_complete(table: pd.DataFrame, sides: PartitionsByFold) -> bool:
    """Check whether all patients who would train or validate were sliced."""
    cut = set(table["subject"])
    return all(s in cut for of in sides.values() for s, side in of.items() if side in FITTED)


def combined_shortfall(
    table: pd.DataFrame, sides: PartitionsByFold, config: Slices
) -> tuple[list[str], dict[str, str]]:
    """Return why some fold cannot be judged, and what cannot be measured in some fold."""
    partitions, _ = select_slices(table, sides, config)
    cut = pd.concat([table, partitions], axis=1)
    every = [gate_shortfall(cut, fold) for fold in sides]
    return (
        [why for one in every for why in one.verdict],
        {name: why for one in every for name, why in one.measures.items()},
    )


def iterate_changes(
    split: SplitPatients, config: Slices
) -> Iterator[tuple[Slices, PartitionsByFold]]:
    """Yield the params as they are with their split, then changed ones, smallest change first."""
    now = split(config.val_fraction)
    yield config, now
    tried = [now]
    tested = 1 / len(now) if len(now) > 1 else config.test_fraction
    few = max(sum(side in FITTED for side in of.values()) for of in now.values()) <= MOST
    fractions = range(int(config.val_fraction * 100) + 1, 100) if few else range(0)
    if config.training_slices != "auto":
        yield config.model_copy(update={"training_slices": "auto"}), now
    for fraction in (hundredths / 100 for hundredths in fractions):
        if fraction + tested >= 1:
            return
        try:
            sides = split(fraction)
        except InputError:
            continue
        counts = [Counter(of.values()) for of in sides.values()]
        sensible = all(one["train"] >= max(one["val"], LEAST_PATIENTS) for one in counts)
        if not sensible or sides in tried:
            continue
        tried.append(sides)
        for kind in dict.fromkeys((config.training_slices, "auto")):
            update = {"val_fraction": fraction, "training_slices": kind}
            yield config.model_copy(update=update), sides
