"""The scores of a patient, from masks alone."""

import numpy as np
import pandas as pd
import pytest

from tasks.downstream import segment


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
    found = segment.score_patient(rows, pixel_mm=2.0)
    assert found["dice"] == pytest.approx(2 * 10 / (40 + 25))
    assert found["dice_slice"] == pytest.approx(0.5)
    assert found["hd95_mm"] == pytest.approx(4.0)
    assert found["false_positive_mm2"] == pytest.approx(5 * 4.0)
    healthy = segment.score_patient(rows.iloc[2:], pixel_mm=2.0)
    assert np.isnan(healthy["dice"]) and healthy["false_positive_mm2"] == pytest.approx(20.0)
