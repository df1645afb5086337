"""The reader of each format, behind one guard: any failure is a coded refusal."""

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
from tasks.ingest.images2d.collections import read_pictures
from tasks.ingest.masks.label_values import binarise_greys, binarise_labels
from tasks.ingest.masks.mask_grid import place_mask
from tasks.ingest.masks.rasterise_contours import Contours, rasterise_contours
from tasks.ingest.nifti.read_nifti import read_nifti
from tasks.ingest.preprocessing.brain_extraction import Brain, extract_brain
from tasks.ingest.preprocessing.n4_bias_field import correct_bias
from tasks.params.ingest import Ingest

T = TypeVar("T")
Mask = Volume | Contours
LONGEST_SIDE = 2**15 - 1  # voxels that NIfTI-1 can hold


def read_image(found: ScanRecord, params: Ingest) -> Volume:
    """An image in canonical orientation."""
    readers: dict[str, Callable[[], Volume]] = {
        "dicom": lambda: read_series(found, max_voxels=params.max_voxels),
        "dicom-multiframe": lambda: read_multiframe(found, max_voxels=params.max_voxels),
        "nifti": lambda: read_nifti(found, max_voxels=params.max_voxels, prefer=params.affine),
        "image2d": lambda: read_pictures(found, params),
    }
    volume = errors_as_rejection(lambda: to_ras(readers[found.format]()))
    if max(volume.data.shape) > LONGEST_SIDE:
        raise RejectionError("too-large", f"a side of {max(volume.data.shape)} voxels")
    return volume


def read_prepared(found: ScanRecord, params: Ingest) -> tuple[Volume, Brain | None]:
    """An image in canonical orientation, without bias field and skull where params ask for it.

    Pictures keep their skull: a brain is not told from a single slice.
    """
    volume = read_image(found, params)
    if params.n4:
        volume = errors_as_rejection(lambda: correct_bias(volume))
    if not params.brain_extraction or found.format == "image2d":
        return volume, None
    return errors_as_rejection(lambda: extract_brain(volume))


def read_mask(found: ScanRecord, params: Ingest) -> Mask:
    """A mask in {0,1} on its own grid, or contours; the labels merged by `ingest.mask_labels`."""
    rule = params.mask_labels
    if found.format == "rtstruct":
        return errors_as_rejection(lambda: read_contours(found, params))
    if found.headers and found.headers[0].sop_class in SEGMENTATIONS:
        return errors_as_rejection(lambda: to_ras(read_segmentation(found, params)))
    volume = read_image(found, params)
    convention = params.label_convention or found.label_convention
    if found.format == "image2d":
        lossy = any(source.name.lower().endswith((".jpg", ".jpeg")) for source in found.sources)
        return replace(volume, data=binarise_greys(volume.data, rule, convention, lossy=lossy))
    return replace(volume, data=binarise_labels(volume.data, rule, convention))


def resample_to_image(mask: Mask, image: Volume) -> NDArray[np.uint8]:
    """The mask on the image's grid, (I,J,K) in {0,1}."""
    if isinstance(mask, Contours):
        return errors_as_rejection(lambda: rasterise_contours(mask, image))
    return place_mask(mask, image)


def errors_as_rejection(read: Callable[[], T]) -> T:
    """Turn whatever a hostile file may raise into a refusal that quotes nothing of it."""
    try:
        return read()
    except RejectionError:
        raise
    except MemoryError:
        raise RejectionError("too-large", "more memory needed than a worker may take") from None
    except Exception as error:
        raise RejectionError("corrupt", f"it cannot be read: {one_line_error(error)}") from None
