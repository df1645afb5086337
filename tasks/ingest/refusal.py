"""What ingest may refuse: a short fixed code for each reason, and what to do about it."""

REMEDIES = {
    "archive-unsafe": "unpack the archive by hand into the batch and look at what it holds",
    "burned-in-text": "remove the text from the pixels, or set ingest.allow_burned_in",
    "codec": "convert the file to an uncompressed transfer syntax, for example with dcmdjpeg",
    "corrupt": "fetch the file from its archive again",
    "crashed": "fetch the file again; if it persists, convert it with another tool",
    "derived-map": "none needed: maps computed from images are not images",
    "duplicate": "none needed: an equal slice was kept",
    "empty-file": "fetch the file from its archive again",
    "geometry": "export the series again with its positions and orientations",
    "labels-unknown": "give ingest.mask_labels as a list of the label values that are tumour; turn"
    " probabilities into labels first",
    "inverted-greyscale": "export the series as MONOCHROME2",
    "localiser": "none needed: localisers are not volumes",
    "mask-of-other-size": "export mask and picture with equal numbers of rows and columns",
    "mask-outside-image": "check that mask and image were drawn in the same space",
    "mask-without-image": "put the image it was drawn on into the same batch",
    "missing-slice": "export the whole series again",
    "nan-pixels": "replace values that are not finite before the import",
    "no-brain": "set ingest.brain_extraction to false, or leave the series out by series.csv",
    "not-a-volume": "export the slices with their positions, one volume a series",
    "not-an-image": "none needed: the file holds no image",
    "not-a-tumour-mask": "none needed; rename the mask if it does hold the tumour",
    "not-greyscale": "export the series as MONOCHROME2",
    "outside-batch": "copy what the link points to into the batch",
    "patient-ambiguous": "give each person an id of its own, or set ingest.allow_unknown_patients",
    "patient-unknown": "name the patients (those of pictures in pictures.csv or by"
    " ingest.pictures.pattern), or set ingest.allow_unknown_patients",
    "secondary-capture": "export the original series, or set ingest.allow_burned_in",
    "several-volumes": "split the file into one volume each",
    "sheared-stack": "resample the series to a rectangular grid (gantry tilt correction)",
    "too-few-slices": "export the whole series again, or lower ingest.min_slices",
    "too-large": "crop the volume, or raise ingest.max_voxels",
    "skipped": "none needed: series.csv leaves it out",
    "truncated": "fetch the file from its archive again",
    "uneven-spacing": "resample the series to even spacing",
    "unknown-format": "convert it to DICOM or NIfTI, or take it out of the batch",
    "unreadable": "give the user who runs the stage the right to read it",
    "unsupported-pixels": "convert it to integer or real single-channel pixels",
}  # fmt: skip


class RefusalError(Exception):
    """A file or series that is not taken: a code from `REMEDIES` and a reason without names.

    The reason leaves the machine: it may hold counts and measures, never text from the file.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(code, reason)
        if code not in REMEDIES:
            raise KeyError(code)
        self.code = code
        self.reason = reason
