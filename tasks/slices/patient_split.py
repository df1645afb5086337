"""The patient-level split: made once, before any picture is read, and stratified."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.common.slice_set import Partition
from tasks.stage.errors import InputError

PartitionPlan = Partition | Literal["unused"]
FITTED: tuple[PartitionPlan, ...] = ("train", "val")
DRAWS = 1000  # tried before it is said that no draw suits


def split_patients(
    patients: pd.DataFrame,
    *,
    folds: Sequence[str],
    val_fraction: float,
    test_fraction: float,
    train_patients: int,
    draw: int,
    seed: int,
) -> dict[str, dict[str, PartitionPlan]]:
    """Give every patient a side in every fold.

    Args:
        patients: one row a patient: `subject`, `site`, `tumor`, `clear` (has slices without
            tumour), `synthetic` (the last three bool).
        folds: one name makes a hold-out split; with K names each patient is tested once.
        val_fraction: share of all patients that every fold validates on.
        test_fraction: share of all patients that a hold-out split tests on.
        train_patients: how many patients a fold trains and validates on, in the shares of the
            whole; the others are `unused`. 0: all.
        draw: which such patients. The draws are independent; test patients never change.
        seed: draws the order of patients inside a stratum.

    Returns:
        `{fold: {subject: "train" | "val" | "test" | "unused"}}`. Patients made of synthetic slices
        only ever train, and not at all beside drawn patients: they may show others.

    Raises:
        StageError: with fewer patients than asked for, or a side that lacks tumours or slices
            without.
    """
    real = patients[~patients["synthetic"]]
    made = patients.loc[patients["synthetic"], "subject"]
    order = stratified_order(real, seed)
    n, k = len(order), len(folds)
    if n < max(3, k):
        raise InputError(
            f"{n} patients for {k} folds of train, val and test; add patients to the batches of"
            " data.batches or shorten slices.folds"
        )
    if not real["tumor"].any():
        raise InputError(
            "no patient has a tumour in its mask; add batches with segmented tumours to"
            " data.batches (see mask_status in data/volumes/*/manifest.parquet)"
        )
    index = np.arange(n)
    sides: dict[str, dict[str, PartitionPlan]] = {}
    for position, fold in enumerate(folds):
        test = every(n, test_fraction, start=0.5) if k == 1 else index % k == position
        rest = index[~test]
        val = np.zeros(n, dtype=bool)
        val[rest[every(len(rest), val_fraction * n / len(rest), start=0.5)]] = True
        names = np.where(test, "test", np.where(val, "val", "train"))
        side_of: dict[str, PartitionPlan] = dict(zip(order, names.tolist(), strict=True))
        if train_patients:
            pool = real[real["subject"].map(side_of) != "test"]
            drawn = draw_patients(
                pool,
                count=train_patients,
                held_out=int(val.sum()),
                rng=np.random.default_rng([seed, draw, train_patients, position]),
            )
            side_of |= {subject: drawn.get(subject, "unused") for subject in pool["subject"]}
        sides[fold] = side_of | dict.fromkeys(made, "unused" if train_patients else "train")
        require_both(sides[fold], real, fold)
    return sides


def draw_patients(
    pool: pd.DataFrame, *, count: int, held_out: int, rng: np.random.Generator
) -> dict[str, PartitionPlan]:
    """Draw patients to train and validate on, spread over the strata.

    Validation gets the share that `held_out` is of the pool, rounded down, but one patient at
    least. A draw whose sides lack tumours, or slices without, is drawn again.
    """
    if not 2 <= count <= len(pool):
        raise InputError(
            f"slices.train_patients is {count}; expected 0 (all) or 2 to {len(pool)}, the patients"
            " that are not for testing"
        )
    order = pd.Series(stratified_order(pool, rng))
    n_val = max(1, count * held_out // len(pool))
    sides: dict[str, PartitionPlan] = {}
    for _ in range(DRAWS):
        subjects = order[systematic(len(pool), count, int(rng.integers(len(pool))))]
        val = systematic(count, n_val, int(rng.integers(count)))
        sides = dict(zip(subjects, np.where(val, "val", "train").tolist(), strict=True))
        if not partitions_missing_a_class(sides, pool, ("train", "val")):
            break
    return sides


def stratified_order(patients: pd.DataFrame, seed: int | np.random.Generator) -> list[str]:
    """Subjects sorted by stratum (site, tumour), drawn at random inside each.

    Taking every m-th of this order is systematic sampling: each stratum gives its share to
    within one patient.
    """
    drawn = np.random.default_rng(seed).permutation(len(patients))
    table = patients.sort_values("subject").assign(drawn=drawn)
    return list(table.sort_values(["tumor", "site", "drawn"])["subject"])


def every(n: int, fraction: float, *, start: float) -> NDArray[np.bool_]:
    """Choose about `fraction` of n places, evenly spaced; at least one, never all."""
    steps = np.floor(np.arange(n + 1) * fraction + start)
    chosen: NDArray[np.bool_] = np.diff(steps) > 0
    if not chosen.any():
        chosen[n // 2] = True
    if chosen.all():
        chosen[n // 2] = False
    return chosen


def systematic(n: int, count: int, start: int) -> NDArray[np.bool_]:
    """Exactly `count` of n places, evenly spaced; `start` (0 to n - 1) moves them."""
    chosen: NDArray[np.bool_] = np.diff((np.arange(n + 1) * count + start) // n) > 0
    return chosen


def partitions_missing_a_class(
    side_of: dict[str, PartitionPlan], patients: pd.DataFrame, sides: Sequence[PartitionPlan]
) -> list[tuple[PartitionPlan, str]]:
    """Which sides have nobody with a tumour, or nobody with slices without (`tumor`, `clear`)."""
    return [
        (side, kind)
        for kind in ("tumor", "clear")
        for side in sides
        if side not in {side_of.get(s) for s in patients.loc[patients[kind], "subject"]}
    ]


def require_both(side_of: dict[str, PartitionPlan], patients: pd.DataFrame, fold: str) -> None:
    """Refuse a fold with a side that shows tumours only, or none."""
    words = {"tumor": "no tumour patient", "clear": "no patient with slices without tumour"}
    for side, kind in partitions_missing_a_class(side_of, patients, ("train", "val", "test")):
        raise InputError(
            f"fold {fold}: {words[kind]} is left for {side!r} ({int(patients[kind].sum())} such"
            " patients in all); add patients, or change slices.folds, val_fraction, test_fraction"
            " or train_patients"
        )
