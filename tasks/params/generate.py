from typing import ClassVar

from pydantic import Field, FiniteFloat

from tasks.params import Section


class Generate(Section):
    """How many slices are sampled, and when a sampled mask is good enough."""

    section: ClassVar[str] = "generate"
    count: int = Field(ge=1)  # slices of each fold
    seed: int = Field(ge=0)
    threads: int = Field(ge=1, le=256)
    tumor_share: float = Field(default=0.5, ge=0, le=1)
    min_island_px: int = Field(default=3, ge=1)  # smaller parts of a mask are removed
    min_tumor_px: int = Field(default=5, ge=1)  # a tumour slice with less is sampled again
    attempts: int = Field(default=8, ge=1)  # samples of a slice, the first included
    # For a generator that takes these conditions (train_gan.conditions); null: their values are
    # sampled from those of the training slices.
    tumor_area_mm2: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    position_mm: FiniteFloat | None = None  # upwards from the middle of the brain
    site: str | None = Field(default=None, min_length=1)  # as in data/slices
