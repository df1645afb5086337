"""What the survey of a batch finds before any pixel is read: images and masks, by patient."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tasks.ingest.core.mr_contrast import Modality
from tasks.ingest.core.source_file import Source

if TYPE_CHECKING:
    from tasks.ingest.dicom.header import Header

Format = Literal["dicom", "dicom-multiframe", "rtstruct", "nifti", "image2d"]


@dataclass(frozen=True, slots=True)
class ScanRecord:
    """An image or a mask. `patient`, `session`, `stem` are secrets; they never leave as they are.

    `label` is what a class folder says of a picture: 1 tumour, 0 none; `first_slice` is the number
    of the first picture of a volume.
    `channel` is the index along the fourth axis of a NIfTI file that holds several contrasts;
    `label_convention` names the meaning of a mask's values where its layout tells it.
    `slice_steps` are the vectors from slice to slice, RAS+ mm, of the images on which an RT
    structure set was drawn.
    `when` orders sessions in time; `stem` is the name that a mask's name starts with if it
    belongs to this one image; `headers` stand beside `sources` for DICOM.
    """

    role: Literal["image", "mask"]
    format: Format
    sources: tuple[Source, ...]
    patient: str = ""
    patient_known: bool = True
    session: str | None = None
    when: str = ""
    stem: str = ""
    modality: Modality = "other"
    evidence: str = "none"
    frame_of_reference: str = ""
    equipment: str = ""
    synthetic: bool = False
    label: int | None = None
    first_slice: int = 0
    channel: int | None = None
    label_convention: str | None = None
    slice_steps: tuple[tuple[float, ...], ...] = ()
    headers: "tuple[Header, ...]" = ()

    @property
    def name(self) -> str:
        """The name of the first file; sorts a batch in a fixed order."""
        return self.sources[0].name
