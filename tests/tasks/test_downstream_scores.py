"""The scores of a patient, from masks alone."""

import numpy as np
import pandas as pd
import pytest
import torch

from tasks.common.slice_set import SliceSet
from tasks.downstream import segment
from tasks.lift.patient_metrics import RunPatientAxes, segmentation_metrics


def square(row: int, column: int, edge: int = 4) -> np.ndarray:
    mask = np.zeros((32, 32), dtype=np.uint8)
    mask[row : row + edge, column : column + edge] = 1
    return mask


def test_hd95_is_the_shift_and_an_empty_answer_costs_the_diagonal():
    truth = np.stack([square(8, 8), square(8, 8), square(8, 8), np.zeros((32, 32), np.uint8)])
    found = np.stack([square(8, 8), square(8, 11), np.zeros((32, 32)), square(2, 2)]).astype(bool)
    distance = segment.hd95_mm(found, truth, pixel_mm=2.0)
    assert distance[:3] == pytest.approx([0.0, 6.0, 2.0 * np.hypot(32, 32)])
    assert np.isnan(distance[3])


def test_scores_of_a_patient_are_those_of_the_whole_stack():
    rows = pd.DataFrame(
        {"label": [1, 1, 0], "true_area": [10, 30, 0], "predicted_area": [10, 10, 5],
         "overlap_area": [10, 0, 0], "hd95_mm": [0.0, 8.0, np.nan]}
    )  # fmt: skip
    scores = segment.score_patient(rows, pixel_mm=2.0)
    assert scores["dice"] == pytest.approx(2 * 10 / (40 + 25))
    assert scores["dice_slice"] == pytest.approx(0.5)
    assert scores["hd95_mm"] == pytest.approx(4.0)
    assert scores["false_positive_mm2"] == pytest.approx(5 * 4.0)
    healthy = segment.score_patient(rows.iloc[2:], pixel_mm=2.0)
    assert np.isnan(healthy["dice"]) and healthy["false_positive_mm2"] == pytest.approx(20.0)


def test_a_slices_highest_probability_is_the_segmenters_score_of_it():
    probability = torch.zeros(3, 1, 8, 8)
    probability[0, 0, 2, 3], probability[1, 0, 0, 0] = 0.9, 0.4
    slices = SliceSet(
        np.zeros((3, 1, 8, 8), np.float32), np.zeros((3, 8, 8), np.uint8),
        pd.DataFrame({"subject": ["a", "a", "b"], "row": [0, 1, 2], "label": [1, 0, 0]}),
    )  # fmt: skip
    table = segment.predict_slices(probability, slices, threshold=0.5, pixel_mm=1.0)
    assert table["probability"].tolist() == pytest.approx([0.9, 0.4, 0.0])
    axes = RunPatientAxes([("0", 0)], ["a", "b"])
    runs = table.assign(fold="0", seed=0)
    patients = pd.DataFrame(
        {"fold": "0", "seed": 0, "subject": ["a", "b"], "metric": "dice", "value": [0.5, 0.6]}
    )
    metric = segmentation_metrics(patients, axes, runs)["slice_auroc"]
    right, pairs = metric.weighted_sums(np.ones((1, 2)))
    assert (right / pairs).item() == 1.0
