"""`data/volumes/BATCH/rejected.parquet`: one row a rejected file or series."""

import pandera.pandas as pa
from pandera.typing import Series


class Rejected(pa.DataFrameModel):
    """Rejections; the path behind a token stays in `.private/rejected-BATCH.csv`."""

    token: Series[str]
    code: Series[str]
    reason: Series[str]
    remedy: Series[str]
