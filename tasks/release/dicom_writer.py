"""Write slices as DICOM Secondary Capture and their masks as DICOM SEG, marked as synthetic.

Marks: SYNTHETIC in Image Type, Synthetic Data (0008,001C) YES, Contributing Equipment with
(109100, DCM, Synthesizing Equipment), the root of every UID, and the words in names and
descriptions. Every UID is
derived from the pixels and from everything else in a file, so the bytes repeat and no UID stands
for two images; every date is `release.date`. Values are checked against their VR before they are
written.
"""

import dataclasses
import datetime
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import DataElement, Dataset, config
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.valuerep import DSfloat, validate_value

from tasks.common import synthetic_marks
from tasks.common.bids_suffixes import BIDS_SUFFIX
from tasks.common.stored_values import to_stored_values
from tasks.stage.errors import InputError

SYNTHESIZING: Final = Code(synthetic_marks.SYNTHESIZING, "DCM", "Synthesizing Equipment")
ACQUISITION: Final = codes.DCM.AcquisitionEquipment.value
MANUFACTURER: Final = "auglift"
TEXT_VRS: Final = (
    "AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UI", "UR",
)  # fmt: skip


@dataclass(frozen=True)
class ReleaseStamp:
    """What all DICOM files of one release share; `digest` is the generator's or the candidate's."""

    digest: str
    version: str
    date: datetime.date
    pixel_mm: float

    def of_slice(self, *parts: object) -> "ReleaseStamp":
        """Return the stamp of one slice, whose UIDs also derive from these parts (arrays or words).

        A PACS keeps one of two files with one UID: another tumour area, version or date must not
        lead to the UIDs of an earlier file.
        """
        digest = hashlib.sha256()
        for part in (self.digest, self.version, self.date, self.pixel_mm, *parts):
            if isinstance(part, np.ndarray):
                digest.update(str(part.shape).encode() + part.tobytes())
            else:
                digest.update(str(part).encode() + b"\0")
        return dataclasses.replace(self, digest=digest.hexdigest())

    def uid(self, *words: object) -> str:
        """Derive a UID, which is recognised as synthetic, from the words alone."""
        return synthetic_marks.synthetic_uid("/".join(map(str, [self.digest, *words])))


def write_dicom(
    instances: Path,
    name: str,
    image: NDArray[np.floating],
    mask: NDArray[np.uint8],
    *,
    modalities: list[str],
    label: int,
    stamp: ReleaseStamp,
    burned_in: bool = False,
) -> None:
    """Write one slice (C,H,W) in [-1, 1] and its mask (H,W) as files of the folder `instances`.

    `burned_in` is whether the pixels hold a word, as `burned_in_mark` writes it.
    """
    subject = name.removeprefix("sub-")
    stamp = stamp.of_slice(subject, label, *modalities, *map(to_stored_values, image), mask)
    for channel, modality in enumerate(modalities):
        capture = secondary_capture(
            to_stored_values(image[channel]),
            subject=subject,
            modality=modality,
            label=label,
            stamp=stamp,
        )
        capture.BurnedInAnnotation = "YES" if burned_in else "NO"
        capture.save_as(instances / f"{BIDS_SUFFIX[modality]}.dcm", enforce_file_format=True)
        if channel == 0 and mask.any():
            segments = segmentation(mask, capture, subject=subject, stamp=stamp)
            segments.save_as(instances / "mask.dcm", enforce_file_format=True)


def secondary_capture(
    pixels: NDArray[np.uint16], *, subject: str, modality: str, label: int, stamp: ReleaseStamp
) -> Dataset:
    """Make one slice a Secondary Capture image (PS3.3 A.8.1) with its plane in patient axes.

    Args:
        pixels: (H,W) of 12 bits, rows anterior to posterior, columns patient right to left.
        subject: the synthetic subject, such as syn00001; each is a patient of its own.
        modality: what the slice imitates, such as FLAIR.
        label: 1 tumour, 0 none.
        stamp: digest, version, date and pixel size.
    """
    image = hd.sc.SCImage(
        pixel_array=pixels,
        photometric_interpretation="MONOCHROME2",
        bits_allocated=16,
        coordinate_system="PATIENT",
        patient_orientation=("L", "P"),
        pixel_spacing=(stamp.pixel_mm, stamp.pixel_mm),
        study_instance_uid=stamp.uid(subject, "study"),
        series_instance_uid=stamp.uid(subject, modality, "series"),
        sop_instance_uid=stamp.uid(subject, modality, "instance"),
        series_number=1,
        instance_number=1,
        manufacturer=MANUFACTURER,
        patient_id=subject,
        patient_name=f"SYNTHETIC^{subject}",
        study_id="SYNTHETIC",  # an SH holds 16 characters: too few for some subjects
        contributing_equipment=[synthesizer(stamp)],
    )
    H, W = pixels.shape
    image.BitsStored, image.HighBit = 12, 11
    image.WindowCenter, image.WindowWidth = 2048, 4096
    image.FrameOfReferenceUID = stamp.uid(subject, "frame")
    image.PositionReferenceIndicator = ""
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.ImagePositionPatient = [
        -(W - 1) / 2 * stamp.pixel_mm,
        -(H - 1) / 2 * stamp.pixel_mm,
        0,
    ]
    image.SliceThickness = stamp.pixel_mm  # nominal, as in the NIfTI header; SEG must have one
    image.Laterality = ""
    image.SeriesDescription = f"SYNTHETIC {modality}-like slice"
    image.ImageComments = (
        f"Synthetic slice {'with' if label else 'without'} tumour. Not of any person."
    )
    return mark_synthetic(image, stamp)


def segmentation(
    mask: NDArray[np.uint8], source: Dataset, *, subject: str, stamp: ReleaseStamp
) -> Dataset:
    """Make the tumour mask of one slice a DICOM SEG (PS3.3 A.51) that refers to its image.

    `mask` is (H,W) in {0,1} and not empty: an empty one has no segment to store.
    """
    algorithm = hd.AlgorithmIdentificationSequence(
        name=MANUFACTURER, version=stamp.version, family=codes.DCM.ArtificialIntelligence
    )
    tumour = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label="SYNTHETIC tumour",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Neoplasm,
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
    )
    segments = hd.seg.Segmentation(
        source_images=[source],
        pixel_array=mask[None],  # (H,W) to (1,H,W)
        segmentation_type="BINARY",
        segment_descriptions=[tumour],
        series_instance_uid=stamp.uid(subject, "mask", "series"),
        sop_instance_uid=stamp.uid(subject, "mask", "instance"),
        series_number=2,
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MANUFACTURER,
        software_versions=stamp.version,
        device_serial_number="0",
        content_label="SYNTHETIC",
        content_description="Synthetic tumour mask, not of any person",
        contributing_equipment=[synthesizer(stamp)],
        series_description="SYNTHETIC tumour mask",
        dimension_organization_type=None,
    )
    organization = stamp.uid(subject, "dimensions")  # highdicom draws a random one
    segments.DimensionOrganizationSequence[0].DimensionOrganizationUID = organization
    for index in segments.DimensionIndexSequence:
        index.DimensionOrganizationUID = organization
    measures = segments.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.SpacingBetweenSlices = stamp.pixel_mm
    segments.ContributingEquipmentSequence = [
        equipment  # highdicom takes the image's maker for a scanner
        for equipment in segments.ContributingEquipmentSequence
        if equipment.PurposeOfReferenceCodeSequence[0].CodeValue != ACQUISITION
    ]
    return mark_synthetic(segments, stamp)


def synthesizer(stamp: ReleaseStamp) -> hd.ContributingEquipment:
    """Describe auglift as the equipment that synthesised the image."""
    return hd.ContributingEquipment(
        manufacturer=MANUFACTURER,
        purpose_of_reference=SYNTHESIZING,
        manufacturer_model_name=MANUFACTURER,
        software_versions=stamp.version,
        contribution_description="Drawn by a generative model; no scanner, no patient",
    )


def mark_synthetic(dataset: Dataset, stamp: ReleaseStamp) -> Dataset:
    """Mark the data set, and replace highdicom's current date by the fixed one."""
    dataset.SyntheticData = "YES"
    if dataset.Modality != "SEG":  # whose Image Type has two values (PS3.3 C.8.20.2)
        dataset.ImageType = [*dataset.ImageType[:2], synthetic_marks.IMAGE_TYPE]
    dataset.StudyDate, dataset.StudyTime = stamp.date, ""
    dates = {
        "DA": stamp.date.strftime("%Y%m%d"),
        "TM": "000000",
        "DT": stamp.date.strftime("%Y%m%d000000"),
    }

    for element in dataset.iterall():
        if element.VR in dates and element.keyword != "PatientBirthDate":
            element.value = dates[element.VR]
        elif element.VR == "DS" and element.VM:
            values = element.value if element.VM > 1 else [element.value]
            # At most the 16 characters that a DS holds.
            element.value = [DSfloat(float(value), auto_format=True) for value in values]
        check_value(element)
    return dataset


def check_value(element: DataElement) -> None:
    """Check a text against its value representation (PS3.5 6.2).

    Raises:
        InputError: naming the attribute and its value. pydicom would only warn, and a PACS may cut
            the value off or refuse the file.
    """
    if element.VR not in TEXT_VRS:
        return
    for value in element.value if element.VM > 1 else [element.value]:
        try:
            validate_value(element.VR, "" if value is None else str(value), config.RAISE)
        except ValueError as error:
            raise InputError(f"{element.keyword} (DICOM) would be {value}: {error}") from None
