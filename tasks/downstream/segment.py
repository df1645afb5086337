"""Task `segment`: which pixels are tumour?"""

import math
import warnings

import numpy as np
import pandas as pd
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from numpy.typing import NDArray
from torch import Tensor, nn

from models.segmenter import build_segmenter, dice_ce_loss
from tasks.common.slice_set import SliceSet
from tasks.schemas.predictions import SegmentPredictions

CUTS = tuple(round(0.1 * k, 1) for k in range(1, 10))


def build(channels: int, *, seed: int) -> nn.Module:
    """The untrained U-Net."""
    return build_segmenter(channels, seed=seed)


def loss(logits: Tensor, masks: Tensor, labels: Tensor) -> Tensor:
    """Dice plus cross-entropy over the batch."""
    return dice_ce_loss(logits, masks)


def judge(probability: Tensor, slices: SliceSet) -> float:
    """Mean Dice of validation patients at the best threshold."""
    return float(dice_by_cut(probability, slices).max())


def beats_chance(metric: float) -> bool:
    """Whether the network found anything of any validation patient's tumour."""
    return metric > 0


def threshold(probability: Tensor, slices: SliceSet) -> float:
    """The probability from which a pixel counts as tumour, by validation patients' mean Dice."""
    return CUTS[int(np.argmax(dice_by_cut(probability, slices)))]


def dice_by_cut(probability: Tensor, slices: SliceSet) -> NDArray[np.float64]:
    """Mean Dice of the patients with tumour at each of `CUTS`."""
    values = []
    for cut in CUTS:
        areas = count(probability, slices, cut=cut)
        sums = areas.groupby("subject")[["true_area", "predicted_area", "overlap_area"]].sum()
        sums = sums[sums["true_area"] > 0]
        values.append(dice(sums).mean())
    return np.asarray(values)


def dice(areas: pd.DataFrame) -> "pd.Series[float]":
    """Dice of each row's areas: 2 |A∩B| / (|A| + |B|)."""
    return 2 * areas["overlap_area"] / (areas["true_area"] + areas["predicted_area"])


def count(probability: Tensor, slices: SliceSet, *, cut: float) -> pd.DataFrame:
    """Areas in pixels of the true mask, of the predicted one and of their overlap."""
    truth = torch.from_numpy(slices.masks).to(probability.device).bool()  # (N,H,W)
    found = probability[:, 0] >= cut  # (N,H,W)
    table = slices.table[["subject", "row", "label"]].copy()
    for name, area in (
        ("true_area", truth), ("predicted_area", found), ("overlap_area", truth & found)
    ):  # fmt: skip
        table[name] = area.sum(dim=(1, 2)).cpu().numpy()
    return table


def predict(probability: Tensor, slices: SliceSet, *, cut: float, pixel_mm: float) -> pd.DataFrame:
    """One row a test slice."""
    table = count(probability, slices, cut=cut)
    found = (probability[:, 0] >= cut).cpu().numpy()
    table["hd95_mm"] = hd95_mm(found, slices.masks, pixel_mm=pixel_mm)
    table["threshold"] = cut
    return table


def hd95_mm(
    found: NDArray[np.bool_], truth: NDArray[np.uint8], *, pixel_mm: float
) -> NDArray[np.float64]:
    """95 % Hausdorff distance in the plane of each slice, by MONAI.

    Args:
        found: (N,H,W) predicted masks.
        truth: (N,H,W) true masks.
        pixel_mm: edge of a pixel.

    Returns:
        (N,): null where there is no tumour; where nothing was predicted of a tumour, the
        diagonal of the slice, the largest distance there can be (as BraTS penalises it).
    """
    height, width = truth.shape[1:]
    distance = np.full(len(truth), np.nan)
    tumor = truth.any(axis=(1, 2))
    distance[tumor] = math.hypot(height, width) * pixel_mm
    both = tumor & found.any(axis=(1, 2))
    if both.any():
        with warnings.catch_warnings():  # MONAI deprecates an argument that it passes to itself
            warnings.simplefilter("ignore", FutureWarning)
            found_mm = compute_hausdorff_distance(
                torch.from_numpy(found[both])[:, None].float(),  # (M,1,H,W)
                torch.from_numpy(truth[both])[:, None].float(),
                include_background=True,
                percentile=95,
                spacing=pixel_mm,
            )
        distance[both] = found_mm.numpy()[:, 0]
    return distance


def score(predictions: pd.DataFrame, *, pixel_mm: float) -> dict[str, float]:
    """The metrics of one patient, over all of the patient's slices in `data/slices`.

    Dice is that of all these slices and null without tumour; false-positive area is the mean over
    the patient's slices without tumour.
    """
    tumor = predictions[predictions["label"] == 1]
    empty = predictions[predictions["label"] == 0]
    sums = predictions[["true_area", "predicted_area", "overlap_area"]].sum().to_frame().T
    return {
        "dice": float(dice(sums).iloc[0]) if len(tumor) else np.nan,
        "dice_slice": float(dice(tumor).mean()) if len(tumor) else np.nan,
        "hd95_mm": float(tumor["hd95_mm"].mean()) if len(tumor) else np.nan,
        "false_positive_mm2": (
            float(empty["predicted_area"].mean()) * pixel_mm**2 if len(empty) else np.nan
        ),
    }


SCHEMA = SegmentPredictions
