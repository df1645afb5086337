"""Task `classify`: does this slice show a tumour?"""

import numpy as np
import pandas as pd
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score, roc_curve
from torch import Tensor, nn

from models.classifier import build_classifier
from tasks.common.slice_set import SliceSet
from tasks.schemas.predictions import ClassifyPredictions

Vector = NDArray[np.float64]


def build(channels: int, *, seed: int) -> nn.Module:
    """The untrained classifier."""
    return build_classifier(channels, seed=seed)


def loss(logits: Tensor, masks: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy with the slices' labels."""
    return F.binary_cross_entropy_with_logits(logits, labels)


def judge(probability: Tensor, slices: SliceSet) -> float:
    """AUROC over validation patients' slices."""
    return float(roc_auc_score(slices.table["label"], probability[:, 0].cpu().numpy()))


def beats_chance(metric: float) -> bool:
    """Whether the network tells tumours from none at all, on validation patients."""
    return metric > 0.5


def threshold(probability: Tensor, slices: SliceSet) -> float:
    """The probability from which a slice counts as tumour: Youden's J on validation patients.

    Of equal ones the middle of the gap to the next lower probability, so that the threshold is
    not tied to one slice.
    """
    values = probability[:, 0].cpu().numpy().astype(np.float64)
    false_positives, true_positives, cuts = roc_curve(
        slices.table["label"], values, drop_intermediate=False
    )
    best = float(cuts[1:][np.argmax((true_positives - false_positives)[1:])])
    below = values[values < best]
    return float((best + below.max()) / 2) if len(below) else best


def predict(probability: Tensor, slices: SliceSet, *, cut: float, pixel_mm: float) -> pd.DataFrame:
    """One row a test slice."""
    table = slices.table[["subject", "row", "label"]].copy()
    table["true_area"] = slices.masks.sum(axis=(1, 2), dtype=np.int64)
    table["probability"] = probability[:, 0].cpu().numpy().astype(np.float64)
    table["threshold"] = cut
    return table


def score(predictions: pd.DataFrame, *, pixel_mm: float) -> dict[str, float]:
    """The metrics of one patient; null where a label is missing among the patient's slices."""
    label = predictions["label"].to_numpy()
    probability = predictions["probability"].to_numpy()
    right = (probability >= predictions["threshold"].to_numpy()) == (label == 1)
    both = 0 < label.sum() < len(label)
    return {
        "auroc": float(roc_auc_score(label, probability)) if both else np.nan,
        "accuracy": float(right.mean()),
        "sensitivity": float(right[label == 1].mean()) if label.any() else np.nan,
        "specificity": float(right[label == 0].mean()) if not label.all() else np.nan,
        "brier": float(np.mean((probability - label) ** 2)),
    }


SCHEMA = ClassifyPredictions
