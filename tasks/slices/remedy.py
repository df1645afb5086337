"""What the gate will lack of real slices, and which key of `params.yaml` would give it."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pandas as pd

from tasks.common.gate_requirements import (
    LEAST_PATIENTS,
    Shortfall,
    why_no_null_range,
    why_no_verdict,
    why_not_measured,
)
from tasks.params.slices import Slices
from tasks.slices.patient_split import TRAIN_AND_VAL, PatientUse
from tasks.slices.position_matching import COVARIATES
from tasks.slices.selection import COUNTED_COLUMNS, train_and_val_slices
from tasks.stage.errors import InputError

NO_SHORTFALL = (False, 0)  # an `Option.severity`
PartitionsByFold = dict[str, dict[str, PatientUse]]
SplitPatients = Callable[[float], PartitionsByFold]
MAX_PATIENTS = 60  # for whom other splits are tried; with more the split seldom matters


@dataclass(frozen=True)
class GateShortfall:
    """Of one fold: why no set can be judged, what cannot be measured, and what else to know."""

    verdict: list[Shortfall]
    measures: dict[str, str]
    null_range: str | None

    def lines(self) -> list[str]:
        """Return lines for the terminal, without remedies: `suggest_change` gives the best one."""
        lines = [f"the gate will reject every set: {short.finding}" for short in self.verdict]
        lines += [
            f"the gate will not measure {name}, and reject every set if gate.required lists it:"
            f" {why}"
            for name, why in self.measures.items()
        ]
        return lines if self.verdict or self.null_range is None else [*lines, self.null_range]


def gate_shortfall(slices: pd.DataFrame, fold: str) -> GateShortfall:
    """Return what the gate will lack in a fold of `slices.parquet`."""
    # The generator learns from the labelled slices, and the gate compares them.
    labelled = slices[slices["label"] >= 0]
    train, val = (
        labelled[labelled[f"partition_{fold}"] == partition] for partition in TRAIN_AND_VAL
    )
    return GateShortfall(
        why_no_verdict(train, val), why_not_measured(train, val), why_no_null_range(train, val)
    )


@dataclass(frozen=True)
class Option:
    """Params that could be set, their split of the patients, and what the gate would lack then.

    `verdict` says why some fold could not be judged, `measures` what could not be measured in some
    fold.
    """

    config: Slices
    partitions_by_fold: PartitionsByFold
    verdict: list[Shortfall]
    measures: dict[str, str]

    @property
    def severity(self) -> tuple[bool, int]:
        """Whether no set can be judged, and how many parts of a verdict cannot be measured."""
        return bool(self.verdict), len(self.measures)


def suggest_change(table: pd.DataFrame, split: SplitPatients, config: Slices) -> str | None:
    """Say which change of `slices.val_fraction` or `slices.training_slices` helps the gate most.

    Args:
        table: every slice of the patients who were cut.
        split: splits the patients by a `val_fraction`.
        config: the params as they are.

    Returns:
        None where the gate lacks nothing.
    """
    options = iterate_options(table, split, config)
    current = best = next(options)
    if current.severity == NO_SHORTFALL:
        return None
    for option in options:
        if option.severity < best.severity:
            best = option
        if best.severity == NO_SHORTFALL:
            break
    if best is current:
        if too_few_validate(current.partitions_by_fold):
            for changed, partitions in iterate_changes(split, config):
                if not too_few_validate(partitions):  # how many slices they have is unknown
                    keys = describe_changed_keys(changed, config)
                    return f"{keys} would have {describe_counts(partitions)}"
        more = (
            f"raise slices.train_patients, now {config.train_patients}, or add patients"
            if config.train_patients
            else "add patients"
        )
        return f"no slices.val_fraction would give the gate more of these patients: {more}"
    effect = "let the gate judge" if best.measures else "give the gate all that it needs"
    if best.measures:
        effect += f", but not measure {', '.join(best.measures)}"
    keys = describe_changed_keys(best.config, config)
    return f"{keys} would {effect} ({describe_counts(best.partitions_by_fold)})"


def describe_changed_keys(changed: Slices, config: Slices) -> str:
    """Return the keys that differ, as they would stand in params.yaml."""
    return " and ".join(
        f"slices.{key}: {getattr(changed, key)}"
        for key in ("training_slices", "val_fraction")
        if getattr(changed, key) != getattr(config, key)
    )


def describe_counts(partitions_by_fold: PartitionsByFold) -> str:
    """Say how many patients train and validate in the first fold."""
    count = Counter(next(iter(partitions_by_fold.values())).values())
    return f"{count['train']} patients train and {count['val']} validate"


def too_few_validate(partitions_by_fold: PartitionsByFold) -> bool:
    """Check whether a fold has fewer validation patients than the gate judges by."""
    return any(
        list(partition_of.values()).count("val") < LEAST_PATIENTS
        for partition_of in partitions_by_fold.values()
    )


def is_complete(table: pd.DataFrame, partitions_by_fold: PartitionsByFold) -> bool:
    """Check whether all patients who would train or validate were sliced."""
    sliced = set(table["subject"])
    return all(
        subject in sliced
        for partition_of in partitions_by_fold.values()
        for subject, partition in partition_of.items()
        if partition in TRAIN_AND_VAL
    )


def iterate_options(table: pd.DataFrame, split: SplitPatients, config: Slices) -> Iterator[Option]:
    """Yield the params as they are, then changed ones for which all patients were sliced."""
    table = table[table.columns.intersection([*COUNTED_COLUMNS, *COVARIATES])]
    for changed, partitions in iterate_changes(split, config):
        if changed is config or is_complete(table, partitions):
            chosen = [
                train_and_val_slices(table, use_of, changed) for use_of in partitions.values()
            ]
            yield Option(
                changed,
                partitions,
                [short for train, val in chosen for short in why_no_verdict(train, val)],
                {
                    name: why
                    for train, val in chosen
                    for name, why in why_not_measured(train, val).items()
                },
            )


def iterate_changes(
    split: SplitPatients, config: Slices
) -> Iterator[tuple[Slices, PartitionsByFold]]:
    """Yield the params as they are with their split, then changed ones, smallest change first."""
    current = split(config.val_fraction)
    yield config, current
    tried = [current]
    first = Counter(next(iter(current.values())).values())
    tested = first["test"] / max(sum(first.values()), 1)
    few = (
        max(sum(use in TRAIN_AND_VAL for use in use_of.values()) for use_of in current.values())
        <= MAX_PATIENTS
    )
    fractions = range(int(config.val_fraction * 100) + 1, 100) if few else range(0)
    if config.training_slices != "auto":
        yield config.model_copy(update={"training_slices": "auto"}), current
    for fraction in (hundredths / 100 for hundredths in fractions):
        if fraction + tested >= 1:
            return
        try:
            partitions_by_fold = split(fraction)
        except InputError:
            continue
        counts = [Counter(use_of.values()) for use_of in partitions_by_fold.values()]
        sensible = all(count["train"] >= max(count["val"], LEAST_PATIENTS) for count in counts)
        if not sensible or partitions_by_fold in tried:
            continue
        tried.append(partitions_by_fold)
        for kind in dict.fromkeys((config.training_slices, "auto")):
            update = {"val_fraction": fraction, "training_slices": kind}
            yield config.model_copy(update=update), partitions_by_fold
