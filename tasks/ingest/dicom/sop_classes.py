"""The kinds of DICOM objects that ingest distinguishes, by SOP Class UID (DICOM PS3.4, B.5)."""

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.7"  # Supplement 243
SEGMENTATIONS = (SEGMENTATION, LABEL_MAP_SEGMENTATION)
STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
MASKS = (*SEGMENTATIONS, STRUCTURE_SET)
UNREADABLE_MASKS = {
    "1.2.840.10008.5.1.4.1.1.66.5": "a surface segmentation",
    "1.2.840.10008.5.1.4.1.1.66.8": "a height map segmentation",
}
MAPS = {
    "1.2.840.10008.5.1.4.1.1.30": "a parametric map",
    "1.2.840.10008.5.1.4.1.1.481.2": "a radiotherapy dose",
}
ENHANCED = (
    "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4",  # MR, its legacy form
    "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2",  # CT
    "1.2.840.10008.5.1.4.1.1.130", "1.2.840.10008.5.1.4.1.1.128.1",  # PET
)  # fmt: skip
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # also UIDs that begin with it
READ_BY_PYDICOM = (*MASKS, *ENHANCED)
