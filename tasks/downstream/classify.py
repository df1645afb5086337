"""Implement task `classify`: does this slice show a tumour? Interface: `DownstreamTask`."""

import numpy as np
import pandas as pd
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score, roc_curve
from torch import Tensor, nn

from models.classifier import PretrainedClassifier, build_residual_classifier
from models.efficientnet_features import EfficientNetLite0Features
from tasks.common.slice_set import SliceSet
from tasks.measures.features.feature_extraction import load_extractor
from tasks.params.downstream import ClassifyTraining
from tasks.schemas.predictions import ClassifyPredictions

Vector = NDArray[np.float64]


def build_network(channels: int, training: ClassifyTraining, *, seed: int) -> nn.Module:
    """Build the classifier that the params name, not yet trained on any slice."""
    if training.network == "resnet":
        return build_residual_classifier(channels, seed=seed)
    features = load_extractor().network
    assert isinstance(features, EfficientNetLite0Features)
    return PretrainedClassifier(features, channels, seed=seed)


def loss(logits: Tensor, masks: Tensor, labels: Tensor) -> Tensor:
    """Compute binary cross-entropy with the slices' labels."""
    return F.binary_cross_entropy_with_logits(logits, labels)


def validation_metric(probability: Tensor, slices: SliceSet) -> float:
    """Compute AUROC over validation patients' slices."""
    return float(roc_auc_score(slices.table["label"], probability[:, 0].cpu().numpy()))


def beats_chance(metric: float) -> bool:
    """Return whether the network ranks tumour slices above others, on validation patients."""
    return metric > 0.5


def choose_threshold(probability: Tensor, slices: SliceSet) -> float:
    """Choose the probability from which a slice is called tumour, by Youden's J on validation.

    Of equal thresholds the middle of the gap to the next lower probability, so that the threshold
    does not depend on one slice.
    """
    values = probability[:, 0].cpu().numpy().astype(np.float64)
    false_positives, true_positives, thresholds = roc_curve(
        slices.table["label"], values, drop_intermediate=False
    )
    best = float(thresholds[1:][np.argmax((true_positives - false_positives)[1:])])
    below = values[values < best]
    return float((best + below.max()) / 2) if len(below) else best


def predict_slices(
    probability: Tensor, slices: SliceSet, *, threshold: float, pixel_mm: float
) -> pd.DataFrame:
    """Tabulate the predictions: one row a test slice."""
    table = slices.table[["subject", "row", "label"]].copy()
    table["true_area"] = slices.masks.sum(axis=(1, 2), dtype=np.int64)
    table["probability"] = probability[:, 0].cpu().numpy().astype(np.float64)
    table["threshold"] = threshold
    return table


def score_patient(predictions: pd.DataFrame, *, pixel_mm: float) -> dict[str, float]:
    """Compute the metrics of one patient; NaN where a label is missing among the slices."""
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


PREDICTIONS_SCHEMA = ClassifyPredictions
