"""Read DICOM segmentations (PS3.3 C.8.20): binary, fractional and label map, on their own grid.

The frames are placed by their functional groups, as those of an enhanced image are: a segmentation
of an anonymised series has no Frame of Reference UID, and empty planes may be left out.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.ingest.core.error_messages import one_line_error
from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.core.scan_record import ScanRecord
from tasks.ingest.core.volume import Volume
from tasks.ingest.dicom.functional_groups import Frame, parse_frames
from tasks.ingest.dicom.header import Header
from tasks.ingest.dicom.read_volumes import check_parallel, check_placed
from tasks.ingest.dicom.slice_geometry import slice_normal, sparse_stack, stack_affine
from tasks.ingest.masks.segment_names import Segment, tumour_segments
from tasks.params.ingest import Ingest


def read_segmentation(scan: ScanRecord, settings: Ingest) -> Volume:
    """Read the union of a segmentation's tumour segments, (columns,rows,planes) in {0,1}.

    In a fractional segmentation a voxel counts if probability or occupancy is at least half. Of
    several segments the sum counts if the object says that they do not overlap, else the largest.

    Raises:
        RejectionError: `not-a-tumour-mask` or `labels-unknown` for its segments, `geometry`,
            `uneven-spacing` or `sheared-stack` for its planes.
    """
    header = scan.headers[0]
    check_voxel_count(header, header.frames, settings.max_voxels)
    try:
        import pydicom

        dataset = pydicom.dcmread(header.source.path, force=True)
        dataset.file_meta.TransferSyntaxUID = header.transfer_syntax
        segments = segments_of(dataset)
        chosen = tumour_segments(segments, settings.mask_labels, settings.mask_segments)
        frames = parse_frames(dataset)
        check_placed(frames)
        check_parallel(frames)
        orientation = np.array(frames[0].orientation)
        normal = slice_normal(orientation)
        positions = np.array([frame.position for frame in frames])
        planes, origin, step = sparse_stack(positions, normal, frames[0].slice_spacing)
        check_voxel_count(header, int(planes.max()) + 1, settings.max_voxels)
        voxels = merge_frames(dataset, header, frames, planes, chosen)
    except (RejectionError, MemoryError):
        raise
    except Exception as error:  # a hostile file may raise anything
        raise RejectionError("corrupt", f"the segmentation: {one_line_error(error)}") from None
    affine = stack_affine(orientation, np.array(frames[0].pixel_spacing), origin, step)
    return Volume(voxels.transpose(2, 1, 0), affine)


def check_voxel_count(header: Header, planes: int, max_voxels: int) -> None:
    """Reject more voxels than ingest may hold."""
    if header.rows * header.columns * planes > max_voxels:
        raise RejectionError("too-large", f"more than {max_voxels} voxels declared")


def segments_of(dataset: Any) -> dict[int, Segment]:
    """Return the described segments by number; the background of a label map is not among them."""
    segments: dict[int, Segment] = {}
    for item in dataset.get("SegmentSequence") or []:
        number = int(item.get("SegmentNumber", 0))
        code = (item.get("SegmentedPropertyTypeCodeSequence") or [{}])[0]
        if number > 0:
            segments[number] = Segment.from_code_sequence(str(item.get("SegmentLabel", "")), code)
    return segments


def merge_frames(
    dataset: Any,
    header: Header,
    frames: list[Frame],
    planes: NDArray[np.intp],
    chosen: list[int],
) -> NDArray[np.uint8]:
    """Return (planes,rows,columns) in {0,1}: the voxels of the chosen segments.

    Raises:
        RejectionError: `labels-unknown` for fractions that nowhere reach half.
    """
    shape = (int(planes.max()) + 1, header.rows, header.columns)
    values = np.asarray(dataset.pixel_array).reshape(len(frames), *shape[1:])
    mask = np.zeros(shape, np.uint8)
    segmentation_type = str(dataset.get("SegmentationType") or "BINARY").upper()
    if segmentation_type == "LABELMAP":
        for plane, labels in zip(planes, values, strict=True):
            mask[plane] |= np.isin(labels, chosen)
        return mask
    chosen_frames = [index for index, frame in enumerate(frames) if frame.segment in chosen]
    if segmentation_type != "FRACTIONAL":
        for index in chosen_frames:
            mask[planes[index]] |= values[index] != 0
        return mask
    largest = max(int(dataset.get("MaximumFractionalValue") or 255), 1)
    total = np.zeros(shape, np.uint16)
    combine = np.add if str(dataset.get("SegmentsOverlap") or "") == "NO" else np.maximum
    for index in chosen_frames:
        total[planes[index]] = combine(total[planes[index]], values[index])
    mask[2 * total.astype(np.uint32) >= largest] = 1
    if total.any() and not mask.any():
        reason = f"the largest fraction is {total.max() / largest:.3f}, at least half is asked for"
        raise RejectionError("labels-unknown", reason)
    return mask
