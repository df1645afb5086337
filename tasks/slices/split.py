"""The patient-level split: made once, before anything is fitted, and stratified."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.arrays import Partition
from tasks.stage import StageError


def split_patients(
    patients: pd.DataFrame,
    *,
    folds: Sequence[str],
    val_fraction: float,
    test_fraction: float,
    seed: int,
) -> dict[str, dict[str, Partition]]:
    """Give every patient a side in every fold.

    Args:
        patients: one row a patient: `subject`, `site`, `tumor` (bool), `synthetic` (bool).
        folds: one name makes a hold-out split; with K names each patient is tested once.
        val_fraction: share of all patients that every fold validates on.
        test_fraction: share of all patients that a hold-out split tests on.
        seed: draws the order of patients inside a stratum.

    Returns:
        `{fold: {subject: "train" | "val" | "test"}}`. Patients made of synthetic slices only
        ever train.

    Raises:
        StageError: with fewer patients than sides, or a side left without tumour patients.
    """
    real = patients[~patients["synthetic"]]
    order = stratified_order(real, seed)
    n, k = len(order), len(folds)
    if n < max(3, k):
        raise StageError(
            f"{n} patients for {k} folds of train, val and test; add patients to the batches of"
            " data.batches or shorten slices.folds"
        )
    if not real["tumor"].any():
        raise StageError(
            "no patient has a tumour in its mask; add batches with segmented tumours to"
            " data.batches (see mask_status in data/volumes/*/manifest.parquet)"
        )
    index = np.arange(n)
    sides: dict[str, dict[str, Partition]] = {}
    for position, fold in enumerate(folds):
        test = every(n, test_fraction, start=0.5) if k == 1 else index % k == position
        rest = index[~test]
        val = np.zeros(n, dtype=bool)
        val[rest[every(len(rest), val_fraction * n / len(rest), start=0.5)]] = True
        names = np.where(test, "test", np.where(val, "val", "train"))
        sides[fold] = dict(zip(order, names.tolist(), strict=True))
        sides[fold] |= dict.fromkeys(patients.loc[patients["synthetic"], "subject"], "train")
        require_tumors(sides[fold], real, fold)
    return sides


def stratified_order(patients: pd.DataFrame, seed: int) -> list[str]:
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


def require_tumors(side_of: dict[str, Partition], patients: pd.DataFrame, fold: str) -> None:
    """Refuse a fold with a side on which nobody has a tumour."""
    with_tumor = patients.loc[patients["tumor"], "subject"]
    found = {side_of[subject] for subject in with_tumor}
    for side in ("train", "val", "test"):
        if side not in found:
            raise StageError(
                f"fold {fold}: no tumour patient is left for {side!r}"
                f" ({len(with_tumor)} tumour patients in all); add patients, or change"
                " slices.folds, val_fraction or test_fraction"
            )
