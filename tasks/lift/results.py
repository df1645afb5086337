"""What the downstream stages left of a task's arms, with the seeds on which all arms stand."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.arms import Arm
from tasks.lift import measures
from tasks.lift.measures import Axes, Measure
from tasks.stage import reading
from tasks.tables.lift import Status, Trained
from tasks.tables.predictions import ClassifyPredictions, Patients, Runs, SegmentPredictions

DOWNSTREAM = Path("data/downstream")
FLAT = 0.02  # of AUROC or Dice, that the last fifth of the steps may still gain
Groups = dict[str, dict[str, NDArray[np.bool_]]]


@dataclass(frozen=True)
class Tables:
    """One arm's tables; `status` is not `ok` where there is nothing in them."""

    status: Status
    patients: pd.DataFrame
    slices: pd.DataFrame
    runs: pd.DataFrame

    def of(self, seeds: Sequence[int]) -> "Tables":
        """Those of some seeds only."""
        parts = (self.patients, self.slices, self.runs)
        return Tables(self.status, *(part[part["seed"].isin(seeds)] for part in parts))

    def failed(self) -> set[int]:
        """Seeds with which the network learnt nothing, in one fold at least."""
        return set(self.runs.loc[~self.runs["learnt"], "seed"])


@dataclass(frozen=True)
class ArmResult:
    """One arm's tables as measures, or why there are none.

    `groups` are the patients (P,) of each site and of each size of tumour.
    """

    status: Status
    axes: Axes | None
    measures: dict[str, Measure]
    groups: Groups
    trained: Trained | None = None


@dataclass(frozen=True)
class TaskResults:
    """The arms of a task; `left_out` are the seeds that failed in some arm, and in which."""

    arms: dict[str, ArmResult]
    left_out: dict[int, list[str]]


def read(task: str, arms: Sequence[str], seeds: Sequence[int]) -> TaskResults:
    """The arms of a task on common seeds.

    Args:
        task: its name.
        arms: their names.
        seeds: those asked for; the tables may hold spare ones behind them.
    """
    tables = {arm: load(task, arm) for arm in arms}
    compared = {name: one for name, one in tables.items() if not Arm.parse(name).apart}
    chosen, left_out = common_seeds(compared, len(seeds))
    return TaskResults(
        {
            name: measured(task, one.of(chosen) if name in compared else one)
            for name, one in tables.items()
        },
        left_out,
    )


def load(task: str, arm: str) -> Tables:
    """One arm's tables."""
    folder = DOWNSTREAM / f"{task}-{arm}"
    with reading(folder / "status.json"):
        said: dict[str, str] = json.loads((folder / "status.json").read_text())
    shorts: tuple[Status, ...] = ("too few", "not run")
    status: Status = next((short for short in shorts if short in said.values()), "ok")
    schema = ClassifyPredictions if task == "classify" else SegmentPredictions
    schemas = {"patients": Patients, "predictions": schema, "runs": Runs}
    found = {}
    for name, of in schemas.items():
        with reading(folder / f"{name}.parquet"):
            found[name] = of.validate(pd.read_parquet(folder / f"{name}.parquet"))
    return Tables(status, found["patients"], found["predictions"], found["runs"])


def common_seeds(arms: Mapping[str, Tables], count: int) -> tuple[list[int], dict[int, list[str]]]:
    """The first `count` seeds with which every arm learnt, and those passed over for it.

    A seed that failed in one arm is left out of all, so that differences stay paired. An arm
    that failed with every seed says something of itself and not of its seeds: it keeps its
    figures, is marked, and costs the others nothing. So do all arms when no seed would be left.
    """
    seeds = sorted({seed for one in arms.values() for seed in one.runs["seed"]})
    failed = {
        name: one.failed() for name, one in arms.items() if one.failed() < set(one.runs["seed"])
    }
    good = [seed for seed in seeds if not any(seed in of for of in failed.values())]
    if not good:
        return seeds[:count], {}
    chosen = good[:count]
    passed = [
        seed for seed in seeds if seed not in good and seed < max(chosen[-1], seeds[count - 1])
    ]
    return chosen, {seed: [name for name, of in failed.items() if seed in of] for seed in passed}


def measured(task: str, tables: Tables) -> ArmResult:
    """One arm's tables as measures."""
    if tables.status != "ok":
        return ArmResult(tables.status, None, {}, {})
    axes = Axes.of(tables.patients)
    if task == "classify":
        found = measures.classify(tables.slices, axes)
    else:
        found = measures.segment(tables.patients, axes)
    groups = by_site(tables.patients, axes) | by_size(tables.slices, axes)
    failed = tables.failed()
    status: Status = "not converged" if failed else "ok"
    rise = tables.runs["rise"].mean()
    trained = Trained(
        validation=float(tables.runs["val_metric"].mean()),
        rise=None if np.isnan(rise) else float(rise),
        flat=None if np.isnan(rise) else bool(rise <= FLAT),
        failed_seeds=sorted(failed),
    )
    return ArmResult(status, axes, found, groups, trained)


def by_site(patients: pd.DataFrame, axes: Axes) -> Groups:
    """The patients of each site."""
    site = patients.groupby("subject")["site"].first().reindex(axes.patients).to_numpy()
    return {"site": {str(name): site == name for name in sorted(set(site))}}


def by_size(slices: pd.DataFrame, axes: Axes) -> Groups:
    """The halves of the tumour patients with the smaller and with the larger tumours."""
    drawn = slices.drop_duplicates(["subject", "row"]).groupby("subject")["true_area"].sum()
    area = drawn.reindex(axes.patients).fillna(0).to_numpy(dtype=float)
    if not (area > 0).any():
        return {}
    middle = np.median(area[area > 0])
    return {"tumor_size": {"smaller": (area > 0) & (area <= middle), "larger": area > middle}}
