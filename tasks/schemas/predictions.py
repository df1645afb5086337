"""`data/downstream/TASK-ARM/`: what a trained model predicts for each test slice and patient."""

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series

UNBOUNDED_METRICS = ("hd95_mm", "false_positive_mm2")  # metrics that may exceed 1


class ClassifyPredictions(pa.DataFrameModel):
    """One row a test slice, fold and seed of `classify`; `threshold` comes from validation.

    `true_area` is in pixels of the slice grid.
    """

    fold: Series[str]
    seed: Series[int]
    subject: Series[str]
    row: Series[int]
    label: Series[int] = pa.Field(isin=[0, 1])
    true_area: Series[int] = pa.Field(ge=0)
    probability: Series[float] = pa.Field(ge=0, le=1)
    threshold: Series[float] = pa.Field(ge=0, le=1)


class SegmentPredictions(pa.DataFrameModel):
    """One row a test slice, fold and seed of `segment`; areas in pixels of the slice grid.

    `hd95_mm` is null on slices without tumour, and the slice's diagonal where the model marked
    nothing of a tumour. `probability` is the highest of any pixel: the segmenter's score of the
    slice, beside that of `classify`.
    """

    fold: Series[str]
    seed: Series[int]
    subject: Series[str]
    row: Series[int]
    label: Series[int] = pa.Field(isin=[0, 1])
    true_area: Series[int] = pa.Field(ge=0)
    predicted_area: Series[int] = pa.Field(ge=0)
    overlap_area: Series[int] = pa.Field(ge=0)
    hd95_mm: Series[float] = pa.Field(ge=0, nullable=True)
    threshold: Series[float] = pa.Field(ge=0, le=1)
    probability: Series[float] | None = pa.Field(ge=0, le=1)


class PatientScores(pa.DataFrameModel):
    """One row a test patient, fold, seed and metric; `value` is null where undefined.

    `dice_volume` is over the whole volume, all slices, on its native grid; every other metric is
    over the patient's slices in `data/slices`.
    """

    fold: Series[str]
    seed: Series[int]
    subject: Series[str]
    site: Series[str]
    metric: Series[str]
    value: Series[float] = pa.Field(nullable=True)

    @pa.dataframe_check(name="shares lie within 0 and 1, distances and areas are not negative")
    @classmethod
    def _possible(cls, table: pd.DataFrame) -> "pd.Series[bool]":
        most = np.where(table["metric"].isin(UNBOUNDED_METRICS), np.finfo(float).max, 1.0)
        value = table["value"]
        return value.isna() | ((value >= 0) & (value <= most))


class RunOutcomes(pa.DataFrameModel):
    """One row a fold and seed: the end of training, measured on validation patients.

    `rise` is what the last fifth of the steps still gained; about 0 where the curve is flat.
    """

    fold: Series[str]
    seed: Series[int]
    val_metric: Series[float]
    rise: Series[float] = pa.Field(nullable=True)
    learnt: Series[bool]
