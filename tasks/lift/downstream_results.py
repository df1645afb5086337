"""Read the downstream stages' results of a task's arms, on the seeds that all arms share."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.common.arms import Arm
from tasks.lift import patient_metrics
from tasks.lift.patient_metrics import PatientMetric, RunPatientAxes
from tasks.schemas.lift import CONVERGED, Status, TrainingSummary
from tasks.schemas.predictions import (
    ClassifyPredictions,
    PatientScores,
    RunOutcomes,
    SegmentPredictions,
)
from tasks.stage.stage_io import explain_read_errors

DOWNSTREAM = Path("data/downstream")
MAX_LATE_RISE = 0.02  # of AUROC or Dice in the last fifth of the steps, for a flat curve
Groups = dict[str, dict[str, NDArray[np.bool_]]]


@dataclass(frozen=True)
class ArmTables:
    """One arm's tables; `status` is not `ok` where they are empty."""

    status: Status
    patients: pd.DataFrame
    slices: pd.DataFrame
    runs: pd.DataFrame

    def with_seeds(self, seeds: Sequence[int]) -> "ArmTables":
        """Return the tables of some seeds only."""
        parts = (self.patients, self.slices, self.runs)
        return ArmTables(self.status, *(part[part["seed"].isin(seeds)] for part in parts))

    def failed_seeds(self) -> set[int]:
        """Return the seeds with which the network learnt nothing, in at least one fold."""
        return set(self.runs.loc[~self.runs["learnt"], "seed"])


@dataclass(frozen=True)
class ArmResult:
    """One arm's metrics, or why there are none.

    `groups` are the patients (P,) of each site and of each size of tumour.
    """

    status: Status
    axes: RunPatientAxes | None
    metrics: dict[str, PatientMetric]
    groups: Groups
    trained: TrainingSummary | None = None

    @property
    def converged(self) -> bool:
        """Whether all networks behind the figures learnt something."""
        return self.status in CONVERGED


@dataclass(frozen=True)
class TaskResults:
    """The arms of a task.

    Attributes:
        arms: by name, diagnostic arms too.
        left_out: the seeds left out of all arms, and the arms that failed with each.
        seeds: number of seeds that the compared arms share.
    """

    arms: dict[str, ArmResult]
    left_out: dict[int, list[str]]
    seeds: int = 0


def read_task_results(task: str, arms: Sequence[str], seeds: Sequence[int]) -> TaskResults:
    """Read the arms of a task in `data/downstream`; arguments as in `results_on_common_seeds`."""
    return results_on_common_seeds(task, {arm: read_arm_tables(task, arm) for arm in arms}, seeds)


def results_on_common_seeds(
    task: str, tables: Mapping[str, ArmTables], seeds: Sequence[int]
) -> TaskResults:
    """Compute the metrics of a task's arms on common seeds.

    Args:
        task: its name.
        tables: of each arm.
        seeds: the requested ones; the tables may hold further, spare ones.
    """
    compared = {
        name: arm_tables
        for name, arm_tables in tables.items()
        if arm_tables.status == "ok" and not Arm.parse(name).is_diagnostic
    }
    chosen, left_out = common_seeds(compared, len(seeds))
    return TaskResults(
        {
            name: summarise_arm(task, arm_tables, chosen if name in compared else None, seeds)
            for name, arm_tables in tables.items()
        },
        left_out,
        len(chosen) if compared else 0,
    )


def read_arm_tables(task: str, arm: str) -> ArmTables:
    """Read one arm's tables."""
    folder = DOWNSTREAM / f"{task}-{arm}"
    with explain_read_errors(folder / "status.json"):
        status_by_fold: dict[str, str] = json.loads((folder / "status.json").read_text())
    incomplete: tuple[Status, ...] = ("too few", "not run")
    status: Status = next((name for name in incomplete if name in status_by_fold.values()), "ok")
    if "not applicable" in status_by_fold.values():  # in some folds alone: it could not be compared
        status = "not applicable" if len(set(status_by_fold.values())) == 1 else "too few"
    predictions_schema = ClassifyPredictions if task == "classify" else SegmentPredictions
    schemas = {"patients": PatientScores, "predictions": predictions_schema, "runs": RunOutcomes}
    tables = {}
    for name, schema in schemas.items():
        with explain_read_errors(folder / f"{name}.parquet"):
            tables[name] = schema.validate(pd.read_parquet(folder / f"{name}.parquet"))
    return ArmTables(status, tables["patients"], tables["predictions"], tables["runs"])


def common_seeds(
    arms: Mapping[str, ArmTables], count: int
) -> tuple[list[int], dict[int, list[str]]]:
    """Find the first `count` seeds with which every arm learnt, and those skipped before.

    A seed that failed in one arm is left out of all, so that differences stay paired. If an arm
    fails with every seed, the arm is the cause and not the seed: it keeps its figures, is marked,
    and costs the others nothing. The same holds for an arm that decides no claim (`synthetic`
    alone) where no spare seed can replace the failed one. When no seed would be left, all arms
    keep theirs, and those that failed are marked.

    Args:
        arms: the tables of those that were trained.
        count: number of requested seeds.

    Returns:
        The seeds, and the arms that failed with each skipped seed.
    """
    seeds = sorted({seed for tables in arms.values() for seed in tables.runs["seed"]})
    failed = {
        name: tables.failed_seeds()
        for name, tables in arms.items()
        if tables.failed_seeds() < set(tables.runs["seed"])
    }
    decisive = {name: seeds_of_arm for name, seeds_of_arm in failed.items() if Arm.parse(name).real}
    for failures in (failed, decisive):
        good = [
            seed
            for seed in seeds
            if not any(seed in seeds_of_arm for seeds_of_arm in failures.values())
        ]
        if len(good) >= count:
            break
    if not good:
        return seeds[:count], {}
    chosen = good[:count]
    last = max(chosen[-1], *seeds[:count])
    skipped = [seed for seed in seeds if seed not in good and seed <= last]
    return chosen, {
        seed: [name for name, seeds_of_arm in failures.items() if seed in seeds_of_arm]
        for seed in skipped
    }


def summarise_arm(
    task: str, tables: ArmTables, chosen: Sequence[int] | None, requested: Sequence[int]
) -> ArmResult:
    """Compute one arm's metrics, subgroups and training summary.

    Args:
        task: its name.
        tables: of all seeds.
        chosen: the seeds to evaluate; None: all.
        requested: the requested seeds, without spare ones.
    """
    if tables.status != "ok":
        return ArmResult(tables.status, None, {}, {})
    used = tables if chosen is None else tables.with_seeds(chosen)
    axes = RunPatientAxes.from_table(used.patients)
    if task == "classify":
        metrics = patient_metrics.classification_metrics(used.slices, axes)
    else:
        metrics = patient_metrics.segmentation_metrics(used.patients, axes, used.slices)
    groups = group_by_site(used.patients, axes) | group_by_tumor_size(used.slices, axes)
    failed = tables.failed_seeds()
    status: Status = "ok"
    if used.failed_seeds():
        status = "not converged"
    elif chosen is not None and failed & set(requested) and len(chosen) < len(requested):
        status = "seed failed"
    rise = used.runs["rise"].mean()
    trained = TrainingSummary(
        validation=float(used.runs["val_metric"].mean()),
        rise=None if np.isnan(rise) else float(rise),
        flat=None if np.isnan(rise) else bool(rise <= MAX_LATE_RISE),
        failed_seeds=sorted(failed),
    )
    return ArmResult(status, axes, metrics, groups, trained)


def group_by_site(patients: pd.DataFrame, axes: RunPatientAxes) -> Groups:
    """Group the patients by site."""
    site = patients.groupby("subject")["site"].first().reindex(axes.patients).to_numpy()
    return {"site": {str(name): site == name for name in sorted(set(site))}}


def group_by_tumor_size(slices: pd.DataFrame, axes: RunPatientAxes) -> Groups:
    """Group the tumour patients into the halves with the smaller and with the larger tumours."""
    area_by_patient = (
        slices.drop_duplicates(["subject", "row"]).groupby("subject")["true_area"].sum()
    )
    area = area_by_patient.reindex(axes.patients).fillna(0).to_numpy(dtype=float)
    if not (area > 0).any():
        return {}
    middle = np.median(area[area > 0])
    return {"tumor_size": {"smaller": (area > 0) & (area <= middle), "larger": area > middle}}
