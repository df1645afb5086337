from typing import ClassVar

from pydantic import Field

from tasks.params import Section


class Data(Section):
    """Which folders under `data/raw/` are read."""

    section: ClassVar[str] = "data"
    batches: list[str] = Field(min_length=1)
