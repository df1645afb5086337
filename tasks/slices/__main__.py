"""Split patients, slice their volumes on one grid, and match tumour-free slices to tumour slices.

Reads `data/volumes/BATCH/` of the listed batches; writes `data/slices/`.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tasks import params
from tasks.common.gate_requirements import LEAST_PATIENTS
from tasks.common.slice_set import and_n_more, write_slice_set
from tasks.params.data import Data
from tasks.params.slices import Slices
from tasks.schemas.slices import SlicesTable
from tasks.slices.cohort_stats import cohort_statistics
from tasks.slices.patient_split import PatientUse, split_patients
from tasks.slices.remedy import gate_shortfall, suggest_change
from tasks.slices.same_head_check import SameHeadCheck
from tasks.slices.selection import select_slices
from tasks.slices.slice_extraction import SlicedSession, slice_session, without_labels
from tasks.stage.errors import InputError
from tasks.stage.stage_io import atomic_output
from tasks.stage.stage_runtime import run_stage
from tasks.volumes.intensity_normalisation import Landmarks, fit_standard_scale
from tasks.volumes.native_session import (
    UnusableSessionError,
    read_native_session,
    resample_session,
    session_landmarks,
)
from tasks.volumes.sessions import (
    Session,
    group_sessions,
    read_manifests,
    skull_stripped,
    tabulate_patients,
)

INTERNAL_COLUMNS = ["patient_known", "tumor"]


def main() -> None:
    """Run the stage from the repository's root."""
    config = params.read_section(Slices)
    manifest = read_manifests(params.read_section(Data).batches)
    sessions, skipped = group_sessions(manifest, list(config.modalities))
    held_out = patients_of_test_batches(manifest, sessions, config.test_batches)
    patients = tabulate_patients(sessions, held_out)

    def split(val_fraction: float) -> dict[str, dict[str, PatientUse]]:
        return split_patients(
            patients,
            folds=[str(fold) for fold in config.folds],
            val_fraction=val_fraction,
            test_fraction=config.test_fraction,
            train_patients=config.train_patients,
            unlabelled_patients=config.unlabelled_patients,
            draw=config.draw,
            seed=config.seed,
        )

    partitions_by_fold = split(config.val_fraction)
    used_sessions = [
        s
        for s in sessions
        if any(partition_of[s.subject] != "unused" for partition_of in partitions_by_fold.values())
    ]
    scales = None
    if config.intensity == "nyul":
        (partition_of,) = partitions_by_fold.values()
        scales = fit_scales(
            [s for s in used_sessions if is_training_session(s, partition_of)], config
        )
    same_head_check = SameHeadCheck()
    sliced, unusable = slice_all_sessions(used_sessions, config, scales, same_head_check)
    same_head = same_head_check.check_pairs(config.same_head)
    unlabelled = unlabelled_patients(partitions_by_fold)
    # Before slices are chosen: hidden labels must not choose any.
    sliced = [
        without_labels(session) if session.table["subject"].iloc[0] in unlabelled else session
        for session in sliced
    ]
    table = pd.concat([session.table for session in sliced], ignore_index=True)
    partitions, chosen_by = select_slices(table, partitions_by_fold, config)
    keep = (partitions != "unused").any(axis=1).to_numpy()
    kept_table = pd.concat([table, partitions], axis=1)[keep].reset_index(drop=True)
    kept_table.insert(0, "row", np.arange(len(kept_table)))
    check_both_labels(kept_table, list(partitions_by_fold), config.training_slices)
    kept_rows = np.split(keep, np.cumsum([len(session.table) for session in sliced])[:-1])
    pairs = list(zip(sliced, kept_rows, strict=True))
    images = np.concatenate([session.images[rows] for session, rows in pairs])  # (N,C,H,W)
    masks = np.concatenate([session.masks[rows] for session, rows in pairs])  # (N,H,W)
    stats = cohort_statistics(
        table, kept_table, partitions_by_fold, config, scales=scales, skipped=skipped + unusable,
        cut_off=sum(session.cut_off for session in sliced), batches=sorted(set(manifest["batch"])),
        same_head=same_head, skull_stripped=skull_stripped(used_sessions), chosen_by=chosen_by,
    )  # fmt: skip
    with atomic_output(Path("data/slices")) as folder:
        write_slice_set(folder, images, masks)
        SlicesTable.validate(kept_table.drop(columns=INTERNAL_COLUMNS)).to_parquet(
            folder / "slices.parquet", index=False
        )
        (folder / "stats.json").write_text(json.dumps(stats, indent=1) + "\n")
    print(
        f"slices: {len(kept_table)} of {len(table)} slices kept,"
        f" {int((kept_table['label'] == 1).sum())} with tumour,"
        f" {kept_table['subject'].nunique()} patients"
    )
    for line in describe_missing(skipped):
        print(f"slices: {line}")
    for fold, partition_of in partitions_by_fold.items():
        print(f"slices: fold {fold}: {count_patients_by_partition(partition_of)}")
        if chosen_by[fold] != config.training_slices:
            print(f"slices: fold {fold}: training and validation slices are {chosen_by[fold]}")
        for line in gate_shortfall(kept_table, fold).lines():
            print(f"slices: fold {fold}: {line}")
    if change := suggest_change(table[~table["subject"].isin(unlabelled)], split, config):
        print(f"slices: {change}")
    if stats["cut_off"]:
        print(
            f"slices: the head is wider than the window in {stats['cut_off']} of {len(sliced)}"
            " sessions; raise slices.spacing_mm, or set slices.scale to body where no millimetres"
            " are known"
        )


def describe_missing(skipped: list[dict[str, str]]) -> list[str]:
    """Say how many visits are left out for a modality that they lack, a line for each modality."""
    lacking = Counter(visit["modality"] for visit in skipped if visit["code"] == "missing-modality")
    return [
        f"{count} visit{' is' if count == 1 else 's are'} left out without {modality}; if their"
        " modality was not recognised, write it into files.csv, else change slices.modalities"
        for modality, count in lacking.items()
    ]


def patients_of_test_batches(
    manifest: pd.DataFrame, sessions: Sequence[Session], test_batches: Sequence[str]
) -> set[str]:
    """Return the patients of `slices.test_batches`, by the manifests: whoever was left out too.

    Raises:
        InputError: a test batch is not listed or has no patient to test on, or a patient stands in
            a test batch and in another one: one person, or two of the same ID.
    """
    batch_of = manifest["batch"]
    if unknown := sorted(set(test_batches) - set(batch_of)):
        raise InputError(
            f"slices.test_batches names {unknown[0]}, which is no batch of data.batches with a"
            f" volume; these are {', '.join(sorted(set(batch_of)))}"
        )
    tests = batch_of.isin(test_batches)
    held_out = set(manifest.loc[tests, "subject"])
    if both := sorted(held_out & set(manifest.loc[~tests, "subject"])):
        raise InputError(
            f"patient {both[0]} is in a batch of slices.test_batches and in another one"
            f"{and_n_more(both)}: remove the scans from one of them, or, if these are two persons,"
            " give the batches IDs that differ and ingest them again"
        )
    usable = {session.subject for session in sessions}
    for name in test_batches:
        if usable.isdisjoint(manifest.loc[batch_of == name, "subject"]):
            raise InputError(
                f"slices.test_batches: no patient of {name} has all of slices.modalities; change"
                " one of the two"
            )
    return held_out


def unlabelled_patients(
    partitions_by_fold: dict[str, dict[str, PatientUse]],
) -> set[str]:
    """Return the patients whose labels are hidden; with several folds there are none."""
    return {
        subject
        for partition_of in partitions_by_fold.values()
        for subject, partition in partition_of.items()
        if partition == "unlabelled"
    }


def count_patients_by_partition(partition_of: dict[str, PatientUse]) -> str:
    """Say how many patients train, validate and test, and what to do where few train."""
    count = Counter(partition_of.values())
    message = f"{count['train']} patients train, {count['val']} validate, {count['test']} test"
    if count["unlabelled"]:
        message += f", {count['unlabelled']} train without labels"
    if LEAST_PATIENTS < count["val"] > count["train"]:
        message += "; fewer train than validate: lower slices.val_fraction"
    return message


def is_training_session(session: Session, partition_of: dict[str, PatientUse]) -> bool:
    """Return whether grey values are standardised on this session."""
    return partition_of[session.subject] == "train" and not session.synthetic


def fit_scales(sessions: list[Session], config: Slices) -> list[Landmarks]:
    """Fit the standard scale of each channel on these sessions.

    Raises:
        InputError: a modality has no contrast in any of them.
    """
    landmarks = []
    for session in sessions:
        try:
            landmarks.append(session_landmarks(read_native_session(session), config))
        except UnusableSessionError:
            continue
    scales = []
    for channel, modality in enumerate(config.modalities):
        scale = (
            fit_standard_scale(np.array([session_values[channel] for session_values in landmarks]))
            if landmarks
            else None
        )
        if scale is None:
            raise InputError(
                f"no training volume of modality {modality} has any contrast to standardise by;"
                " look at data/volumes, or set slices.intensity to z-score"
            )
        scales.append(scale.round(6))  # as in stats.json, from which others apply it
    return scales


def slice_all_sessions(
    sessions: list[Session],
    config: Slices,
    scales: list[Landmarks] | None,
    same_head_check: SameHeadCheck,
) -> tuple[list[SlicedSession], list[dict[str, str]]]:
    """Slice every session and collect its head patterns; list unusable sessions with a code."""
    sliced: list[SlicedSession] = []
    unusable: list[dict[str, str]] = []
    for session in sessions:
        try:
            resampled = resample_session(session, config, scales)
            sliced.append(slice_session(session, resampled, config))
            if config.same_head != "off":
                same_head_check.add_session(session, resampled.native)
        except UnusableSessionError as code:
            unusable.append(
                {"subject": session.subject, "session": session.name, "code": str(code)}
            )
    if not sliced:
        raise InputError(
            f"none of {len(sessions)} sessions could be cut ({unusable[0]['code']}); look at the"
            " volumes in data/volumes"
        )
    return sliced, unusable


def check_both_labels(kept: pd.DataFrame, folds: list[str], training_slices: str) -> None:
    """Reject a fold whose training, validation or test slices have only one of the labels."""
    remedies = {
        "auto": "add patients",
        "in-range": "set slices.training_slices to auto, widen slices.caliper, or add patients",
        "matched": "set slices.training_slices to auto, widen slices.caliper, or add patients",
        "test": "widen slices.caliper, or add patients",
    }
    for fold in folds:
        for partition in ("train", "val", "test"):
            labels = kept.loc[kept[f"partition_{fold}"] == partition, "label"]
            if not {0, 1} <= set(labels):
                raise InputError(
                    f"fold {fold}: {partition!r} keeps {int((labels == 1).sum())} slices with"
                    f" tumour and {int((labels == 0).sum())} without of like position and brain"
                    " area, both are needed;"
                    f" {remedies['test' if partition == 'test' else training_slices]}"
                )


if __name__ == "__main__":
    run_stage(main)
