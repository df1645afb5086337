"""Train segmenters on a fold's outlined slices, and mark tumours in those without outlines.

Reads `data/slices`; writes `data/teacher/FOLD/` for every fold: `masks.npy`, `unlabelled.parquet`
(`tasks.schemas.teacher`) and `teacher.json`. It reads training patients, and validation patients
for the printed Dice; no test patient. Where no arm of `downstream.arms` uses scans without
outlines, nothing is trained.
"""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.segmenter import build_segmenter, dice_ce_loss, level_widths
from tasks import params
from tasks.common.slice_set import SliceSet, outline_known, read_slices
from tasks.common.torch_setup import seeded_generator, setup_torch, uses_bf16
from tasks.params.downstream import SegmentTraining, read_arms
from tasks.params.teacher import Teacher
from tasks.schemas.teacher import TeacherOpinions
from tasks.stage.stage_io import atomic_output
from tasks.stage.stage_runtime import run_stage
from tasks.training.augmentation import CLASSICAL
from tasks.training.balanced_batches import balanced_batches
from tasks.training.fit import Batch, fit, predict_probabilities

OUTPUT = Path("data/teacher")
WEIGHTS_STREAM, AUGMENTATION_STREAM = 0, 1
THRESHOLD = 0.5
LEAST_DICE = 0.2  # below it the networks' opinion is not used
LEAST_PATIENTS = 3  # with tumours to validate on; of fewer, one odd tumour would decide
Masks = NDArray[np.bool_]
Floats = NDArray[np.float64]


def main() -> None:
    """Run the stage from the repository's root."""
    config = params.read_section(Teacher)
    training = SegmentTraining.model_validate(params.read_key("downstream.segment"))
    device = setup_torch(config.threads)
    bf16 = uses_bf16(params.read_key("downstream.precision"), device)
    arms = [arm.name for arm in read_arms() if arm.needs_teacher]
    with atomic_output(OUTPUT) as folder:
        for fold in map(str, params.read_key("slices.folds")):
            train = read_slices(fold, "train")
            outlined, without_outline = split_by_outline(train)
            status = reason_not_trained(arms, outlined, without_outline)
            quality: dict[str, Any] = {}  # of the networks
            if status:
                probability = np.zeros((0, 0, *train.masks.shape[1:]))
                without_outline = without_outline.select(np.empty(0, dtype=np.intp))
            else:
                val, _ = split_by_outline(read_slices(fold, "val"))
                n_patients = val.table.loc[val.table["label"] == 1, "subject"].nunique()
                probability, dice = train_teacher(
                    config, training, outlined, without_outline, val, bf16=bf16, device=device
                )
                # With fewer, Dice of training slices at least shows that the networks learnt.
                partition = "validation" if n_patients >= LEAST_PATIENTS else "training"
                quality = {
                    "dice": dice, "judged_on": partition, "validation_patients": n_patients
                }  # fmt: skip
                if not min(dice[partition]) >= LEAST_DICE:
                    status = (
                        f"a network finds too little of {partition} patients' tumours (Dice"
                        f" {min(dice[partition]):.2f}, at least {LEAST_DICE}): add outlined"
                        " patients or raise downstream.segment.steps"
                    )
                    without_outline = without_outline.select(np.empty(0, dtype=np.intp))
                    probability = probability[:, :0]
            table = form_opinions(probability, without_outline, config)
            (folder / fold).mkdir()
            write_opinions(
                folder / fold, table, mean_mask(probability), {"status": status or "ok"} | quality
            )
            counts = table["opinion"].value_counts()
            print(
                f"teacher: fold {fold}: "
                + (
                    f"no opinion: {status}"
                    if status
                    else f"of {len(table)} slices without outlines {counts.get('tumor', 0)} surely"
                    f" show a tumour and {counts.get('none', 0)} none"
                )
            )


def split_by_outline(slices: SliceSet) -> tuple[SliceSet, SliceSet]:
    """Return the slices whose tumour is outlined or absent, and those of unknown outline."""
    outlined = outline_known(slices.table)
    return slices.select(outlined), slices.select(~outlined)


def reason_not_trained(arms: list[str], outlined: SliceSet, without_outline: SliceSet) -> str:
    """Say why no teacher is trained; empty where one is."""
    if not arms:
        return "no arm of downstream.arms uses scans without outlines"
    if not len(without_outline):
        return (
            "no training slice is without an outline: add scans without masks, or set"
            " slices.unlabelled_patients"
        )
    if not set(outlined.table["label"]) >= {0, 1}:
        return "the outlined training slices show one label only: add outlined patients"
    return ""


def train_teacher(
    config: Teacher,
    training: SegmentTraining,
    outlined: SliceSet,
    without_outline: SliceSet,
    val: SliceSet,
    *,
    bf16: bool,
    device: torch.device,
) -> tuple[Floats, dict[str, list[float]]]:
    """Train the networks one after another, and apply each to the slices without outlines.

    Returns:
        Probabilities (K,N,H,W) of K networks for N slices without outlines, and each network's Dice
        over the slices of the partitions `training` and `validation`.
    """
    images = to_tensor(without_outline.images, device)
    partitions = {"training": outlined, "validation": val}
    truth = {name: to_tensor(part.masks[:, None], device) > 0 for name, part in partitions.items()}
    inputs = {name: to_tensor(part.images, device) for name, part in partitions.items()}
    probabilities: list[Floats] = []
    dice: dict[str, list[float]] = {name: [] for name in partitions}
    for number in range(config.networks):
        seed = config.seed + number
        network = build_segmenter(
            images.shape[1],
            seed=seeded_generator(seed, WEIGHTS_STREAM).initial_seed(),
            widths=level_widths(training.width),
        ).to(device)
        result = fit(
            network,
            lambda logits, masks, _labels: dice_ce_loss(logits, masks),
            training_batches(outlined, training, seed, device),
            lambda probability: pooled_dice(probability >= THRESHOLD, truth["validation"]),
            inputs["validation"],
            training=training,
            bf16=bf16,
        )
        print(f"teacher: network {number + 1}: Dice of validation slices {result.final:.3f}")
        dice["validation"].append(result.final)
        fitted = predict_probabilities(network, inputs["training"])
        dice["training"].append(pooled_dice(fitted >= THRESHOLD, truth["training"]))
        probabilities.append(predict_probabilities(network, images)[:, 0].double().cpu().numpy())
    return np.stack(probabilities), dice


def training_batches(
    outlined: SliceSet, training: SegmentTraining, seed: int, device: torch.device
) -> "list[Batch] | map[Batch]":
    """Yield classically augmented batches of the outlined slices."""
    label = outlined.table["label"].to_numpy()
    images, masks = to_tensor(outlined.images, device), to_tensor(outlined.masks[:, None], device)
    labels = to_tensor(label[:, None], device)
    generator = seeded_generator(seed, AUGMENTATION_STREAM)

    def batch(halves: tuple[NDArray[np.intp], NDArray[np.intp]]) -> Batch:
        rows = torch.as_tensor(np.concatenate(halves), device=device)
        return *CLASSICAL(images[rows], masks[rows], generator), labels[rows]

    order = balanced_batches(label, label, steps=training.steps, batch=training.batch, seed=(seed,))
    return map(batch, order)


def to_tensor(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """Convert an array to float32 on the device."""
    return torch.tensor(array, dtype=torch.float32, device=device)


def pooled_dice(predicted: Tensor, truth: Tensor) -> float:
    """Compute Dice over all pixels of all slices; NaN where there is no tumour in either."""
    return float(2 * (predicted & truth).sum() / (predicted.sum() + truth.sum()))


def mean_mask(probability: Floats) -> Masks:
    """Return the masks (N,H,W) of the networks' mean probability (K,N,H,W)."""
    if not len(probability):
        return np.zeros(probability.shape[1:], dtype=bool)
    mask: Masks = probability.mean(axis=0) >= THRESHOLD
    return mask


def form_opinions(probability: Floats, slices: SliceSet, config: Teacher) -> pd.DataFrame:
    """Decide which slices surely show a tumour and which surely none.

    A slice that is known to show a tumour, of which only the outline is unknown, is never `none`.

    Args:
        probability: (K,N,H,W) of K networks.
        slices: the N slices.
        config: the limits.

    Returns:
        The table of `TeacherOpinions`.
    """
    count = len(slices)
    if not count:
        return TeacherOpinions.empty()
    mean, mask = probability.mean(axis=0), mean_mask(probability)
    area = mask.sum(axis=(1, 2))
    # The largest of all networks: one network that sees a tumour is enough for doubt.
    largest = probability.max(axis=(0, 2, 3))
    inside = np.where(mask, mean, 0).sum(axis=(1, 2)) / np.maximum(area, 1)
    agreement = mean_pairwise_dice(probability >= THRESHOLD)
    known_tumor = slices.table["label"].to_numpy() == 1  # of a class folder, without an outline
    tumor = (
        (area >= config.min_pixels)
        & (inside >= config.confidence)
        & (agreement >= config.agreement)
    )
    return TeacherOpinions.validate(
        pd.DataFrame(
            {
                "row": slices.table["row"].to_numpy(),
                "subject": slices.table["subject"].to_numpy(),
                "largest_probability": largest,
                "area_px": area,
                "confidence": inside,
                "agreement": agreement,
                "opinion": np.where(
                    tumor,
                    "tumor",
                    np.where(~known_tumor & (largest <= config.background), "none", "unsure"),
                ),
            }
        )
    )


def mean_pairwise_dice(masks: Masks) -> Floats:
    """Compute the mean Dice (N,) between K networks' masks (K,N,H,W); 1 where both are empty."""
    values = []
    for first, second in combinations(masks, 2):
        overlap = 2 * (first & second).sum(axis=(1, 2))
        total = first.sum(axis=(1, 2)) + second.sum(axis=(1, 2))
        values.append(np.where(total > 0, overlap / np.maximum(total, 1), 1.0))
    mean: Floats = np.mean(values, axis=0)
    return mean


def write_opinions(
    folder: Path, table: pd.DataFrame, masks: Masks, summary: dict[str, Any]
) -> None:
    """Write a fold's table, masks and summary."""
    table.to_parquet(folder / "unlabelled.parquet", index=False)
    np.save(folder / "masks.npy", masks.astype(np.uint8), allow_pickle=False)
    (folder / "teacher.json").write_text(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    run_stage(main)
