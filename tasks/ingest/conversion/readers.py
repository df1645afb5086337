"""Read an image or a mask of any format; every failure becomes a rejection with a code."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tasks.ingest.core.error_messages import one_line_error
from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.core.scan_record import ScanRecord
from tasks.ingest.core.volume import Volume, to_ras
from tasks.ingest.dicom.read_volumes import read_multiframe, read_series
from tasks.ingest.dicom.rtstruct import read_contours
from tasks.ingest.dicom.segmentation import read_segmentation
from tasks.ingest.dicom.sop_classes import SEGMENTATIONS
from tasks.ingest.images2d.read_images2d import read_images2d
from tasks.ingest.masks.label_values import binarise_greys, binarise_labels
from tasks.ingest.masks.mask_grid import place_mask
from tasks.ingest.masks.rasterise_contours import Contours, rasterise_contours
from tasks.ingest.nifti.read_nifti import read_nifti
from tasks.ingest.preprocessing.brain_extraction import BrainStatus, extract_brain
from tasks.ingest.preprocessing.n4_bias_field import correct_bias
from tasks.params.ingest import Ingest

T = TypeVar("T")
Mask = Volume | Contours
LONGEST_AXIS = 2**15 - 1  # voxels that NIfTI-1 can hold


def read_image(scan: ScanRecord, settings: Ingest) -> Volume:
    """Read an image and flip and swap its axes to RAS+."""
    readers: dict[str, Callable[[], Volume]] = {
        "dicom": lambda: read_series(scan, max_voxels=settings.max_voxels),
        "dicom-multiframe": lambda: read_multiframe(scan, max_voxels=settings.max_voxels),
        "nifti": lambda: read_nifti(
            scan,
            max_voxels=settings.max_voxels,
            prefer=settings.affine,
            allow_synthetic=settings.allow_synthetic,
        ),
        "image2d": lambda: read_images2d(scan, settings),
    }
    volume = errors_as_rejection(lambda: to_ras(readers[scan.format]()))
    if max(volume.data.shape) > LONGEST_AXIS:
        raise RejectionError("too-large", f"a side of {max(volume.data.shape)} voxels")
    return volume


def read_preprocessed(scan: ScanRecord, settings: Ingest) -> tuple[Volume, BrainStatus | None]:
    """Read an image in RAS+; correct the bias field and remove the skull where settings say so.

    2D images keep their skull, because a single slice does not show where the brain is.
    """
    volume = read_image(scan, settings)
    if settings.n4:
        volume = errors_as_rejection(lambda: correct_bias(volume))
    if not settings.brain_extraction or scan.format == "image2d":
        return volume, None
    return errors_as_rejection(lambda: extract_brain(volume))


def read_mask(scan: ScanRecord, settings: Ingest) -> Mask:
    """Read a mask in {0,1} on its own grid, or contours; `ingest.mask_labels` picks the labels."""
    rule = settings.mask_labels
    if scan.format == "rtstruct":
        return errors_as_rejection(lambda: read_contours(scan, settings))
    if scan.headers and scan.headers[0].sop_class in SEGMENTATIONS:
        return errors_as_rejection(lambda: to_ras(read_segmentation(scan, settings)))
    volume = read_image(scan, settings)
    convention = settings.label_convention or scan.label_convention
    if scan.format == "image2d":
        lossy = any(source.name.lower().endswith((".jpg", ".jpeg")) for source in scan.sources)
        return replace(volume, data=binarise_greys(volume.data, rule, convention, lossy=lossy))
    return replace(volume, data=binarise_labels(volume.data, rule, convention))


def resample_to_image(mask: Mask, image: Volume) -> NDArray[np.uint8]:
    """Bring a mask onto the image's grid, (I,J,K) in {0,1}."""
    if isinstance(mask, Contours):
        return errors_as_rejection(lambda: rasterise_contours(mask, image))
    return place_mask(mask, image)


def errors_as_rejection(read: Callable[[], T]) -> T:
    """Turn whatever a hostile file may raise into a rejection that quotes nothing of the file."""
    try:
        return read()
    except RejectionError:
        raise
    except MemoryError:
        raise RejectionError("too-large", "more memory needed than a worker may take") from None
    except Exception as error:
        raise RejectionError("corrupt", f"it cannot be read: {one_line_error(error)}") from None
