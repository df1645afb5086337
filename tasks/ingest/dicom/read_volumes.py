"""Read DICOM images as volumes: a classic series, or one enhanced multi-frame object."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.ingest.core.error_messages import one_line_error
from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.core.scan_record import ScanRecord
from tasks.ingest.core.volume import Volume, to_smallest_dtype
from tasks.ingest.dicom.functional_groups import (
    PLURAL_NAMES,
    Frame,
    parse_frames,
    read_functional_groups,
)
from tasks.ingest.dicom.header import Header
from tasks.ingest.dicom.pixel_data import check_pixel_format, read_frame_values, read_pixel_values
from tasks.ingest.dicom.slice_geometry import (
    SAME_COSINES,
    SAME_SPACING_MM,
    checked_slice_step,
    order_along_normal,
    share_position,
    slice_normal,
    stack_affine,
)


def read_series(scan: ScanRecord, *, max_voxels: int) -> Volume:
    """Read a classic series: one file a slice, sorted by position along the normal.

    Returns:
        (columns, rows, slices) int16 or float32, slope and intercept of each slice applied.

    Raises:
        RejectionError: if geometry or pixels do not make one exact volume.
    """
    headers = scan.headers
    for header in headers:
        check_pixel_format(header, max_voxels // len(headers))
    order, affine = stack_geometry(headers)
    headers = tuple(headers[index] for index in order)
    values = apply_rescale(read_pixel_values(headers), headers)  # (slices, rows, columns)
    return Volume(to_smallest_dtype(values.transpose(2, 1, 0)), affine)


def read_multiframe(scan: ScanRecord, *, max_voxels: int) -> Volume:
    """Read an enhanced multi-frame object, whose frames are placed by their functional groups.

    Returns:
        As `read_series`; whole numbers stay whole.

    Raises:
        RejectionError: `not-a-volume` if frames differ in orientation or share positions.
    """
    header = scan.headers[0]
    check_pixel_format(header, max_voxels)
    frames = read_placed_frames(header)
    check_one_volume(frames)
    order, affine = stack_geometry(frames)
    frames = [frames[index] for index in order]
    values = apply_rescale(read_frame_values(header)[order], frames)  # (frames, rows, columns)
    whole = values.dtype.kind == "f" and np.array_equal(values, np.round(values))
    if whole and np.abs(values).max() < 2**24:
        values = values.astype(np.int32)
    return Volume(to_smallest_dtype(values.transpose(2, 1, 0)), affine)


def read_placed_frames(header: Header) -> list[Frame]:
    """Read the frames of a multi-frame object and check that each has a position.

    Raises:
        RejectionError: `corrupt`, or `geometry` if a frame's position is not given.
    """
    try:
        frames = parse_frames(read_functional_groups(header.source))
    except RejectionError:
        raise
    except Exception as error:  # a hostile file may raise anything
        raise RejectionError("corrupt", f"the functional groups: {one_line_error(error)}") from None
    check_placed(frames)
    return frames


def check_placed(frames: Sequence[Frame]) -> None:
    """Reject frames whose position, orientation or spacing is missing or not finite."""
    lengths = {(len(f.position), len(f.orientation), len(f.pixel_spacing)) for f in frames}
    if lengths != {(3, 6, 2)}:
        raise RejectionError("geometry", "position, orientation or spacing of a frame is missing")
    if not np.isfinite([(*f.position, *f.orientation, *f.pixel_spacing) for f in frames]).all():
        raise RejectionError(
            "geometry", "position, orientation or spacing of a frame is not finite"
        )
    if min(min(frame.pixel_spacing) for frame in frames) <= 0:
        raise RejectionError("geometry", "the pixel spacing is not positive")


def check_parallel(frames: Sequence[Frame]) -> None:
    """Reject frames of several orientations or pixel sizes."""
    if np.ptp([frame.orientation for frame in frames], axis=0).max() > SAME_COSINES:
        raise RejectionError("not-a-volume", "the frames have several orientations")
    if np.ptp([frame.pixel_spacing for frame in frames], axis=0).max() > SAME_SPACING_MM:
        raise RejectionError("not-a-volume", "the frames have several pixel spacings")


def check_one_volume(frames: Sequence[Frame]) -> None:
    """Reject frames that do not form one stack of parallel slices at different positions."""
    first = frames[0]
    check_parallel(frames)
    if len(frames) < 2:
        raise RejectionError("too-few-slices", "one frame")
    if any(frame.slope == 0 for frame in frames):
        raise RejectionError("unsupported-pixels", "the rescale slope of a frame is 0")
    if not np.isfinite([(frame.slope, frame.intercept) for frame in frames]).all():
        raise RejectionError("unsupported-pixels", "the rescale slope of a frame is not finite")
    normal = slice_normal(np.array(first.orientation))
    if share_position(np.array([frame.position for frame in frames]), normal):
        kinds = {name: {dict(f.split_by)[name] for f in frames} for name, _ in first.split_by}
        counts = {
            name: len(different_values)
            for name, different_values in kinds.items()
            if len(different_values) > 1
        }
        differences = ", ".join(f"{count} {PLURAL_NAMES[name]}" for name, count in counts.items())
        differences = differences or "nothing in the header tells them apart"
        raise RejectionError(
            "not-a-volume", f"some of {len(frames)} frames share a position: {differences}"
        )


def stack_geometry(
    slices: Sequence[Header | Frame],
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the order of parallel slices along their normal, and the stack's affine (4,4)."""
    orientation = np.array(slices[0].orientation)
    normal = slice_normal(orientation)
    positions = np.array([frame.position for frame in slices])  # (N,3)
    order = order_along_normal(positions, normal)
    step = checked_slice_step(positions[order], normal)
    spacing = np.array(slices[0].pixel_spacing)
    return order, stack_affine(orientation, spacing, positions[order[0]], step)


def apply_rescale(values: NDArray[Any], slices: Sequence[Header | Frame]) -> NDArray[Any]:
    """Apply slope and intercept of each slice to (N,rows,columns); float32 if there are any."""
    if all((frame.slope, frame.intercept) == (1.0, 0.0) for frame in slices):
        return values
    scaled = [
        (values[index] * frame.slope + frame.intercept).astype(np.float32)
        for index, frame in enumerate(slices)
    ]
    return np.stack(scaled)
