from typing import ClassVar

from pydantic import Field, model_validator

from tasks.params import Section


class Implant(Section):
    """How tumours are painted into slices without one.

    Attributes:
        seed: of everything random.
        threads: of the processor.
        count: painted slices of a fold.
        placements: tumour shapes in slices without tumour that the painter trains on.
        steps: updates of the painter, and of the two discriminators.
        batch: half of it are slices without tumour, half tumour slices painted over.
        width: the painter's channels at full resolution.
        l1: weight of the mean absolute error where a tumour slice was painted over.
        r1_gamma: weight of the gradient penalty (Mescheder 2018), at every eighth step.
    """

    section: ClassVar[str] = "implant"
    seed: int = Field(default=0, ge=0)
    threads: int = Field(default=1, ge=1, le=256)
    count: int = Field(default=400, ge=1)
    placements: int = Field(default=1500, ge=1)
    steps: int = Field(default=800, ge=1)
    batch: int = Field(default=16, ge=4)
    width: int = Field(default=16, ge=4, le=256)
    learning_rate: float = Field(default=1e-3, gt=0, le=0.1)
    l1: float = Field(default=1.0, ge=0)
    r1_gamma: float = Field(default=0.1, ge=0)

    @model_validator(mode="after")
    def _is_consistent(self) -> "Implant":
        if self.batch % 4:  # groups of four of the minibatch standard deviation
            raise ValueError("batch must be a multiple of 4")
        return self
