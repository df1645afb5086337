"""`samples.parquet` of synthetic images, of the gate's scores and of an arm's pool."""

import pandera.pandas as pa
from pandera.typing import Series


class Samples(pa.DataFrameModel):
    """`data/synthetic/FOLD`: one row an image; `seed` alone reproduces it."""

    row: Series[int] = pa.Field(ge=0)
    seed: Series[int] = pa.Field(ge=0)
    label: Series[int] = pa.Field(isin=[0, 1])


class GatedSamples(Samples):
    """`data/gate/FOLD`: the samples, every per-image score, and the decision."""

    accepted: Series[bool]
    reason: Series[str] = pa.Field(nullable=True)


class PoolSamples(pa.DataFrameModel):
    """`data/pool/ARM`: the slices added to each fold's training slices.

    `mask_known` is false for a tumour that was not outlined: its mask is empty all the same.
    """

    row: Series[int] = pa.Field(ge=0)
    fold: Series[str]
    label: Series[int] = pa.Field(isin=[0, 1])
    source_row: Series[int] = pa.Field(ge=0)
    mask_known: Series[bool] | None
