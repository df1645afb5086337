"""What the downstream stages left of a task's arms, with the seeds on which all arms stand."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.common.arms import Arm
from tasks.lift import patient_metrics
from tasks.lift.patient_metrics import Axes, Measure
from tasks.schemas.lift import SOUND, Status, Trained
from tasks.schemas.predictions import ClassifyPredictions, Patients, Runs, SegmentPredictions
from tasks.stage.stage_io import explain_read_errors

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

    @property
    def sound(self) -> bool:
        """Whether all networks behind the figures learnt something."""
        return self.status in SOUND


@dataclass(frozen=True)
class TaskResults:
    """The arms of a task.

    Attributes:
        arms: by name, those that stand apart too.
        left_out: the seeds left out of all arms, and the arms that failed with each.
        seeds: how many the compared arms share.
    """

    arms: dict[str, ArmResult]
    left_out: dict[int, list[str]]
    seeds: int = 0


def read_task_results(task: str, arms: Sequence[str], seeds: Sequence[int]) -> TaskResults:
    """The arms of a task in `data/downstream`; arguments as `on_common_seeds` has them."""
    return on_common_seeds(task, {arm: load(task, arm) for arm in arms}, seeds)


def on_common_seeds(task: str, tables: Mapping[str, Tables], seeds: Sequence[int]) -> TaskResults:
    """The arms of a task as measures, on common seeds.

    Args:
        task: its name.
        tables: of each arm.
        seeds: those asked for; the tables may hold spare ones behind them.
    """
    compared = {
        name: one
        for name, one in tables.items()
        if one.status == "ok" and not Arm.parse(name).is_diagnostic
    }
    chosen, left_out = common_seeds(compared, len(seeds))
    return TaskResults(
        {
            name: measured(task, one, chosen if name in compared else None, seeds)
            for name, one in tables.items()
        },
        left_out,
        len(chosen) if compared else 0,
    )


def load(task: str, arm: str) -> Tables:
    """One arm's tables."""
    folder = DOWNSTREAM / f"{task}-{arm}"
    with explain_read_errors(folder / "status.json"):
        said: dict[str, str] = json.loads((folder / "status.json").read_text())
    shorts: tuple[Status, ...] = ("too few", "not run")
    status: Status = next((short for short in shorts if short in said.values()), "ok")
    schema = ClassifyPredictions if task == "classify" else SegmentPredictions
    schemas = {"patients": Patients, "predictions": schema, "runs": Runs}
    found = {}
    for name, of in schemas.items():
        with explain_read_errors(folder / f"{name}.parquet"):
            found[name] = of.validate(pd.read_parquet(folder / f"{name}.parquet"))
    return Tables(status, found["patients"], found["predictions"], found["runs"])


def common_seeds(arms: Mapping[str, Tables], count: int) -> tuple[list[int], dict[int, list[str]]]:
    """The first `count` seeds with which every arm learnt, and those passed over for it.

    A seed that failed in one arm is left out of all, so that differences stay paired. An arm
    that failed with every seed says something of itself and not of its seeds: it keeps its
    figures, is marked, and costs the others nothing. Neither does one that no claim is read off
    (`synthetic` alone) where no spare seed stands in. When no seed would be left, all arms keep
    theirs, and those that failed are marked.

    Args:
        arms: the tables of those that were trained.
        count: seeds asked for.

    Returns:
        The seeds, and the arms that failed with each seed passed over.
    """
    seeds = sorted({seed for one in arms.values() for seed in one.runs["seed"]})
    failed = {
        name: one.failed() for name, one in arms.items() if one.failed() < set(one.runs["seed"])
    }
    decisive = {name: of for name, of in failed.items() if Arm.parse(name).real}
    for failures in (failed, decisive):
        good = [seed for seed in seeds if not any(seed in of for of in failures.values())]
        if len(good) >= count:
            break
    if not good:
        return seeds[:count], {}
    chosen = good[:count]
    last = max(chosen[-1], *seeds[:count])
    passed = [seed for seed in seeds if seed not in good and seed <= last]
    return chosen, {seed: [name for name, of in failures.items() if seed in of] for seed in passed}


def measured(
    task: str, tables: Tables, chosen: Sequence[int] | None, asked: Sequence[int]
) -> ArmResult:
    """One arm's tables as measures.

    Args:
        task: its name.
        tables: of all seeds.
        chosen: the seeds to measure by; None: all.
        asked: the seeds that were asked for, without spare ones.
    """
    if tables.status != "ok":
        return ArmResult(tables.status, None, {}, {})
    used = tables if chosen is None else tables.of(chosen)
    axes = Axes.of(used.patients)
    if task == "classify":
        found = patient_metrics.classify(used.slices, axes)
    else:
        found = patient_metrics.segment(used.patients, axes)
    groups = by_site(used.patients, axes) | by_size(used.slices, axes)
    failed = tables.failed()
    status: Status = "ok"
    if used.failed():
        status = "not converged"
    elif chosen is not None and failed & set(asked) and len(chosen) < len(asked):
        status = "seed failed"
    rise = used.runs["rise"].mean()
    trained = Trained(
        validation=float(used.runs["val_metric"].mean()),
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
