"""Write a patient as a DICOM series (MR Image Storage, a file a slice) with a DICOM Segmentation.

These files stand in for a hospital's own, so they are not marked with Synthetic Data
(0008,001C): `ingest` would rightly mark them synthetic and `slices` keep them out of validation
and test. Patient's Name and Image Comments say what they are instead.
"""

from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from tasks.phantom.simulator import SimulatedPatient

DAY, TIME = "20240102", "080000"
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])
# Echo, repetition and inversion time in ms, field strength, and the slope that turns stored
# values into intensities: one site scales, the other stores them as they are.
PROTOCOLS = {
    "A": {"echo": 120.0, "repetition": 9000.0, "inversion": 2500.0, "field": 1.5, "slope": 1.0},
    "B": {"echo": 95.0, "repetition": 8000.0, "inversion": 2370.0, "field": 3.0, "slope": 0.25},
}


def write_dicom(
    root: Path,
    patient: SimulatedPatient,
    rng: np.random.Generator,
    *,
    seed: int,
    outlined: bool = True,
) -> None:
    """Write `sourcedata/PARTICIPANT/*.dcm` and, if the patient is outlined, its `seg.dcm`.

    Files are numbered in another order than the slices lie in space, and instances are counted
    from either end: only the position tells where a slice belongs.
    """
    folder = root / "sourcedata" / patient.participant_id
    folder.mkdir(parents=True)
    series = slice_datasets(patient, seed=seed, descending=bool(rng.random() < 0.5))
    for number, image in zip(rng.permutation(len(series)), series, strict=True):
        image.save_as(folder / f"{number + 1:04d}.dcm", enforce_file_format=True)
    if outlined:
        segmentation_object(patient, series, seed=seed).save_as(folder / "seg.dcm")


def seeded_uid(seed: int, *keys: object) -> str:
    """Return a UID that depends on the seed and the keys only."""
    return str(generate_uid(entropy_srcs=["auglift phantom", str(seed), *map(str, keys)]))


def slice_datasets(patient: SimulatedPatient, *, seed: int, descending: bool) -> list[FileDataset]:
    """Make one dataset a slice, from the lowest to the highest."""
    name = patient.participant_id
    slope = PROTOCOLS[patient.kind.site]["slope"]
    # DICOM rows run towards the patient's back, columns towards the left: (K,Rows,Columns).
    stored = np.rint(patient.volume[::-1, ::-1].transpose(2, 1, 0) / slope).astype(np.uint16)
    count = len(stored)
    series = []
    for k, pixels in enumerate(stored):
        image = series_header(patient, seed=seed)
        image.InstanceNumber = count - k if descending else k + 1
        image.SOPInstanceUID = seeded_uid(seed, name, "slice", k)
        image.ImagePositionPatient = image_position(patient, k)
        normal = np.cross(*np.reshape(image.ImageOrientationPatient, (2, 3)).astype(float))
        image.SliceLocation = decimal_string(
            float(normal @ np.array(image.ImagePositionPatient, float))
        )
        image.SmallestImagePixelValue = int(pixels.min())
        image.LargestImagePixelValue = int(pixels.max())
        image.PixelData = np.ascontiguousarray(pixels).tobytes()
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        series.append(image)
    return series


def series_header(patient: SimulatedPatient, *, seed: int) -> FileDataset:
    """Make the attributes that all slices of a series share."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    set_identity(image, patient, seed=seed)
    set_acquisition(image, patient.kind.site)
    columns, rows, _ = patient.volume.shape
    axes = RAS_TO_LPS @ patient.affine[:3, :3] / np.array(patient.spacing_mm)
    image.ImageOrientationPatient = [decimal_string(v) for v in (*-axes[:, 0], *-axes[:, 1])]
    image.PixelSpacing = [
        decimal_string(patient.spacing_mm[1]),
        decimal_string(patient.spacing_mm[0]),
    ]
    image.SpacingBetweenSlices = decimal_string(patient.spacing_mm[2])
    image.SliceThickness = decimal_string(patient.spacing_mm[2])
    image.Rows, image.Columns = rows, columns
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.PixelRepresentation = 0
    return image


def set_identity(image: Dataset, patient: SimulatedPatient, *, seed: int) -> None:
    """Set patient, study, series and frame of reference; PatientID is BIDS's participant_id."""
    name = patient.participant_id
    image.SpecificCharacterSet = "ISO_IR 100"
    image.SOPClassUID = MRImageStorage
    image.PatientName = f"PHANTOM^{name.removeprefix('sub-')}"
    image.PatientID = name
    image.PatientBirthDate = ""
    image.PatientSex = "O"
    image.StudyInstanceUID = seeded_uid(seed, name, "study")
    image.SeriesInstanceUID = seeded_uid(seed, name, "series")
    image.FrameOfReferenceUID = seeded_uid(seed, name, "frame of reference")
    image.PositionReferenceIndicator = ""
    image.StudyDate = image.SeriesDate = image.AcquisitionDate = image.ContentDate = DAY
    image.StudyTime = image.SeriesTime = image.AcquisitionTime = image.ContentTime = TIME
    image.AccessionNumber = ""
    image.ReferringPhysicianName = ""
    image.StudyID = name.removeprefix("sub-")
    image.StudyDescription = "Brain phantom"
    image.SeriesNumber = 1
    image.AcquisitionNumber = 1
    image.ImageComments = "PHANTOM: simulated anatomy, no patient"


def set_acquisition(image: Dataset, site: str) -> None:
    """Set the attributes of a FLAIR acquisition (MR Image Module, PS3.3 C.8.3.1)."""
    values = PROTOCOLS[site]
    image.ImageType = ["ORIGINAL", "PRIMARY", "M", "NONE"]
    image.Modality = "MR"
    image.Manufacturer = "auglift phantom"
    image.ManufacturerModelName = f"Simulator {site}"
    image.InstitutionName = f"Site {site}"
    image.SeriesDescription = "FLAIR"
    image.ProtocolName = "t2_flair_tra"
    image.BodyPartExamined = "BRAIN"
    image.PatientPosition = "HFS"
    image.ScanningSequence = ["SE", "IR"]
    image.SequenceVariant = "SK"
    image.ScanOptions = ""
    image.MRAcquisitionType = "2D"
    image.EchoTime = decimal_string(values["echo"])
    image.RepetitionTime = decimal_string(values["repetition"])
    image.InversionTime = decimal_string(values["inversion"])
    image.EchoTrainLength = 16
    image.MagneticFieldStrength = decimal_string(values["field"])
    image.RescaleSlope = decimal_string(values["slope"])
    image.RescaleIntercept = "0"
    image.RescaleType = "US"


def image_position(patient: SimulatedPatient, k: int) -> list[str]:
    """Return Image Position (Patient) of slice k in LPS mm: the centre of its first pixel."""
    columns, rows, _ = patient.volume.shape
    world = patient.affine @ np.array([columns - 1, rows - 1, k, 1.0])
    return [decimal_string(v) for v in RAS_TO_LPS @ world[:3]]


def decimal_string(value: float) -> str:
    """Format a decimal string (DS) of at most 16 characters."""
    return str(pydicom.valuerep.format_number_as_ds(float(np.round(value, 9)) + 0.0))


def segmentation_object(
    patient: SimulatedPatient, series: list[FileDataset], *, seed: int
) -> Dataset:
    """Make a binary DICOM Segmentation of the whole tumour on the series.

    Only frames that hold tumour are written. A segmentation for 'examined, and no tumour found' has
    every frame, all of them empty.
    """
    import highdicom as hd
    from highdicom.sr.coding import CodedConcept

    name = patient.participant_id
    mask: NDArray[np.uint8] = patient.mask[::-1, ::-1].transpose(2, 1, 0)  # (K,Rows,Columns)
    segment = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label="tumor",
        segmented_property_category=CodedConcept(
            "49755003", "SCT", "Morphologically Abnormal Structure"
        ),
        segmented_property_type=CodedConcept("108369006", "SCT", "Neoplasm"),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        tracking_uid=seeded_uid(seed, name, "tracking"),
        tracking_id=f"{name} tumor",
    )
    segmentation = hd.seg.Segmentation(
        source_images=series,
        pixel_array=mask,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[segment],
        series_instance_uid=seeded_uid(seed, name, "segmentation series"),
        series_number=2,
        sop_instance_uid=seeded_uid(seed, name, "segmentation"),
        instance_number=1,
        manufacturer="auglift phantom",
        manufacturer_model_name="Simulator",
        software_versions="1",
        device_serial_number="0",
        content_label="TUMOR",
        content_description="Whole tumour: core, rim and oedema",
        series_description="Tumor segmentation",
        omit_empty_frames=bool(mask.any()),
        content_date=DAY,
        content_time=TIME,
        series_date=DAY,
        series_time=TIME,
    )
    fix_times_and_uids(segmentation, organization=seeded_uid(seed, name, "dimensions"))
    return segmentation


def fix_times_and_uids(segmentation: Dataset, *, organization: str) -> None:
    """Replace what highdicom takes from the clock or at random, so that bytes repeat."""
    for element in segmentation.iterall():
        if element.keyword == "DimensionOrganizationUID":
            element.value = organization
        elif element.VR == "DT":
            element.value = DAY + TIME
        elif element.keyword == "InstanceCreationDate":
            element.value = DAY
        elif element.keyword == "InstanceCreationTime":
            element.value = TIME
