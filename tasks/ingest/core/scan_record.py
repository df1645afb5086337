"""Describe an image or mask before its pixels are read: files, patient, session, contrast."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tasks.ingest.core.mr_contrast import Modality
from tasks.ingest.core.source_file import Source

if TYPE_CHECKING:
    from tasks.ingest.dicom.header import Header

Format = Literal["dicom", "dicom-multiframe", "rtstruct", "nifti", "image2d"]


@dataclass(frozen=True, slots=True)
class ScanRecord:
    """An image or a mask of one patient.

    Secrets, which never leave the machine as they are: `patient`, `session`, `session_order`,
    `stem`, `frame_of_reference`, `equipment`, and the names in `sources` and `headers`. Outputs
    hold keyed hashes of them, or the order of the sessions (`privacy/pseudonyms`,
    `conversion/convert_patient`). The other fields are safe to write.

    Identity:
    - `patient` is the ID as it was read. `patient_known` is false where
      `ingest.allow_unknown_patients` made an unidentified study or name a patient of its own.
    - `session` identifies the visit; None where nothing names one. `session_order` sorts the
      sessions of a patient in time.

    Content:
    - `modality` is the MR contrast, `evidence` the source from which it was read.
    - `synthetic` is whether the header or the sidecar marks the image as synthetic.
    - `label` is the class of a 2D image: 1 tumour, 0 none, None where no folder or table names it.
    - `label_convention` names the meaning of a mask's values where the layout of its name tells it.

    Pairing of masks with images:
    - `frame_of_reference` is the DICOM Frame of Reference UID, or the stem of a 2D image that
      stands alone; empty where there is none.
    - `stem` is the text with which a mask's name starts if the mask belongs to this one image.
    - `slice_steps` are the vectors from slice to slice, RAS+ mm, of the images on which an RT
      structure set was drawn.

    Files:
    - `sources` are the files in the order in which they are read; `headers` are their DICOM headers
      in the same order, empty for other formats.
    - `channel` is the index along the fourth axis of a NIfTI file that holds several contrasts, or
      the colour of a 2D image; None where the file holds one contrast.
    - `first_slice` is the slice number of the first 2D image of a volume.
    - `equipment` is the institution and the station of a DICOM series.
    """

    role: Literal["image", "mask"]
    format: Format
    sources: tuple[Source, ...]
    patient: str = ""
    patient_known: bool = True
    session: str | None = None
    session_order: str = ""
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
        """The name of the first file, by which a batch is sorted in a fixed order."""
        return self.sources[0].name
