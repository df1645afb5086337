"""Choose which slices of each patient are kept in each partition of each fold."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.common.gate_requirements import CountedSlices, count_needed_slices
from tasks.params.slices import Slices
from tasks.slices.patient_split import TRAIN_AND_VAL, PatientUse
from tasks.slices.position_matching import (
    TumorRange,
    keep_in_tumor_range,
    match_in_blocks,
    tumor_range,
)

COUNTED_COLUMNS = ["subject", "label", "mask_known"]  # by them the gate's needs are counted
WIDER_CALIPERS = (2, 4, 8, 16)  # times slices.caliper


def select_slices(
    table: pd.DataFrame, uses_by_fold: dict[str, dict[str, PatientUse]], config: Slices
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Choose the slices of every fold; negatives are matched inside each partition of each fold.

    So the slices of a partition depend neither on patients of another partition nor on patients who
    were not drawn. Test slices are always matched; `slices.training_slices` says how the others are
    chosen.

    Returns:
        The columns `partition_FOLD`, `unused` where a slice is left out of a fold; and in words how
        training and validation slices of each fold were chosen.
    """
    usable = table[table["label"] >= -1]
    columns, description = {}, {}
    for fold, use_of in uses_by_fold.items():
        column = np.full(len(table), "unused", dtype=object)
        groups = group_by_partition(usable, use_of)
        test = groups.pop("test")
        column[test.index.to_numpy()[keep_matched(test, config)]] = "test"
        chosen, description[fold] = choose_train_and_val(groups, config)
        for partition, keep in chosen.items():
            column[groups[partition].index.to_numpy()[keep]] = partition
        columns[f"partition_{fold}"] = column
    return pd.DataFrame(columns, index=table.index).astype("str"), description


def train_and_val_slices(
    table: pd.DataFrame, use_of: dict[str, PatientUse], config: Slices
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the training and validation slices that `select_slices` chooses in one fold."""
    groups = group_by_partition(table[table["label"] >= -1], use_of)
    keep, _ = choose_train_and_val(groups, config)
    return groups["train"][keep["train"]], groups["val"][keep["val"]]


def group_by_partition(
    table: pd.DataFrame, use_of: dict[str, PatientUse]
) -> dict[PatientUse, pd.DataFrame]:
    """Return the slices of training, validation and test patients."""
    of_patient = table["subject"].map(use_of).replace("unlabelled", "train")
    return {partition: table[of_patient == partition] for partition in (*TRAIN_AND_VAL, "test")}


def choose_train_and_val(
    groups: dict[PatientUse, pd.DataFrame], config: Slices
) -> tuple[dict[PatientUse, NDArray[np.bool_]], str]:
    """Choose training and validation slices: (N,) of each group, and how, in words.

    `auto` takes the strictest of the selections that give the gate most of the slices it needs.
    """
    best: tuple[dict[PatientUse, NDArray[np.bool_]], str] | None = None
    highest = -1
    counted = {part: CountedSlices.of_table(groups[part]) for part in TRAIN_AND_VAL}
    for keep, description in iterate_selections(groups, config):
        train, val = (counted[part].select(keep[part]) for part in TRAIN_AND_VAL)
        if (count := count_needed_slices(train, val)) > highest:
            best, highest = (keep, description), count
    assert best is not None
    return best


def iterate_selections(
    groups: dict[PatientUse, pd.DataFrame], config: Slices
) -> Iterator[tuple[dict[PatientUse, NDArray[np.bool_]], str]]:
    """Yield the selections that `slices.training_slices` allows, the strictest first."""
    if config.training_slices != "in-range":
        yield (
            {partition: keep_matched(groups[partition], config) for partition in TRAIN_AND_VAL},
            "matched",
        )
    if config.training_slices == "matched":
        return
    tumors = pd.concat(
        [groups[partition][groups[partition]["label"] == 1] for partition in TRAIN_AND_VAL]
    )
    covariates = tumor_range(tumors)
    yield keep_in_range(groups, covariates, config.caliper)
    if config.training_slices == "in-range":
        return
    # Far from the tumours' range slices are almost empty, and look alike in every patient.
    least = tumors["brain_area_mm2"].min() / 2
    with_brain = {
        partition: (group["brain_area_mm2"] >= least).to_numpy()
        for partition, group in groups.items()
    }
    for times in WIDER_CALIPERS:
        keep, description = keep_in_range(groups, covariates, times * config.caliper)
        yield (
            {partition: keep[partition] & with_brain[partition] for partition in TRAIN_AND_VAL},
            description,
        )
    yield with_brain, "all that show half as much brain as tumour slices"


def keep_in_range(
    groups: dict[PatientUse, pd.DataFrame], tumors: TumorRange, caliper: float
) -> tuple[dict[PatientUse, NDArray[np.bool_]], str]:
    """Return which slices of each group (N,) lie in the tumours' range, and the words for it."""
    keep = {
        partition: keep_in_tumor_range(groups[partition], tumors, caliper=caliper)
        for partition in TRAIN_AND_VAL
    }
    return keep, f"in-range, caliper {caliper:g}"


def keep_matched(group: pd.DataFrame, config: Slices) -> NDArray[np.bool_]:
    """Return which slices of a group (N,) remain when each tumour slice needs a partner."""
    return match_in_blocks(
        group,
        ratio=config.negatives_per_positive,
        caliper=config.caliper,
        keep_unmatched=config.unmatched_tumors == "keep",
    )
