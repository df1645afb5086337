"""Implement task `segment`: which pixels are tumour? Interface: `DownstreamTask`."""

import math
import warnings

import numpy as np
import pandas as pd
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from numpy.typing import NDArray
from torch import Tensor, nn

from models.segmenter import build_segmenter, dice_ce_loss, level_widths
from tasks.common.slice_set import SliceSet
from tasks.params.downstream import SegmentTraining
from tasks.schemas.predictions import SegmentPredictions

THRESHOLD = 0.5


def build_network(channels: int, training: SegmentTraining, *, seed: int) -> nn.Module:
    """Build the untrained U-Net."""
    return build_segmenter(channels, seed=seed, widths=level_widths(training.width))


def loss(logits: Tensor, masks: Tensor, labels: Tensor) -> Tensor:
    """Compute Dice plus cross-entropy over the batch."""
    return dice_ce_loss(logits, masks)


def validation_metric(probability: Tensor, slices: SliceSet) -> float:
    """Compute the mean Dice of the validation patients with tumour."""
    areas = count_areas(probability, slices, threshold=THRESHOLD)
    sums = areas.groupby("subject")[["true_area", "predicted_area", "overlap_area"]].sum()
    return float(dice_from_areas(sums[sums["true_area"] > 0]).mean())


def beats_chance(metric: float) -> bool:
    """Return whether the network marked anything of any validation patient's tumour."""
    return metric > 0


def choose_threshold(probability: Tensor, slices: SliceSet) -> float:
    """Return one half: the loss calibrates it, and few validation patients choose worse."""
    return THRESHOLD


def dice_from_areas(areas: pd.DataFrame) -> "pd.Series[float]":
    """Compute Dice of each row's areas: 2 |A∩B| / (|A| + |B|)."""
    return 2 * areas["overlap_area"] / (areas["true_area"] + areas["predicted_area"])


def count_areas(probability: Tensor, slices: SliceSet, *, threshold: float) -> pd.DataFrame:
    """Count the pixels of the true mask, of the predicted one and of their overlap."""
    truth = torch.from_numpy(slices.masks).to(probability.device).bool()  # (N,H,W)
    predicted = probability[:, 0] >= threshold  # (N,H,W)
    table = slices.table[["subject", "row", "label"]].copy()
    for name, area in (
        ("true_area", truth), ("predicted_area", predicted), ("overlap_area", truth & predicted)
    ):  # fmt: skip
        table[name] = area.sum(dim=(1, 2)).cpu().numpy()
    return table


def predict_slices(
    probability: Tensor, slices: SliceSet, *, threshold: float, pixel_mm: float
) -> pd.DataFrame:
    """Tabulate the predictions: one row a test slice."""
    table = count_areas(probability, slices, threshold=threshold)
    predicted = (probability[:, 0] >= threshold).cpu().numpy()
    table["hd95_mm"] = hd95_mm(predicted, slices.masks, pixel_mm=pixel_mm)
    table["threshold"] = threshold
    table["probability"] = probability[:, 0].amax(dim=(1, 2)).double().cpu().numpy()
    return table


def hd95_mm(
    predicted: NDArray[np.bool_], truth: NDArray[np.uint8], *, pixel_mm: float
) -> NDArray[np.float64]:
    """Compute the 95 % Hausdorff distance in the plane of each slice, by MONAI.

    Args:
        predicted: (N,H,W) predicted masks.
        truth: (N,H,W) true masks.
        pixel_mm: edge of a pixel.

    Returns:
        (N,): null where there is no tumour; where nothing was predicted of a tumour, the
        diagonal of the slice, the largest possible distance (as BraTS penalises it).
    """
    height, width = truth.shape[1:]
    distance = np.full(len(truth), np.nan)
    tumor = truth.any(axis=(1, 2))
    distance[tumor] = math.hypot(height, width) * pixel_mm
    both = tumor & predicted.any(axis=(1, 2))
    if both.any():
        with warnings.catch_warnings():  # MONAI deprecates an argument that it passes to itself
            warnings.simplefilter("ignore", FutureWarning)
            distance_mm = compute_hausdorff_distance(
                torch.from_numpy(predicted[both])[:, None].float(),  # (M,1,H,W)
                torch.from_numpy(truth[both])[:, None].float(),
                include_background=True,
                percentile=95,
                spacing=pixel_mm,
            )
        distance[both] = distance_mm.numpy()[:, 0]
    return distance


def score_patient(predictions: pd.DataFrame, *, pixel_mm: float) -> dict[str, float]:
    """Compute the metrics of one patient, over all of the patient's slices in `data/slices`.

    Dice is that of all these slices and NaN without tumour; false-positive area is the mean over
    the patient's slices without tumour.
    """
    tumor = predictions[predictions["label"] == 1]
    empty = predictions[predictions["label"] == 0]
    sums = predictions[["true_area", "predicted_area", "overlap_area"]].sum().to_frame().T
    return {
        "dice": float(dice_from_areas(sums).iloc[0]) if len(tumor) else np.nan,
        "dice_slice": float(dice_from_areas(tumor).mean()) if len(tumor) else np.nan,
        "hd95_mm": float(tumor["hd95_mm"].mean()) if len(tumor) else np.nan,
        "false_positive_mm2": (
            float(empty["predicted_area"].mean()) * pixel_mm**2 if len(empty) else np.nan
        ),
    }


PREDICTIONS_SCHEMA = SegmentPredictions
