"""Read NIfTI files as volumes; geometry and values are checked before memory is allocated."""

from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from isal import igzip

from tasks.common.synthetic_marks import is_marked_nifti
from tasks.ingest.core.error_messages import one_line_error
from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.core.scan_record import ScanRecord
from tasks.ingest.core.volume import Volume, to_smallest_dtype
from tasks.ingest.nifti.affine import Form, choose_affine

MAX_OFFSET = 2**20


def read_nifti(
    scan: ScanRecord,
    *,
    max_voxels: int,
    prefer: Form | None = None,
    allow_synthetic: bool = False,
) -> Volume:
    """Read one 3D volume, or one channel of a 4D file; a fourth dimension of one is dropped.

    `prefer` is the form to use where sform and qform disagree.

    Returns:
        (I,J,K) int16 or float32 with slope and intercept applied.

    Raises:
        RejectionError: header, geometry or values cannot be trusted.
    """
    path = scan.sources[0].path
    with open_stream(path) as stream:
        try:
            image_class = nifti_class(stream.read(544))
            stream.seek(0)
            image = image_class.from_stream(stream)
            shape = tuple(int(length) for length in image.shape)
        except RejectionError:
            raise
        except EOFError:
            raise RejectionError("truncated", "the compressed file ends in its header") from None
        except Exception as error:  # a hostile header may raise anything
            raise RejectionError(
                "corrupt", f"the header cannot be parsed: {one_line_error(error)}"
            ) from None
        header = image.header
        synthetic = is_marked_nifti(bytes(header["descrip"]), bytes(header["intent_name"]))
        if synthetic and not allow_synthetic:
            raise RejectionError("synthetic", "marked by the header's descrip or intent_name")
        check_shape(shape, max_voxels, scan.channel)
        affine = choose_affine(image.header, shape, prefer)
        check_dtype(image.get_data_dtype())
        try:
            several = scan.channel is not None and len(shape) > 3
            voxels = image.dataobj[..., scan.channel] if several else image.dataobj
            data = np.asanyarray(voxels)
        except (EOFError, OSError, ValueError) as error:
            raise RejectionError(
                "truncated", f"the voxels end early: {one_line_error(error)}"
            ) from None
    voxels = to_smallest_dtype(to_integers(data.reshape(shape[:3])))
    return Volume(voxels, affine, synthetic=synthetic)


def open_stream(path: Path) -> BinaryIO:
    """Open the file's bytes; ISA-L decompresses them where they are gzipped, whatever the name."""
    with path.open("rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    stream: BinaryIO = igzip.open(path) if gzipped else path.open("rb")
    return stream


def nifti_class(start: bytes) -> Any:
    """Return nibabel's class for NIfTI-1 or NIfTI-2, by the first bytes.

    Raises:
        RejectionError: the file is neither, or its voxels start so far behind the header that a zip
            bomb would have to be decompressed.
    """
    for size, image_class, offset_position, offset_type in (
        (348, nib.Nifti1Image, 108, "f4"),
        (540, nib.Nifti2Image, 168, "i8"),
    ):
        for order in "<>":
            if len(start) > size and np.frombuffer(start[:4], f"{order}i4")[0] == size:
                offset = float(np.frombuffer(start, f"{order}{offset_type}", 1, offset_position)[0])
                if 0 <= offset <= MAX_OFFSET:
                    return image_class
                raise RejectionError("corrupt", "the header places the voxels out of reach")
    raise RejectionError("corrupt", "neither NIfTI-1 nor NIfTI-2")


def check_dtype(dtype: np.dtype[Any]) -> None:
    """Reject colours and complex numbers.

    Raises:
        RejectionError: `unsupported-pixels`.
    """
    if dtype.kind not in "iuf":
        raise RejectionError("unsupported-pixels", "colour or complex voxels")


def check_shape(shape: tuple[int, ...], max_voxels: int, channel: int | None = None) -> None:
    """Reject a file that is not one volume of a sane size, or has no such channel.

    Raises:
        RejectionError: `geometry`, `not-a-volume`, `several-volumes` or `too-large`.
    """
    if any(length < 1 for length in shape):
        raise RejectionError("geometry", f"dimensions of {shape[:8]}")
    if len(shape) < 3 or min(shape[:3]) < 2:
        raise RejectionError("not-a-volume", f"dimensions of {shape[:8]}")
    if channel is not None and len(shape) == 4:
        if channel >= shape[3]:
            raise RejectionError("several-volumes", f"no channel {channel} of {shape[3]}")
        shape = shape[:3]
    if any(length != 1 for length in shape[3:]):
        raise RejectionError("several-volumes", f"dimensions of {shape[:8]}, one volume expected")
    if int(np.prod([int(length) for length in shape], dtype=object)) > max_voxels:
        raise RejectionError("too-large", f"dimensions of {shape[:8]}, at most {max_voxels} voxels")


def to_integers(data: np.ndarray) -> np.ndarray:
    """Convert floating values that are all whole numbers to integers, which compress far better."""
    if data.dtype.kind == "f" and np.isfinite(data).all() and np.abs(data).max() < 2**24:
        whole = data.astype(np.int32)
        if np.array_equal(whole, data):
            return whole
    return data
