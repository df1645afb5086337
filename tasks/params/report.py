"""The section `report` of `params.yaml`."""

from typing import ClassVar

from pydantic import Field

from tasks.params import Section


class Report(Section):
    """How much the page shows; nothing here changes a figure."""

    section: ClassVar[str] = "report"
    tiles: int = Field(12, ge=2, le=60, description="slices on each sheet")
    pairs: int = Field(6, ge=1, le=40, description="most suspicious pairs in each list")
