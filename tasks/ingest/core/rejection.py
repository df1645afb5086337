"""Define what ingest rejects: a short fixed code for each reason, and what to do about it.

`python -m tasks.ingest.core.rejection docs/ingest.md` updates the document's table of codes.
"""

from dataclasses import dataclass
from typing import NamedTuple

from tasks.ingest.core.generated_table import update_documents
from tasks.ingest.core.source_file import Source


class RejectionCode(NamedTuple):
    """What was found, and what to do about it; both without names of files or patients."""

    finding: str
    remedy: str


CODES = {
    "affine-conflict": RejectionCode(
        "sform and qform of a NIfTI file place a voxel more than a voxel apart",
        "say in ingest.affine which of the two is right, sform or qform",
    ),
    "archive-unsafe": RejectionCode(
        "an entry leads out of the archive, is a link, encrypted or an archive itself; too many "
        "entries; more inflated than `ingest.max_archive_bytes`",
        "unpack the archive by hand into the batch and look at what it holds",
    ),
    "burned-in-text": RejectionCode(
        "Burned In Annotation is YES, or the header has ultrasound regions",
        "remove the text from the pixels, or set ingest.allow_burned_in",
    ),
    "codec": RejectionCode(
        "no decoder for the transfer syntax; the deflated one, of which a few bytes may fill the "
        "memory",
        "convert the file to an uncompressed transfer syntax, for example with dcmdjpeg",
    ),
    "contours-too-sparse": RejectionCode(
        "contours of one region on planes more than 10 mm apart",
        "draw the region on the slices between, or export it interpolated",
    ),
    "corrupt": RejectionCode(
        "the file, archive or 2D image cannot be parsed or decoded",
        "fetch the file from its archive again",
    ),
    "crashed": RejectionCode(
        "a decoder ended two processes, the second time with this patient alone, or ran out of "
        "`ingest.max_seconds`",
        "fetch the file again; if it persists, convert it with another tool",
    ),
    "derived-map": RejectionCode(
        "Image Type names a computed map (ADC, FA, CBV, …); a parametric map, a dose",
        "none needed: maps computed from images are not images",
    ),
    "duplicate": RejectionCode(
        "the same SOP instance, equal pixels at the same place, or a file of equal name and bytes "
        "in another folder; one copy is kept",
        "none needed: an equal slice or file was kept",
    ),
    "empty-file": RejectionCode(
        "0 bytes",
        "fetch the file from its archive again",
    ),
    "geometry": RejectionCode(
        "positions, orientations or spacings are missing, not finite or no rectangle's; no usable "
        "sform or qform; contours in no parallel planes",
        "export the series again with its positions and orientations, contours in parallel planes",
    ),
    "hidden-file": RejectionCode(
        "a scan in a folder, or under a name, that begins with a dot",
        "none needed; rename it without the dot if it is a scan of the batch",
    ),
    "inverted-greyscale": RejectionCode(
        "MONOCHROME1; dcm2niix takes such values as they are",
        "export the series as MONOCHROME2",
    ),
    "labels-contradict": RejectionCode(
        "equal 2D images in folders of both classes",
        "keep the picture in the folder of its true class only",
    ),
    "labels-unknown": RejectionCode(
        "the label convention is not known and the values do not decide, or it does not hold a "
        "value or tell the region; segment names that do not tell the region; values that are no "
        "whole numbers",
        "name the data set's labels in ingest.label_convention, or give ingest.mask_labels as a "
        "list of the values that are tumour; turn probabilities into labels",
    ),
    "localiser": RejectionCode(
        "Image Type says LOCALIZER",
        "none needed: localisers are not volumes",
    ),
    "mask-format": RejectionCode(
        "a DICOM object that outlines something in a form that is not read: surfaces, height maps",
        "export the mask as a DICOM Segmentation, an RT structure set or NIfTI",
    ),
    "mask-grid": RejectionCode(
        "the position of the mask on the image is not known: an identity affine, or a 2D image "
        "turned by its EXIF tag; and the image does not settle it",
        "save the mask again with the image's own affine, or in the image's orientation",
    ),
    "mask-ignores-image": RejectionCode(
        "the mask's outline follows no edge in any of its images",
        "look at the mask on the image; if it is right, set ingest.check_masks to false",
    ),
    "mask-in-air": RejectionCode(
        "more than half of the mask lies outside the head",
        "look at the mask on the image; if it is right, set ingest.check_masks to false",
    ),
    "mask-not-drawn": RejectionCode(
        "a structure set whose tumour was never drawn, or only as points or open lines",
        "draw the tumour as closed contours and export the structure set again",
    ),
    "mask-of-head": RejectionCode(
        "the mask covers most of the head, or spans it as a tissue does",
        "look at the mask on the image; if it is right, set ingest.check_masks to false",
    ),
    "mask-of-other-size": RejectionCode(
        "a 2D image's mask with other numbers of rows or columns",
        "export mask and picture with equal numbers of rows and columns",
    ),
    "mask-outside-image": RejectionCode(
        "the mask has tumour, none of it inside the image",
        "check that mask and image were drawn in the same space",
    ),
    "mask-without-image": RejectionCode(
        "no readable image of its patient, session and frame of reference",
        "put the image it was drawn on into the same batch",
    ),
    "missing-slice": RejectionCode(
        "one gap is a multiple of the others; slice numbers of 2D images with gaps",
        "export the whole series again",
    ),
    "nan-pixels": RejectionCode(
        "NaN or infinite voxels",
        "replace values that are not finite before the import",
    ),
    "no-brain": RejectionCode(
        "brain extraction is switched on and finds no brain",
        "set ingest.brain_extraction to false, or leave the series out by files.csv",
    ),
    "not-a-tumour-mask": RejectionCode(
        "the mask's name names another structure; no segment or region of it is tumour by its "
        "code or its name",
        "none needed; if it does hold the tumour, rename the mask, or list the labels or numbers "
        "of its segments in ingest.mask_segments",
    ),
    "not-a-volume": RejectionCode(
        "slices or frames share positions, or their sizes or orientations differ",
        "export the slices with their positions, one volume a series",
    ),
    "not-an-image": RejectionCode(
        "a DICOM object without pixels: a report, a presentation state",
        "none needed: the file holds no image",
    ),
    "not-greyscale": RejectionCode(
        "colours, and no `ingest.pictures.channel`",
        "export the series as MONOCHROME2",
    ),
    "outside-batch": RejectionCode(
        "a link that leads out of the batch",
        "copy what the link points to into the batch",
    ),
    "patient-ambiguous": RejectionCode(
        "one Patient ID with two birth dates, names or sexes; an ID whose number may count "
        "patients or visits; two folders that could be the patient's; files of one name in several "
        "folders",
        "write the patients down in files.csv (`auglift scan BATCH` proposes it), or set "
        "ingest.allow_unknown_patients",
    ),
    "patient-unknown": RejectionCode(
        "no Patient ID and no name, or placeholders such as ANON, 0000, REDACTED; one word as ID "
        "and name in several studies; a name that no layout explains; a 2D image outside "
        "tables and patterns",
        "write the patients down in files.csv (`auglift scan BATCH` proposes it), those of "
        "pictures also by ingest.pictures.pattern, or set ingest.allow_unknown_patients",
    ),
    "secondary-capture": RejectionCode(
        "a secondary capture: text may be in its pixels",
        "export the original series, or set ingest.allow_burned_in",
    ),
    "several-volumes": RejectionCode(
        "a fourth dimension above one without names of its contrasts; a 2D image of several pages",
        "name each contrast in files.csv (a row a channel), or split the file into one volume each",
    ),
    "sheared-stack": RejectionCode(
        "slices drift from their normal by more than 0.2 degrees (gantry tilt)",
        "resample the series to a rectangular grid (gantry tilt correction)",
    ),
    "skipped": RejectionCode(
        "`files.csv` or `series.csv` says `skip`, or the layout holds a better copy or outline of "
        "the same scan",
        "none needed; a row in files.csv with the role image or mask takes it",
    ),
    "synthetic": RejectionCode(
        "a mark of synthetic data: (0008,001C) YES, SYNTHETIC in Image Type, a contributing "
        "equipment that synthesises (109100), a UID of auglift's root; a JSON file with "
        "SyntheticData, the header of a NIfTI, the text of a PNG, or a name as auglift gives",
        "leave it out: nothing synthetic may stand for a patient; to train on it all the same, "
        "set ingest.allow_synthetic",
    ),
    "too-few-slices": RejectionCode(
        "fewer than `ingest.min_slices`",
        "export the whole series again, or lower ingest.min_slices",
    ),
    "too-large": RejectionCode(
        "more voxels declared than `ingest.max_voxels`, a side above 32767, or more memory needed "
        "than a worker may take",
        "crop the volume, or raise ingest.max_voxels",
    ),
    "truncated": RejectionCode(
        "fewer pixels than declared",
        "fetch the file from its archive again",
    ),
    "uneven-spacing": RejectionCode(
        "gaps differ by more than 4 % and are no multiples",
        "resample the series to even spacing",
    ),
    "unknown-format": RejectionCode(
        "neither DICOM, NIfTI, 2D image, archive nor known metadata; a pipe, a device, a dead link",
        "convert it to DICOM or NIfTI, or take it out of the batch",
    ),
    "unreadable": RejectionCode(
        "no right to open the file",
        "give the user who runs the stage the right to read it",
    ),
    "unsupported-pixels": RejectionCode(
        "bits other than 8, 16, 32; stored bits that do not end at the High Bit; a modality lookup "
        "table; slope 0; complex or coloured voxels",
        "convert it to integer or real single-channel pixels",
    ),
}
REMEDIES = {code: entry.remedy for code, entry in CODES.items()}
TABLE_START, TABLE_END = "<!-- codes: generated -->\n", "<!-- codes: end -->\n"


class RejectionError(Exception):
    """The rejection of a file or series: a code from `CODES` and a reason without names.

    The reason leaves the machine: it may hold counts and measurements, never text from the file.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(code, reason)
        if code not in CODES:
            raise KeyError(code)
        self.code = code
        self.reason = reason


@dataclass(frozen=True)
class Rejection:
    """Files that were rejected together: one row of the table of rejected files."""

    sources: tuple[Source, ...]
    code: str
    reason: str

    @property
    def name(self) -> str:
        """The name of the first file."""
        return self.sources[0].name


def code_table() -> str:
    """Return all codes as a Markdown table, in alphabetical order."""
    codes = sorted(CODES.items())
    rows = ["| code | what was found | what to do |", "|---|---|---|"]
    rows += [f"| `{code}` | {finding} | {remedy} |" for code, (finding, remedy) in codes]
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    update_documents(TABLE_START, TABLE_END, code_table())
