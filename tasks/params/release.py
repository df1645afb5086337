"""The section `release` of `params.yaml`."""

import datetime
from typing import ClassVar

from pydantic import Field

from tasks.params import Section


class Release(Section):
    """What the released data set states about itself."""

    section: ClassVar[str] = "release"
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$", description="of the data set")
    require_approval: bool = Field(
        False, description="release only what data/approval.json approves by its digest"
    )
    license: str = Field("not stated by the owner of the source data", min_length=1)
    date: datetime.date = Field(
        datetime.date(2000, 1, 1),
        description="stands in every date of the DICOM files; a clock would change every hash",
    )
