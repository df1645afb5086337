"""DICOM images and segmentations as volumes."""

from typing import Any

import numpy as np

from tasks.ingest.decode import check_pixels, stored_values
from tasks.ingest.found import Found
from tasks.ingest.geometry import order_along_normal, slice_normal, slice_step, stack_affine
from tasks.ingest.refusal import RefusalError
from tasks.ingest.segments import tumour_segments
from tasks.ingest.volume import Volume, compact
from tasks.params.ingest import LabelRule


def read_series(found: Found, *, max_voxels: int) -> Volume:
    """A classic series: one file a slice, sorted by position along the normal.

    Returns:
        (columns, rows, slices) int16 or float32, slope and intercept of each slice applied.

    Raises:
        RefusalError: where geometry or pixels do not make one exact volume.
    """
    headers = found.headers
    for header in headers:
        check_pixels(header, max_voxels // len(headers))
    orientation = np.array(headers[0].orientation)
    normal = slice_normal(orientation)
    positions = np.array([header.position for header in headers])  # (N,3)
    order = order_along_normal(positions, normal)
    step = slice_step(positions[order], normal)
    spacing = np.array(headers[0].pixel_spacing)
    affine = stack_affine(orientation, spacing, positions[order[0]], step)
    headers = tuple(headers[index] for index in order)
    values = stored_values(headers)  # (slices, rows, columns)
    if any((header.slope, header.intercept) != (1.0, 0.0) for header in headers):
        values = np.stack(
            [
                (plane * header.slope + header.intercept).astype(np.float32)
                for plane, header in zip(values, headers, strict=True)
            ]
        )
    return Volume(compact(values.transpose(2, 1, 0)), affine)


def read_multiframe(found: Found, *, max_voxels: int) -> Volume:
    """An enhanced multi-frame object; highdicom sorts frames and checks their spacing."""
    import highdicom as hd

    check_pixels(found.headers[0], max_voxels)
    try:
        image = hd.imread(found.sources[0].path)
        volume = image.get_volume(
            apply_presentation_lut=False, apply_voi_transform=False, dtype=np.float64
        )
    except Exception as error:  # highdicom's messages may quote attributes
        raise RefusalError(
            "not-a-volume", f"the frames make no regular volume ({type(error).__name__})"
        ) from None
    return from_highdicom(volume.array, volume.affine)


def read_segmentation(found: Found, rule: LabelRule | list[int], *, max_voxels: int) -> Volume:
    """A DICOM SEG: the union of its tumour segments, on the grid that its own frames span."""
    import highdicom as hd

    header = found.headers[0]
    if header.rows * header.columns * header.frames > max_voxels:
        raise RefusalError("too-large", f"more than {max_voxels} voxels declared")
    try:
        segmentation = hd.seg.segread(found.sources[0].path)
        names = {
            number: names_of(segmentation.get_segment_description(number))
            for number in segmentation.segment_numbers
        }
        chosen = tumour_segments(names, rule)
        volume = segmentation.get_volume(
            segment_numbers=chosen or None,
            combine_segments=True,
            skip_overlap_checks=True,
            dtype=np.uint8,
        )
        mask = (volume.array != 0).astype(np.uint8) * bool(chosen)
    except RefusalError:
        raise
    except Exception as error:
        raise RefusalError(
            "geometry", f"the frames cannot be placed in space ({type(error).__name__})"
        ) from None
    return from_highdicom(mask, volume.affine)


def names_of(segment: Any) -> str:
    """All words that tell what a segment shows."""
    kind = segment.segmented_property_type
    return f"{segment.segment_label} {kind.meaning if kind is not None else ''}"


def from_highdicom(array: np.ndarray, affine: np.ndarray) -> Volume:
    """highdicom's (slice, row, column) in LPS+ to (column, row, slice) in RAS+."""
    swap = np.zeros((4, 4))
    swap[[2, 1, 0, 3], [0, 1, 2, 3]] = 1  # our (i,j,k) are its (k,j,i)
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine @ swap
    data = np.transpose(array, (2, 1, 0))
    if (
        data.dtype.kind == "f"
        and np.array_equal(data, np.round(data))
        and np.abs(data).max() < 2**24
    ):
        data = data.astype(np.int32)
    return Volume(compact(data) if data.dtype != np.uint8 else data, ras)
