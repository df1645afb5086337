from typing import ClassVar

from pydantic import Field

from tasks.params import Section


class Teacher(Section):
    """What is taken over of the teacher's opinion on scans without outlines.

    Attributes:
        networks: segmenters, trained as `downstream.segment` says, that must agree.
        seed: of the first one; each has its own.
        threads: of the processor.
        confidence: least mean probability inside the marked tumour.
        agreement: least mean Dice between the networks' marks.
        background: a slice in which no network gives any pixel a higher probability shows no
            tumour.
        min_pixels: a smaller mark is no tumour, and no slice without one either.
    """

    section: ClassVar[str] = "teacher"
    networks: int = Field(default=3, ge=2, le=20)
    seed: int = Field(default=0, ge=0)
    threads: int = Field(default=1, ge=1, le=256)
    confidence: float = Field(default=0.75, ge=0.5, le=1)
    agreement: float = Field(default=0.7, ge=0, le=1)
    background: float = Field(default=0.2, ge=0, lt=0.5)
    min_pixels: int = Field(default=6, ge=1)
