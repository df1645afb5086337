"""`data/lift.csv`: the figures of `data/lift.json` as a table."""

# A module of its own, so that what reads a verdict need not wait for pandas.
import pandera.pandas as pa
from pandera.typing import Series


class LiftRows(pa.DataFrameModel):
    """The figures of `data/lift.json`, one row a task, metric and arm."""

    task: Series[str]
    metric: Series[str]
    arm: Series[str]
    mean: Series[float] = pa.Field(nullable=True)
    low: Series[float] = pa.Field(nullable=True)
    high: Series[float] = pa.Field(nullable=True)
    lift: Series[float] = pa.Field(nullable=True)
    lift_low: Series[float] = pa.Field(nullable=True)
    lift_high: Series[float] = pa.Field(nullable=True)
    p_adjusted: Series[float] = pa.Field(nullable=True, ge=0, le=1)
    n_patients: Series[int] = pa.Field(ge=0)
    status: Series[str]
