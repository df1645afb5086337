"""Split patients, cut their volumes into slices of one grid, match negatives to tumours.

Reads `data/volumes/BATCH/` of the listed batches; writes `data/slices/`.
"""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from tasks import params
from tasks.common.gate_requirements import LEAST_PATIENTS
from tasks.common.slice_set import write_slice_set
from tasks.params.data import Data
from tasks.params.slices import Slices
from tasks.schemas.slices import Slices as SlicesTable
from tasks.slices.cohort_stats import describe
from tasks.slices.patient_split import PartitionPlan, split_patients
from tasks.slices.remedy import lacks_of, remedy
from tasks.slices.same_head_check import Heads
from tasks.slices.selection import select
from tasks.slices.slice_extraction import SlicedSession, slice_session
from tasks.stage.errors import InputError
from tasks.stage.stage_io import atomic_output
from tasks.stage.stage_runtime import run_stage
from tasks.volumes.intensity_normalisation import Landmarks, standard_scale
from tasks.volumes.native_session import (
    UnusableSessionError,
    read_native_session,
    resample_session,
    session_landmarks,
)
from tasks.volumes.sessions import Session, patients_of, read_manifests, sessions_of, skull_stripped

INTERNAL = ["patient_known", "tumor"]


def main() -> None:
    """Run the stage from the repository's root."""
    config = params.read_section(Slices)
    manifest = read_manifests(params.read_section(Data).batches)
    sessions, skipped = sessions_of(manifest, list(config.modalities))

    def split(val_fraction: float) -> dict[str, dict[str, PartitionPlan]]:
        return split_patients(
            patients_of(sessions),
            folds=[str(fold) for fold in config.folds],
            val_fraction=val_fraction,
            test_fraction=config.test_fraction,
            train_patients=config.train_patients,
            draw=config.draw,
            seed=config.seed,
        )

    sides = split(config.val_fraction)
    wanted = [s for s in sessions if any(side[s.subject] != "unused" for side in sides.values())]
    scales = None
    if config.intensity == "nyul":
        (only,) = sides.values()
        scales = fit_scales([s for s in wanted if trains(s, only)], config)
    heads = Heads()
    cuts, unusable = cut_all(wanted, config, scales, heads)
    same_head = heads.judge(config.same_head)
    table = pd.concat([one.table for one in cuts], ignore_index=True)
    partitions, chosen_by = select(table, sides, config)
    keep = (partitions != "unused").any(axis=1).to_numpy()
    kept = pd.concat([table, partitions], axis=1)[keep].reset_index(drop=True)
    kept.insert(0, "row", np.arange(len(kept)))
    require_labels(kept, list(sides), config.training_slices)
    rows = np.split(keep, np.cumsum([len(one.table) for one in cuts])[:-1])
    pairs = list(zip(cuts, rows, strict=True))
    images = np.concatenate([one.images[chosen] for one, chosen in pairs])  # (N,C,H,W)
    masks = np.concatenate([one.masks[chosen] for one, chosen in pairs])  # (N,H,W)
    stats = describe(
        table, kept, sides, config, scales=scales, skipped=skipped + unusable,
        cut_off=sum(one.cut_off for one in cuts), batches=sorted(set(manifest["batch"])),
        same_head=same_head, skull_stripped=skull_stripped(wanted), chosen_by=chosen_by,
    )  # fmt: skip
    with atomic_output(Path("data/slices")) as folder:
        write_slice_set(folder, images, masks)
        SlicesTable.validate(kept.drop(columns=INTERNAL)).to_parquet(
            folder / "slices.parquet", index=False
        )
        (folder / "stats.json").write_text(json.dumps(stats, indent=1) + "\n")
    print(
        f"slices: {len(kept)} of {len(table)} slices kept,"
        f" {int((kept['label'] == 1).sum())} with tumour, {kept['subject'].nunique()} patients"
    )
    for fold, side_of in sides.items():
        print(f"slices: fold {fold}: {patients_by_side(side_of)}")
        if chosen_by[fold] != config.training_slices:
            print(f"slices: fold {fold}: training and validation slices are {chosen_by[fold]}")
        for line in lacks_of(kept, fold).lines():
            print(f"slices: fold {fold}: {line}")
    if change := remedy(table, split, config):
        print(f"slices: {change}")
    if stats["cut_off"]:
        print(
            f"slices: the head is wider than the window in {stats['cut_off']} of {len(cuts)}"
            " sessions; raise slices.spacing_mm, or set slices.scale to body where no millimetres"
            " are known"
        )


def patients_by_side(side_of: dict[str, PartitionPlan]) -> str:
    """How many patients train, validate and test, and what to do where few train."""
    count = Counter(side_of.values())
    said = f"{count['train']} patients train, {count['val']} validate, {count['test']} test"
    if LEAST_PATIENTS < count["val"] > count["train"]:
        said += "; fewer train than validate: lower slices.val_fraction"
    return said


def trains(session: Session, side_of: dict[str, PartitionPlan]) -> bool:
    """Whether grey values are standardised on this session."""
    return side_of[session.subject] == "train" and not session.synthetic


def fit_scales(sessions: list[Session], config: Slices) -> list[Landmarks]:
    """The standard scale of each channel, of these sessions.

    Raises:
        StageError: where a modality has no contrast in any of them.
    """
    found = []
    for session in sessions:
        try:
            found.append(session_landmarks(read_native_session(session), config))
        except UnusableSessionError:
            continue
    scales = []
    for channel, modality in enumerate(config.modalities):
        scale = standard_scale(np.array([one[channel] for one in found])) if found else None
        if scale is None:
            raise InputError(
                f"no training volume of modality {modality} has any contrast to standardise by;"
                " look at data/volumes, or set slices.intensity to z-score"
            )
        scales.append(scale.round(6))  # as stats.json holds it, to be applied again elsewhere
    return scales


def cut_all(
    sessions: list[Session], config: Slices, scales: list[Landmarks] | None, heads: Heads
) -> tuple[list[SlicedSession], list[dict[str, str]]]:
    """Cut every session, and show its volumes to `heads`; say which could not be cut and why."""
    cuts: list[SlicedSession] = []
    unusable: list[dict[str, str]] = []
    for session in sessions:
        try:
            one = resample_session(session, config, scales)
            cuts.append(slice_session(session, one, config))
            if config.same_head != "off":
                heads.add(session, one.native)
        except UnusableSessionError as code:
            unusable.append(
                {"subject": session.subject, "session": session.name, "code": str(code)}
            )
    if not cuts:
        raise InputError(
            f"none of {len(sessions)} sessions could be cut ({unusable[0]['code']}); look at the"
            " volumes in data/volumes"
        )
    return cuts, unusable


def require_labels(kept: pd.DataFrame, folds: list[str], training_slices: str) -> None:
    """Refuse a fold whose training, validation or test slices show one of the labels only."""
    remedies = {
        "auto": "add patients",
        "in-range": "set slices.training_slices to auto, widen slices.caliper, or add patients",
        "matched": "set slices.training_slices to auto, widen slices.caliper, or add patients",
        "test": "widen slices.caliper, or add patients",
    }
    for fold in folds:
        for side in ("train", "val", "test"):
            labels = kept.loc[kept[f"partition_{fold}"] == side, "label"]
            if not {0, 1} <= set(labels):
                raise InputError(
                    f"fold {fold}: {side!r} keeps {int((labels == 1).sum())} slices with tumour and"
                    f" {int((labels == 0).sum())} without of like position and brain area, both are"
                    f" needed; {remedies['test' if side == 'test' else training_slices]}"
                )


if __name__ == "__main__":
    run_stage(main)
