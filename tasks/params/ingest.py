import re
from typing import Annotated, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    StrictInt,
    StrictStr,
    field_validator,
)

from tasks.params import Section

LabelRule = Literal["whole", "core", "enhancing"]
LabelConvention = Literal[
    "binary", "brats-2012-2020", "brats-2021-2023", "brats-2024", "brats-ped", "brats-ped-2023",
    "brats-ped-2024", "brats-men", "brats-men-rt", "brats-met", "msd-brain-tumour", "ucsf-pdgm",
    "upenn-gbm", "lumiere", "mu-glioma-post", "glistrboost",
]  # fmt: skip


class Images2D(BaseModel):
    """How collections of 2D images are read.

    Attributes:
        pattern: a regular expression with a group `patient` and, where the images are slices, a
            group `slice`; it is searched in an image's path without its ending.
        channel: the channel that is read of a colour image whose channels differ.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    pattern: str | None = None
    modality: Literal["T1", "T1c", "T2", "FLAIR", "other"] | None = None
    channel: Literal[0, 1, 2] | None = None
    spacing_mm: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (1.0, 1.0, 1.0)

    @field_validator("pattern")
    @classmethod
    def _has_a_patient(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                groups = re.compile(pattern).groupindex
            except re.error as error:
                raise ValueError(f"no regular expression: {error}") from None
            if "patient" not in groups:
                raise ValueError("the group (?P<patient>...) is missing")
        return pattern


class Ingest(Section):
    """How raw files become volumes.

    Attributes:
        mask_labels: which labels of a mask are tumour: a region, or a list of values.
        mask_segments: what is tumour in DICOM segmentations and RT structure sets that hold one
            of these: labels (in any case) or numbers. Others are classified by their codes and
            names.
        label_convention: what the values of all masks mean (docs/ingest.md); null: as the layout
            of each file says.
        affine: which of a NIfTI file's two affines is right where they disagree; null: the file
            is rejected.
        allow_synthetic: take what is marked as synthetic; its patients then only ever train.
        check_masks: reject masks that lie in air, cover the head or ignore the image.
        n4: correct the bias field of every image (seconds to a minute each).
        brain_extraction: remove the skull of every volume that still has one, with the networks
            of deepbet, which are installed apart (seconds a volume; see docs/ingest.md).
        max_seconds: the time limit of one patient.
        key_fingerprint: the fingerprint of the pseudonym key; the default is the public demo
            key's.
    """

    section: ClassVar[str] = "ingest"
    mask_labels: LabelRule | Annotated[list[int], Field(min_length=1)] = "whole"
    mask_segments: tuple[StrictInt | Annotated[StrictStr, Field(min_length=1)], ...] = ()
    label_convention: LabelConvention | None = None
    affine: Literal["sform", "qform"] | None = None
    check_masks: bool = True
    min_slices: int = Field(default=3, ge=2)
    max_voxels: int = Field(default=2**27, ge=1)
    max_seconds: float = Field(default=300, gt=0)
    max_archive_bytes: int = Field(default=2**33, ge=1)
    allow_burned_in: bool = False
    allow_unknown_patients: bool = False
    allow_synthetic: bool = False
    n4: bool = False
    brain_extraction: bool = False
    pictures: Images2D = Images2D()
    key_fingerprint: str = Field(default="d462ac8e", pattern="^[0-9a-f]{8}$")

    @property
    def worker_memory(self) -> int:
        """Bytes that a worker may use: a few copies of the largest volume, and libraries."""
        return 32 * self.max_voxels + 2**31
