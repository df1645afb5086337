from typing import ClassVar

from pydantic import Field

from tasks.params import Section


class Pool(Section):
    """How many slices an arm adds to the real training slices."""

    section: ClassVar[str] = "pool"
    ratio: float = Field(gt=0, le=20)  # added slices a real training slice
    min_images: int = Field(ge=2)  # with fewer accepted slices an arm is marked `too few`
    seed: int = Field(ge=0)
