"""`data/slices/slices.parquet`: one row a slice, in the order of `images.npy`."""

import pandera.pandas as pa
from pandera.typing import Series


class SlicesTable(pa.DataFrameModel):
    """Position-matched slices; label 1 tumour, 0 none, -1 unlabelled.

    `mask_known` is false where tumours were not outlined: the mask is empty whatever the label.
    `marked_synthetic` is true where the scan or its outline was marked as synthetic at its source
    (`ingest.allow_synthetic`): such slices only train. `partition_FOLD` is `unused` where a slice
    takes no part in a fold: its patient was not drawn, or that fold's matching left it out.
    """

    row: Series[int] = pa.Field(ge=0)
    subject: Series[str]
    session: Series[str] | None
    batch: Series[str]
    site: Series[str]
    slice_index: Series[int] = pa.Field(ge=0)
    position_mm: Series[float]
    brain_area_mm2: Series[float] = pa.Field(ge=0)
    tumor_area_mm2: Series[float] = pa.Field(ge=0)
    label: Series[int] = pa.Field(isin=[-1, 0, 1])
    mask_known: Series[bool] | None
    marked_synthetic: Series[bool] | None
    partition: Series[str] = pa.Field(
        alias="^partition_.+$", regex=True, isin=["train", "val", "test", "unused"]
    )
