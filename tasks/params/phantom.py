from typing import ClassVar

from pydantic import Field

from tasks.params import Section


class Phantom(Section):
    """The simulated cohort. Twelve patients hold one of each kind (format, site, tumour).

    Attributes:
        outlined: the first so many patients come with a mask, the others without; null: all.
    """

    section: ClassVar[str] = "phantom"
    patients: int = Field(60, ge=12, le=1000)
    outlined: int | None = Field(None, ge=0)
    seed: int = Field(7, ge=0)
