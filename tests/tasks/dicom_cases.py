"""Write small DICOM series and segmentations of known geometry, for the tests of ingest."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a random rotation matrix (3,3)."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    if np.linalg.det(q) < 0:
        q[:, 0] *= -1
    return q


def anatomy(shape: tuple[int, int, int], seed: int = 0) -> NDArray[np.uint16]:
    """Return (slices, rows, columns) without any symmetry."""
    values = np.random.default_rng(seed).integers(0, 2000, shape)
    return (values + 10 * np.arange(shape[0])[:, None, None]).astype(np.uint16)


def write_series(  # noqa: PLR0915
    folder: Path,
    pixels: NDArray[Any],
    *,
    orientation: tuple[float, ...] = AXIAL,
    origin: tuple[float, float, float] = (-50.0, -60.0, 20.0),
    spacing: tuple[float, float] = (0.9, 1.1),
    step: tuple[float, float, float] | None = None,
    gap: float = 5.5,
    seed: str = "series",
    patient: str = "P1",
    change: Callable[[int, FileDataset], None] | None = None,
    prefix: str = "slice",
    **attributes: Any,
) -> NDArray[np.float64]:
    """Write (N, rows, columns) as a classic MR series; return its affine (column,row,slice) RAS."""
    folder.mkdir(parents=True, exist_ok=True)
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.cross(row, column)
    vector = np.array(step) if step is not None else normal * gap
    for index, plane in enumerate(pixels):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = MR_IMAGE
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[seed, str(index)])
        dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.SOPClassUID = MR_IMAGE
        dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        dataset.Modality = "MR"
        dataset.PatientID = patient
        dataset.PatientName = "Doe^Jane"
        dataset.PatientBirthDate = ""
        dataset.PatientSex = "O"
        dataset.StudyID = "1"
        dataset.AccessionNumber = ""
        dataset.ReferringPhysicianName = ""
        dataset.Manufacturer = "phantom"
        dataset.SeriesNumber = 1
        dataset.StudyDate = dataset.SeriesDate = "20200102"
        dataset.StudyTime = "101500"
        dataset.StudyInstanceUID = generate_uid(entropy_srcs=[patient, "study"])
        dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[patient, seed])
        dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=[patient, "frame"])
        dataset.SeriesDescription = "AX FLAIR"
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
        dataset.InstanceNumber = index + 1
        dataset.AcquisitionNumber = 1
        dataset.EchoTime = 120
        dataset.RepetitionTime = 9000
        dataset.ImageOrientationPatient = [float(f"{value:.10f}") for value in orientation]
        position = np.array(origin) + index * vector
        dataset.ImagePositionPatient = [float(f"{value:.8f}") for value in position]
        dataset.PixelSpacing = list(spacing)
        dataset.SliceThickness = gap
        dataset.Rows, dataset.Columns = plane.shape
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = plane.dtype.itemsize * 8
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelRepresentation = int(plane.dtype.kind == "i")
        dataset.PixelData = np.ascontiguousarray(plane).tobytes()
        for name, value in attributes.items():
            setattr(dataset, name, value)
        if change is not None:
            change(index, dataset)
        dataset.save_as(folder / f"{prefix}{index:03d}.dcm", enforce_file_format=True)
    affine = np.eye(4)
    affine[:3, 0] = row * spacing[1]
    affine[:3, 1] = column * spacing[0]
    affine[:3, 2] = vector
    affine[:3, 3] = origin
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def write_segmentation(
    path: Path,
    series: Path,
    mask: NDArray[Any],
    *,
    omit_empty_frames: bool = False,
    kind: str = "BINARY",
    segments: dict[str, tuple[str, str]] | None = None,
    **options: Any,
) -> None:
    """Write (N, rows, columns) labels as a DICOM SEG of the series, one segment a label.

    A fractional `kind` takes (N, rows, columns, segments) in [0,1]. `segments` are labels with the
    scheme and value of their property type.
    """
    import highdicom as hd
    from highdicom.sr.coding import CodedConcept

    count = mask.shape[3] if mask.ndim == 4 else max(1, int(mask.max()))
    segments = segments or {
        f"tumour {number}": ("SCT", "108369006") for number in range(1, count + 1)
    }
    images = [pydicom.dcmread(file) for file in sorted(series.glob("*.dcm"))]
    described = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=CodedConcept("49755003", "SCT", "Abnormality"),
            segmented_property_type=CodedConcept(value, scheme, "a kind of thing"),
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, (label, (scheme, value)) in enumerate(segments.items(), start=1)
    ]
    segmentation = hd.seg.Segmentation(
        source_images=images,
        pixel_array=mask,
        segmentation_type=kind,
        segment_descriptions=described,
        series_instance_uid=generate_uid(entropy_srcs=[str(path)]),
        series_number=9,
        sop_instance_uid=generate_uid(entropy_srcs=[str(path), "sop"]),
        instance_number=1,
        manufacturer="phantom",
        manufacturer_model_name="phantom",
        software_versions="1",
        device_serial_number="1",
        omit_empty_frames=omit_empty_frames,
        **options,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    segmentation.save_as(path)


def write_multiframe(
    path: Path,
    pixels: NDArray[Any],
    *,
    orientation: tuple[float, ...] = AXIAL,
    origin: tuple[float, float, float] = (-50.0, -60.0, 20.0),
    spacing: tuple[float, float] = (0.9, 1.1),
    gap: float = 5.5,
    order: list[int] | None = None,
    change: Callable[[FileDataset], None] | None = None,
) -> NDArray[np.float64]:
    """Write (N, rows, columns) as one Enhanced MR object; return its affine as `write_series`.

    `order` says in which order the slices are stored as frames. The patient is `multi`.
    """
    from pydicom.dataset import Dataset

    order = order or list(range(len(pixels)))
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(path)])
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    for name, value in {
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "Modality": "MR",
        "PatientID": "multi",
        "PatientName": "Doe^Jane",
        "StudyInstanceUID": generate_uid(entropy_srcs=["study"]),
        "SeriesInstanceUID": generate_uid(entropy_srcs=["series"]),
        "FrameOfReferenceUID": generate_uid(entropy_srcs=["frame"]),
        "SeriesDescription": "T2 enhanced",
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "NONE"],
        "InstanceNumber": 1,
        "NumberOfFrames": len(order),
        "Rows": pixels.shape[1],
        "Columns": pixels.shape[2],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "PixelData": np.ascontiguousarray(pixels[order]).astype("<u2").tobytes(),
    }.items():
        setattr(dataset, name, value)
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    vector = np.cross(row, column) * gap
    shared = Dataset()
    shared.PlaneOrientationSequence = [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [
        float(f"{value:.10f}") for value in orientation
    ]
    shared.PixelMeasuresSequence = [Dataset()]
    shared.PixelMeasuresSequence[0].PixelSpacing = list(spacing)
    shared.PixelMeasuresSequence[0].SliceThickness = gap
    dataset.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for index in order:
        frame = Dataset()
        frame.PlanePositionSequence = [Dataset()]
        frame.PlanePositionSequence[0].ImagePositionPatient = [
            float(f"{value:.8f}") for value in np.array(origin) + index * vector
        ]
        frame.FrameContentSequence = [Dataset()]
        frame.FrameContentSequence[0].DimensionIndexValues = [index + 1]
        transform = Dataset()
        transform.RescaleSlope, transform.RescaleIntercept = 1 + index, 0
        transform.RescaleType = "US"
        frame.PixelValueTransformationSequence = [transform]
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    if change is not None:
        change(dataset)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = row * spacing[1], column * spacing[0]
    affine[:3, 2], affine[:3, 3] = vector, origin
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def write_structures(
    path: Path,
    series: Path,
    regions: dict[str, list[NDArray[np.float64]] | None],
    *,
    kind: str = "CLOSED_PLANAR",
    interpreted: dict[str, str] | None = None,
) -> None:
    """Write an RT structure set, with contours of (N,3) LPS+ mm a region; None: never drawn.

    `interpreted` is the RT ROI Interpreted Type of regions.
    """
    from pydicom.dataset import Dataset

    image = pydicom.dcmread(min(series.glob("*.dcm")))
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(path)])
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.Modality = "RTSTRUCT"
    dataset.PatientID, dataset.StudyInstanceUID = image.PatientID, image.StudyInstanceUID
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[str(path), "series"])
    frame = Dataset()
    frame.FrameOfReferenceUID = image.FrameOfReferenceUID
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    dataset.RTROIObservationsSequence = []
    for number, (name, contours) in enumerate(regions.items(), start=1):
        roi = Dataset()
        roi.ROINumber, roi.ROIName = number, name
        dataset.StructureSetROISequence.append(roi)
        drawn = Dataset()
        drawn.ReferencedROINumber = number
        dataset.ROIContourSequence.append(drawn)
        observation = Dataset()
        observation.ObservationNumber = observation.ReferencedROINumber = number
        observation.RTROIInterpretedType = (interpreted or {}).get(name, "")
        dataset.RTROIObservationsSequence.append(observation)
        if contours is None:
            continue
        drawn.ContourSequence = []
        for points in contours:
            contour = Dataset()
            contour.ContourGeometricType = kind
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = [f"{value:.6f}" for value in points.ravel()]
            drawn.ContourSequence.append(contour)
    dataset.save_as(path, enforce_file_format=True)


def tumour(shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return (slices, rows, columns) with an asymmetric tumour."""
    mask = np.zeros(shape, np.uint8)
    mask[2:4, 3:6, 2:4] = 1
    mask[3, 6, 7] = 1
    return mask
