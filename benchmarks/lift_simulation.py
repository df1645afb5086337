"""Simulate false lifts and coverage of `lift`: no arm is better than another.

    python -m benchmarks.lift_simulation --rounds 1000

Every row is a study: a number of test patients, seeds and arms, and what may be wrong with them. A
round simulates new patients and networks, and is evaluated in this process by the code of `python
-m tasks.lift`; one round of each task also goes through the files of `data/downstream` and that
command, and must give the same figures.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import yaml

from benchmarks.simulated_studies import POWER, STUDIES, THROUGH_FILES, Study
from tasks.lift import compare as stage
from tasks.lift.compare import PRIMARY_METRIC, Comparison
from tasks.lift.downstream_results import ArmResult, ArmTables, results_on_common_seeds
from tasks.lift.patient_metrics import MeanMetric, PatientMetric, RunPatientAxes, count_auroc_pairs
from tasks.params.lift import Lift
from tasks.schemas.lift import CONVERGED, TrainingSummary

MEAN = 0.5  # Dice of every arm
PATIENTS_SD, OWN_WAY_SD = 0.12, 0.03  # of patients' Dice, and of each arm's way with a patient
SEED_SD, NOISE_SD = 0.02, 0.05  # common to the arms of a seed; of a network's way with a patient
MAX_SILENT_ROUNDS = 50  # rounds, after which a study that is always refused is believed to be
HEALTHY_SLICES = TUMOR_SLICES = 6  # of each patient of `classify`


def main() -> None:
    """Print the tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=1000, help="bootstrap draws of a round")
    parser.add_argument("--only", default="", help="rows whose name holds this")
    parser.add_argument("--unchecked", action="store_true", help="leave the files out")
    options = parser.parse_args()
    for study in STUDIES:
        if study.name in THROUGH_FILES and not options.unchecked:
            check_through_files(study, Lift(draws=options.draws))
    for studies, make_row in ((STUDIES, false_lift_row), (POWER, power_row)):
        chosen = [study for study in studies if options.only in study.name]
        rows = []
        for study in chosen:
            rows.append(
                make_row(study, simulate(study, rounds=options.rounds, draws=options.draws))
            )
            print(*rows[-1].values(), sep=" | ", file=sys.stderr, flush=True)
        print(pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True), "\n", flush=True)


def simulate(study: Study, *, rounds: int, draws: int) -> list[Comparison]:
    """Compare new patients and networks each round; few rounds where no figure is ever given."""
    comparisons: list[Comparison] = []
    for number in range(rounds):
        comparisons.append(compare_round(study, simulate_tables(study, number), Lift(draws=draws)))
        if number + 1 == MAX_SILENT_ROUNDS and not any(map(claims_or_measures, comparisons)):
            break
    return comparisons


def claims_or_measures(comparison: Comparison) -> bool:
    """Return whether a claim or any interval of a lift was given."""
    figures = (figure for arms in comparison.figures.values() for figure in arms.values())
    return comparison.claim != "not measured" or any(figure.lift_ci95 for figure in figures)


def compare_round(study: Study, tables: dict[str, ArmTables], config: Lift) -> Comparison:
    """Compare the arms of one round as the stage does, by the primary metric alone."""
    if study.fails:
        results = results_on_common_seeds(study.task, tables, range(study.seeds))
        arms, seeds = results.arms, results.seeds
    else:
        axes = RunPatientAxes.from_table(next(iter(tables.values())).patients)
        arms = {arm: arm_result(study, arm, arm_tables, axes) for arm, arm_tables in tables.items()}
        seeds = study.seeds
    # The sign-flip test decides nothing, and takes most of the time.
    with mock.patch.object(stage, "sign_flip_test", return_value=None):
        return stage.compare_arms(study.task, arms, config, seeds=seeds)


def arm_result(study: Study, arm: str, tables: ArmTables, axes: RunPatientAxes) -> ArmResult:
    """Make an arm's primary metric, as `tasks.lift.downstream_results` computes it."""
    metric = PRIMARY_METRIC[study.task]
    if study.task == "classify":
        patient_metric: PatientMetric = count_auroc_pairs(tables.slices, axes)
    else:
        value = tables.patients["value"].to_numpy().reshape(len(axes.runs), -1)
        patient_metric = MeanMetric(value, np.ones_like(value))
    dead = arm in study.dead
    summary = TrainingSummary(
        validation=0.7, flat=True, failed_seeds=list(range(study.seeds)) if dead else []
    )
    return ArmResult("not converged" if dead else "ok", axes, {metric: patient_metric}, {}, summary)


def simulate_tables(study: Study, number: int) -> dict[str, ArmTables]:
    """Simulate a round's predictions of test patients, as `data/downstream` holds them."""
    rng = np.random.default_rng([number, study.patients, study.seeds])
    seeds = range(study.seeds + study.reruns)
    simulate_task = simulate_dice if study.task == "segment" else simulate_predictions
    of_arm = simulate_task(study, len(seeds), rng)
    tables = {}
    for arm in study.arms:
        failed = np.full(len(seeds), arm in study.dead) | (rng.random(len(seeds)) < study.fails)
        runs = pd.DataFrame({"fold": "0", "seed": seeds, "val_metric": 0.7, "rise": 0.0})
        patients, slices = of_arm(arm, failed)
        tables[arm] = ArmTables("ok", patients, slices, runs.assign(learnt=~failed))
    return tables


OfArm = Callable[[str, np.ndarray], tuple[pd.DataFrame, pd.DataFrame]]


def simulate_dice(study: Study, seeds: int, rng: np.random.Generator) -> OfArm:
    """Simulate Dice of every patient and network; the outlines are one slice a patient."""
    count = study.patients
    level = rng.normal(MEAN, PATIENTS_SD, count)
    common = SEED_SD * rng.normal(size=(seeds, 1))
    keys = pd.DataFrame(
        {
            "fold": "0",
            "seed": np.repeat(range(seeds), count),
            "subject": subject_names(count) * seeds,
        }
    )
    area = np.tile(np.arange(count) + 10, seeds)
    slices = keys.assign(
        row=np.tile(np.arange(count), seeds), label=1, true_area=area, predicted_area=area,
        overlap_area=area, hd95_mm=0.0, threshold=0.5,
    )  # fmt: skip

    def of_arm(arm: str, failed: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
        between = study.spread.get(arm, study.spread[""]) * rng.normal(size=(seeds, 1))
        patient_response = OWN_WAY_SD * rng.normal(size=count)
        noise = NOISE_SD * rng.normal(size=(seeds, count))
        gain = study.lift * ("synthetic" in arm and arm != "synthetic")
        value = np.clip(level + gain + patient_response + common + between + noise, 0, 1)
        value[failed] = 0.0
        patients = keys.assign(site="a", metric="dice_volume", value=value.ravel())
        return patients, slices

    return of_arm


def simulate_predictions(study: Study, seeds: int, rng: np.random.Generator) -> OfArm:
    """Simulate probabilities of slices with and without tumour; patients differ in appearance."""
    labels_of_slices, patient_of_slice = [], []
    for position in range(study.patients):
        labels = [0] * HEALTHY_SLICES + [1] * (
            TUMOR_SLICES if position < (study.tumors or 0) else 0
        )
        patient_of_slice += [position] * len(labels)
        labels_of_slices += labels
    label, patient = np.array(labels_of_slices), np.array(patient_of_slice)
    level = rng.normal(0, 0.7, study.patients)[patient] + rng.normal(0, 0.7, len(label))
    rows = pd.DataFrame(
        {"subject": np.array(subject_names(study.patients))[patient], "row": np.arange(len(label)),
         "label": label, "true_area": 10 * label, "threshold": 0.5}
    )  # fmt: skip
    table = pd.concat([rows.assign(fold="0", seed=seed) for seed in range(seeds)])

    def of_arm(arm: str, failed: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
        patient_response = rng.normal(0, 0.3, study.patients)[patient]
        shift = 1.5 + 10 * study.spread.get(arm, study.spread[""]) * rng.normal(size=(seeds, 1))
        logit = label * shift + level + patient_response + rng.normal(0, 0.5, (seeds, len(label)))
        slices = table.assign(probability=1 / (1 + np.exp(-logit.ravel())))
        patients = slices[["fold", "seed", "subject"]].drop_duplicates()
        return patients.assign(site="a", metric="brier", value=0.2), slices

    return of_arm


def subject_names(count: int) -> list[str]:
    """Return the patients' names."""
    return [f"sub-{position:03d}" for position in range(count)]


def check_through_files(study: Study, config: Lift) -> None:
    """Run `python -m tasks.lift` on the tables, and compare its figures with those in process.

    Raises:
        ValueError: the figures differ.
    """
    root, tables = Path(__file__).parents[1], simulate_tables(study, 0)
    downstream = {
        "tasks": [study.task],
        "arms": list(study.arms),
        "seeds": list(range(study.seeds)),
    }
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "params.yaml").write_text(
            yaml.safe_dump({"downstream": downstream, "lift": config.model_dump()})
        )
        for arm, arm_tables in tables.items():
            folder = work / "data/downstream" / f"{study.task}-{arm}"
            folder.mkdir(parents=True)
            arm_tables.patients.to_parquet(folder / "patients.parquet")
            arm_tables.slices.to_parquet(folder / "predictions.parquet")
            arm_tables.runs.to_parquet(folder / "runs.parquet")
            (folder / "status.json").write_text(json.dumps({"0": "ok"}))
        subprocess.run(
            [sys.executable, "-m", "tasks.lift"],
            cwd=work, check=True, stdout=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": str(root)},
        )  # fmt: skip
        lift = json.loads((work / "data/lift.json").read_text())
    comparison = compare_round(study, tables, config)
    metric = PRIMARY_METRIC[study.task]
    figures = {
        arm: arm_tables.model_dump(mode="json")
        for arm, arm_tables in comparison.figures[metric].items()
    }
    from_files = lift["claim"][study.task], lift["tasks"][study.task][metric]
    if from_files != (comparison.claim, figures):
        raise ValueError(f"{study.name}: the stage says other than the same code in process")


def false_lift_row(study: Study, rounds: list[Comparison]) -> dict[str, Any]:
    """Tabulate how often something false was claimed, and what the intervals hold."""
    metric = PRIMARY_METRIC[study.task]
    live = [arm for arm in study.arms if arm not in study.dead]
    figures_by_round = [comparison.figures[metric] for comparison in rounds]
    lifts = [[f.lift_ci95 for f in figures.values() if f.lift_ci95] for figures in figures_by_round]
    truth = MEAN
    if study.task == "classify":
        means = [figures[arm].mean for figures in figures_by_round for arm in live]
        truth = float(np.mean([mean for mean in means if mean is not None] or [0]))
    intervals = [
        ci for figures in figures_by_round for arm in live
        if (ci := figures[arm].ci95) and figures[arm].status in CONVERGED
    ]  # fmt: skip
    contrasts = [[c.ci95 for c in comparison.contrasts] for comparison in rounds]
    return {
        "study": study.name,
        "patients": study.patients,
        "claim refused": format_share(comparison.claim == "not measured" for comparison in rounds),
        "false claims": format_share(
            comparison.claim in ("helps", "harms") for comparison in rounds
        ) if any(comparison.claim != "not measured" for comparison in rounds) else "-",
        "a lift's interval without 0": format_share(
            any(map(excludes_zero, ci)) for ci in lifts if ci
        ),
        "a contrast's": format_share(any(map(excludes_zero, ci)) for ci in contrasts if ci),
        "an arm's interval holds its mean": format_share(
            low <= truth <= high for low, high in intervals
        ),
    }  # fmt: skip


def power_row(study: Study, rounds: list[Comparison]) -> dict[str, Any]:
    """Tabulate how often a true lift was claimed, and how wide the intervals are."""
    half = [(c.ci95[1] - c.ci95[0]) / 2 for comparison in rounds for c in comparison.contrasts]
    return {
        "study": study.name,
        "helps": format_share(comparison.claim == "helps" for comparison in rounds),
        "half a contrast's interval, median": f"{np.median(half):.3f}",
    }


def excludes_zero(interval: tuple[float, float]) -> bool:
    """Return whether an interval excludes 0."""
    return interval[0] > 0 or interval[1] < 0


def format_share(flags: Iterable[bool]) -> str:
    """Format a share in per cent; a dash without values."""
    values = list(flags)
    return f"{100 * np.mean(values):.1f} %" if values else "-"


if __name__ == "__main__":
    main()
