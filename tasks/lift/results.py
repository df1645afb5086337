"""One arm's tables, as measures over the patients that it was tested on."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.lift import measures
from tasks.lift.measures import Axes, Measure
from tasks.tables.lift import Status
from tasks.tables.predictions import ClassifyPredictions, Patients, SegmentPredictions

DOWNSTREAM = Path("data/downstream")
Groups = dict[str, dict[str, NDArray[np.bool_]]]


@dataclass(frozen=True)
class ArmResult:
    """One arm's tables as measures, or why there are none.

    `groups` are the patients (P,) of each site and, where it is known, of each size of tumour.
    """

    status: Status
    axes: Axes | None
    measures: dict[str, Measure]
    groups: Groups


def read(task: str, arm: str) -> ArmResult:
    """One arm's tables as measures."""
    folder = DOWNSTREAM / f"{task}-{arm}"
    status: dict[str, str] = json.loads((folder / "status.json").read_text())
    shorts: tuple[Status, ...] = ("too few", "not run")
    for short in shorts:
        if short in status.values():
            return ArmResult(short, None, {}, {})
    patients = Patients.validate(pd.read_parquet(folder / "patients.parquet"))
    axes = Axes.of(patients)
    slices = pd.read_parquet(folder / "predictions.parquet")
    groups = by_site(patients, axes)
    if task == "classify":
        found = measures.classify(ClassifyPredictions.validate(slices), axes)
    else:
        found = measures.segment(patients, axes)
        groups |= by_size(SegmentPredictions.validate(slices), axes)
    converged = "not converged" not in status.values()
    return ArmResult("ok" if converged else "not converged", axes, found, groups)


def by_site(patients: pd.DataFrame, axes: Axes) -> Groups:
    """The patients of each site."""
    site = patients.groupby("subject")["site"].first().reindex(axes.patients).to_numpy()
    return {"site": {str(name): site == name for name in sorted(set(site))}}


def by_size(slices: pd.DataFrame, axes: Axes) -> Groups:
    """The halves of the tumour patients with the smaller and with the larger tumours."""
    drawn = slices.drop_duplicates(["subject", "row"]).groupby("subject")["true_area"].sum()
    area = drawn.reindex(axes.patients).to_numpy(dtype=float)
    if not (area > 0).any():
        return {}
    middle = np.median(area[area > 0])
    return {"tumor_size": {"smaller": (area > 0) & (area <= middle), "larger": area > middle}}
