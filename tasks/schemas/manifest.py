"""`data/volumes/BATCH/manifest.parquet`: one row a volume that was read."""

import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series


class Manifest(pa.DataFrameModel):
    """Volumes of a batch; paths are relative to the batch's folder.

    `evidence` names the source of `modality`; `shape` and `spacing_mm` hold three numbers each.
    `patient_known` is false where no file names a patient: then splits may leak.
    `label` is a 2D image's class folder, 1 tumour or 0 none; null without a class folder.
    Images without slice numbers are volumes of one slice each (`shape` ends in 1); one in a folder
    of class 0 has an empty mask, one of class 1 without a mask file has `mask_status` missing:
    then `label` is all that is known. `brain` is `extracted` or `stripped before` where
    `ingest.brain_extraction` is on.
    """

    subject: Series[str]
    session: Series[str] = pa.Field(nullable=True)
    modality: Series[str] = pa.Field(isin=["T1", "T1c", "T2", "FLAIR", "other"])
    evidence: Series[str] | None
    image: Series[str]
    mask: Series[str] = pa.Field(nullable=True)
    mask_status: Series[str] = pa.Field(isin=["segmented", "empty", "missing"])
    shape: Series[object]
    spacing_mm: Series[object]
    orientation: Series[str]
    source_format: Series[str] = pa.Field(isin=["dicom", "dicom-multiframe", "nifti", "image2d"])
    source_sha256: Series[str]
    site: Series[str]
    synthetic: Series[bool]
    patient_known: Series[bool] | None
    label: Series[pd.Int64Dtype] | None = pa.Field(nullable=True, coerce=True)
    brain: Series[str] | None = pa.Field(
        nullable=True, isin=["extracted", "stripped before"], coerce=True
    )
