"""Split patients into partitions, once, stratified, before any image is read."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.common.slice_set import Partition
from tasks.stage.errors import InputError

PatientUse = Partition | Literal["unlabelled", "unused"]
TRAIN_AND_VAL: tuple[PatientUse, ...] = ("train", "val")
UNLABELLED_STREAM = 1  # of the random numbers that choose patients
MAX_DRAWS = 1000  # tried before the split is rejected


def split_patients(
    patients: pd.DataFrame,
    *,
    folds: Sequence[str],
    val_fraction: float,
    test_fraction: float,
    train_patients: int,
    unlabelled_patients: int = 0,
    draw: int,
    seed: int,
) -> dict[str, dict[str, PatientUse]]:
    """Assign every patient a partition in every fold.

    Args:
        patients: one row a patient: `subject`, `site`, `tumor`, `clear` (has slices without
            tumour), `synthetic`, `held_out` (the last four bool). Where patients are held out,
            they and nobody else test.
        folds: one name makes a hold-out split; with K names each patient is tested once.
        val_fraction: share of all labelled patients that every fold validates on; of those who do
            not test where patients are held out.
        test_fraction: share of all labelled patients that a hold-out split tests on.
        train_patients: how many patients a fold trains and validates on, in the shares of the
            whole; the others are `unused`. 0: all.
        unlabelled_patients: how many of those others are `unlabelled` in place of `unused`.
        draw: number of the patient draw. Draws are independent; test patients never change.
        seed: seeds the order of patients inside a stratum.

    Returns:
        `{fold: {subject: partition}}`: "train", "val", "test", "unlabelled" or "unused". Patients
        of whom no slice has a label can neither validate nor test: they train, unless they are held
        out; beside drawn patients they are among the left-over ones. Patients made of synthetic
        slices only ever train, and not at all beside drawn patients, as they may be copies of
        others.

    Raises:
        InputError: with fewer patients than requested, or a partition that lacks tumours or
            tumour-free slices.
    """
    synthetic = patients.loc[patients["synthetic"], "subject"]
    has_label = patients["tumor"] | patients["clear"] | patients["held_out"]
    without_label = patients[~patients["synthetic"] & ~has_label]
    real = patients[~patients["synthetic"] & has_label]
    if not real["tumor"].any():
        raise InputError(
            "no patient has a tumour in its mask; add batches with segmented tumours to"
            " data.batches (see mask_status in data/volumes/*/manifest.parquet)"
        )
    order = stratified_order(real, seed)
    n, k = len(order), len(folds)
    if n < max(3, k):
        others = f" ({len(without_label)} more have no label)" if len(without_label) else ""
        raise InputError(
            f"{n} patients for {k} folds of train, val and test{others}; add patients to the"
            " batches of data.batches or shorten slices.folds"
        )
    index = np.arange(n)
    tests_only = dict(zip(real["subject"], real["held_out"], strict=True))
    held_out = np.array([tests_only[subject] for subject in order], dtype=bool)
    partitions_by_fold: dict[str, dict[str, PatientUse]] = {}
    for fold_index, fold in enumerate(folds):
        if held_out.any():
            test = held_out
        elif k == 1:
            test = evenly_spaced_share(n, test_fraction, start=0.5)
        else:
            test = index % k == fold_index
        rest = index[~test]
        val = np.zeros(n, dtype=bool)
        # val_fraction is a share of those who do not test where patients are held out, else of all.
        share = val_fraction if held_out.any() else val_fraction * n / len(rest)
        val[rest[evenly_spaced_share(len(rest), share, start=0.5)]] = True
        partitions = np.where(test, "test", np.where(val, "val", "train"))
        partition_of: dict[str, PatientUse] = dict(zip(order, partitions.tolist(), strict=True))
        if train_patients:
            not_test = real[real["subject"].map(partition_of) != "test"]
            drawn = draw_training_patients(
                not_test,
                count=train_patients,
                n_val_of_all=int(val.sum()),
                rng=np.random.default_rng([seed, draw, train_patients, fold_index]),
            )
            left_over = pd.concat([not_test[~not_test["subject"].isin(list(drawn))], without_label])
            partition_of |= drawn
            partition_of |= dict.fromkeys(left_over["subject"], "unused")
            unlabelled = draw_unlabelled_patients(
                left_over,
                count=unlabelled_patients,
                rng=np.random.default_rng(
                    [seed, draw, train_patients, fold_index, UNLABELLED_STREAM]
                ),
            )
            partition_of |= dict.fromkeys(unlabelled, "unlabelled")
        else:
            partition_of |= dict.fromkeys(without_label["subject"], "train")
        partitions_by_fold[fold] = partition_of | dict.fromkeys(
            synthetic, "unused" if train_patients else "train"
        )
        check_both_classes(partitions_by_fold[fold], real, fold)
    return partitions_by_fold


def draw_training_patients(
    patients: pd.DataFrame, *, count: int, n_val_of_all: int, rng: np.random.Generator
) -> dict[str, PatientUse]:
    """Draw patients to train and validate on, spread over the strata.

    Validation gets the share that `n_val_of_all` is of these patients, rounded down, but at least
    one patient. A draw whose partitions lack tumours or tumour-free slices is repeated.
    """
    if not 2 <= count <= len(patients):
        raise InputError(
            f"slices.train_patients is {count}; expected 0 (all) or 2 to {len(patients)}, the"
            " patients that are not for testing"
        )
    order = pd.Series(stratified_order(patients, rng))
    n_val = max(1, count * n_val_of_all // len(patients))
    partition_of: dict[str, PatientUse] = {}
    for _ in range(MAX_DRAWS):
        subjects = order[systematic_sample(len(patients), count, int(rng.integers(len(patients))))]
        val = systematic_sample(count, n_val, int(rng.integers(count)))
        partition_of = dict(zip(subjects, np.where(val, "val", "train").tolist(), strict=True))
        if not partitions_missing_a_class(partition_of, patients, ("train", "val")):
            break
    return partition_of


def draw_unlabelled_patients(
    patients: pd.DataFrame, *, count: int, rng: np.random.Generator
) -> list[str]:
    """Draw patients whose scans are used without labels, spread over the strata.

    Raises:
        InputError: fewer patients are left over.
    """
    if count > len(patients):
        raise InputError(
            f"slices.unlabelled_patients is {count}; expected 0 to {len(patients)}, the patients"
            " that neither test nor are among slices.train_patients"
        )
    if not count:
        return []
    order = np.array(stratified_order(patients, rng))
    start = int(rng.integers(len(order)))
    return list(order[systematic_sample(len(order), count, start)])


def stratified_order(patients: pd.DataFrame, seed: int | np.random.Generator) -> list[str]:
    """Sort subjects by stratum (site, tumour), at random inside each.

    Taking every m-th of this order is systematic sampling: each stratum gives its share to
    within one patient.
    """
    order = np.random.default_rng(seed).permutation(len(patients))
    # Of lists: this is called for every split that is tried, and of few patients each.
    columns = (patients[name].tolist() for name in ("subject", "site", "tumor"))
    by_subject = sorted(zip(*columns, strict=True))
    strata = sorted(
        (tumor, site, number, subject)
        for (subject, site, tumor), number in zip(by_subject, order.tolist(), strict=True)
    )
    return [subject for *_, subject in strata]


def evenly_spaced_share(n: int, fraction: float, *, start: float) -> NDArray[np.bool_]:
    """Choose about `fraction` of n positions, evenly spaced; at least one, never all."""
    steps = np.floor(np.arange(n + 1) * fraction + start)
    chosen: NDArray[np.bool_] = np.diff(steps) > 0
    if not chosen.any():
        chosen[n // 2] = True
    if chosen.all():
        chosen[n // 2] = False
    return chosen


def systematic_sample(n: int, count: int, start: int) -> NDArray[np.bool_]:
    """Choose exactly `count` of n positions, evenly spaced; `start` (0 to n - 1) shifts them."""
    chosen: NDArray[np.bool_] = np.diff((np.arange(n + 1) * count + start) // n) > 0
    return chosen


def partitions_missing_a_class(
    partition_of: dict[str, PatientUse],
    patients: pd.DataFrame,
    partitions: Sequence[PatientUse],
) -> list[tuple[PatientUse, str]]:
    """List partitions without patients with a tumour (`tumor`) or tumour-free slices (`clear`)."""
    subjects = patients["subject"].to_numpy()
    partitions_with = {
        kind: {partition_of.get(s) for s in subjects[patients[kind].to_numpy(dtype=bool)]}
        for kind in ("tumor", "clear")
    }
    return [
        (partition, kind)
        for kind, with_kind in partitions_with.items()
        for partition in partitions
        if partition not in with_kind
    ]


def check_both_classes(
    partition_of: dict[str, PatientUse], patients: pd.DataFrame, fold: str
) -> None:
    """Reject a fold with a partition that has tumour slices only, or none."""
    missing = {"tumor": "no tumour patient", "clear": "no patient with slices without tumour"}
    for partition, kind in partitions_missing_a_class(
        partition_of, patients, ("train", "val", "test")
    ):
        raise InputError(
            f"fold {fold}: {missing[kind]} is left for {partition!r} ({int(patients[kind].sum())}"
            " such patients in all); add patients, or change slices.folds, val_fraction,"
            " test_fraction or train_patients"
        )
