"""Which slices of each patient are kept, on each side of each fold."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.common.gate_requirements import count_needed_slices
from tasks.params.slices import Slices
from tasks.slices.patient_split import FITTED, PartitionOrUnused
from tasks.slices.position_matching import (
    TumorRange,
    keep_in_tumor_range,
    match_in_blocks,
    tumor_range,
)

COUNTED = ["subject", "label", "mask_known"]  # columns that the gate's needs are counted in
WIDER = (2, 4, 8, 16)  # times slices.caliper


def select_slices(
    table: pd.DataFrame, sides: dict[str, dict[str, PartitionOrUnused]], config: Slices
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Choose the slices of every fold; negatives are matched inside each side of each fold.

    So no side's choice of slices depends on patients of another side, nor on patients who were not
    drawn. Test slices are always matched; `slices.training_slices` says how the others are chosen.

    Returns:
        The columns `partition_FOLD`, `unused` where a slice is left out of a fold; and in words how
        training and validation slices of each fold were chosen.
    """
    usable = table[table["label"] >= -1]
    columns, description = {}, {}
    for fold, side_of in sides.items():
        partition = np.full(len(table), "unused", dtype=object)
        groups = group_by_partition(usable, side_of)
        test = groups.pop("test")
        partition[test.index.to_numpy()[keep_matched(test, config)]] = "test"
        chosen, description[fold] = choose_train_and_val(groups, config)
        for side, keep in chosen.items():
            partition[groups[side].index.to_numpy()[keep]] = side
        columns[f"partition_{fold}"] = partition
    return pd.DataFrame(columns, index=table.index).astype("str"), description


def fitted_slices(
    table: pd.DataFrame, side_of: dict[str, PartitionOrUnused], config: Slices
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the training and validation slices that `select_slices` chooses in one fold."""
    groups = group_by_partition(table[table["label"] >= -1], side_of)
    keep, _ = choose_train_and_val(groups, config)
    return groups["train"][keep["train"]], groups["val"][keep["val"]]


def group_by_partition(
    table: pd.DataFrame, side_of: dict[str, PartitionOrUnused]
) -> dict[PartitionOrUnused, pd.DataFrame]:
    """Return the slices of training, validation and test patients."""
    of_patient = table["subject"].map(side_of).replace("unlabelled", "train")
    return {side: table[of_patient == side] for side in (*FITTED, "test")}


def choose_train_and_val(
    groups: dict[PartitionOrUnused, pd.DataFrame], config: Slices
) -> tuple[dict[PartitionOrUnused, NDArray[np.bool_]], str]:
    """Choose training and validation slices: (N,) of each group, and how, in words.

    `auto` takes the strictest of the selections that give the gate most of the slices it needs.
    """
    best: tuple[dict[PartitionOrUnused, NDArray[np.bool_]], str] | None = None
    most = -1
    counted = {side: group[group.columns.intersection(COUNTED)] for side, group in groups.items()}
    for keep, description in iterate_selections(groups, config):
        kept = [labelled(counted[side][keep[side]]) for side in FITTED]
        if (count := count_needed_slices(*kept)) > most:
            best, most = (keep, description), count
    assert best is not None
    return best


def labelled(slices: pd.DataFrame) -> pd.DataFrame:
    """Return the slices of which somebody said whether they show tumour."""
    return slices[slices["label"] >= 0]


def iterate_selections(
    groups: dict[PartitionOrUnused, pd.DataFrame], config: Slices
) -> Iterator[tuple[dict[PartitionOrUnused, NDArray[np.bool_]], str]]:
    """Yield the selections that `slices.training_slices` allows, the strictest first."""
    if config.training_slices != "in-range":
        yield {side: keep_matched(groups[side], config) for side in FITTED}, "matched"
    if config.training_slices == "matched":
        return
    tumors = pd.concat([groups[side][groups[side]["label"] == 1] for side in FITTED])
    covariates = tumor_range(tumors)
    yield keep_in_range(groups, covariates, config.caliper)
    if config.training_slices == "in-range":
        return
    # Far from the tumours' range slices are almost empty, and look alike in every patient.
    least = tumors["brain_area_mm2"].min() / 2
    shown = {side: (group["brain_area_mm2"] >= least).to_numpy() for side, group in groups.items()}
    for times in WIDER:
        keep, description = keep_in_range(groups, covariates, times * config.caliper)
        yield {side: keep[side] & shown[side] for side in FITTED}, description
    yield shown, "all that show half as much brain as tumour slices"


def keep_in_range(
    groups: dict[PartitionOrUnused, pd.DataFrame], tumors: TumorRange, caliper: float
) -> tuple[dict[PartitionOrUnused, NDArray[np.bool_]], str]:
    """Return which slices of each group (N,) lie in the tumours' range, and the words for it."""
    keep = {side: keep_in_tumor_range(groups[side], tumors, caliper=caliper) for side in FITTED}
    return keep, f"in-range, caliper {caliper:g}"


def keep_matched(group: pd.DataFrame, config: Slices) -> NDArray[np.bool_]:
    """Return which slices of a group (N,) remain when each tumour slice needs a partner."""
    return match_in_blocks(
        group,
        ratio=config.negatives_per_positive,
        caliper=config.caliper,
        keep_unmatched=config.unmatched_tumors == "keep",
    )
