from typing import ClassVar

from pydantic import Field

from tasks.params import Section


class Phantom(Section):
    """The simulated cohort. Twelve patients hold one of each kind (format, site, tumour)."""

    section: ClassVar[str] = "phantom"
    patients: int = Field(60, ge=12, le=900)
    seed: int = Field(7, ge=0)
