from typing import ClassVar

from pydantic import Field

from tasks.params import Section


class Lift(Section):
    """How the arms are compared.

    Attributes:
        draws: bootstrap replicates; 2000 resolve a p-value of .05 to about .005.
        min_patients: with fewer test patients no interval is given.
    """

    section: ClassVar[str] = "lift"
    draws: int = Field(default=2000, ge=100)
    min_patients: int = Field(default=6, ge=2)
    seed: int = Field(default=19, ge=0)
