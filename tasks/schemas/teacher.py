"""`data/teacher/FOLD/unlabelled.parquet`: the teacher's opinion on training slices."""

import pandera.pandas as pa
from pandera.typing import Series


class TeacherOpinions(pa.DataFrameModel):
    """One row a training slice that nobody outlined, in the order of `masks.npy`.

    `row` is that of `slices.parquet`. `opinion` is `tumor` or `none` where the networks are sure,
    else `unsure`; the other columns are what that was decided by: `largest_probability` of any
    network, the rest of the networks' mean.
    """

    row: Series[int] = pa.Field(ge=0)
    subject: Series[str]
    largest_probability: Series[float] = pa.Field(ge=0, le=1)
    area_px: Series[int] = pa.Field(ge=0)
    confidence: Series[float] = pa.Field(ge=0, le=1)
    agreement: Series[float] = pa.Field(ge=0, le=1)
    opinion: Series[str] = pa.Field(isin=["tumor", "none", "unsure"])
