"""`data/implant/FOLD/samples.parquet`: slices with a painted tumour."""

import pandera.pandas as pa
from pandera.typing import Series


class Implants(pa.DataFrameModel):
    """One row a painted slice, in the order of `images.npy` and `masks.npy`.

    `host_row` and `shape_row` are rows of `slices.parquet`: the real slice that is painted into,
    and the one whose outlined tumour gave the shape. `likeness` is the correlation with the most
    similar tumour that the painter learnt from, in `nearest_row`; a copy is not accepted.
    """

    row: Series[int] = pa.Field(ge=0)
    label: Series[int] = pa.Field(eq=1)
    host_row: Series[int] = pa.Field(ge=0)
    shape_row: Series[int] = pa.Field(ge=0)
    nearest_row: Series[int] = pa.Field(ge=-1)
    likeness: Series[float] = pa.Field(nullable=True)
    accepted: Series[bool]
    reason: Series[str]
