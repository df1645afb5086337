"""Read the stored values of DICOM slices, straight from the file if they are uncompressed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.ingest.core.error_messages import one_line_error
from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.dicom.fast_parser import BIG_ENDIAN, EXPLICIT, IMPLICIT
from tasks.ingest.dicom.header import Header

UNCOMPRESSED = (IMPLICIT, EXPLICIT)
UNDEFINED_LENGTH = b"\xff\xff\xff\xff"


def check_pixel_format(header: Header, max_voxels: int) -> None:
    """Check that a file holds a single-channel integer image of a sane size, before it is decoded.

    Raises:
        RejectionError: `inverted-greyscale`, `not-greyscale`, `unsupported-pixels`, `geometry` or
            `too-large`.
    """
    if header.photometric == "MONOCHROME1":
        raise RejectionError("inverted-greyscale", "photometric interpretation MONOCHROME1")
    if header.samples != 1 or header.photometric not in ("MONOCHROME2", ""):
        details = header.photometric if header.photometric.isalnum() else "another"
        raise RejectionError("not-greyscale", f"photometric interpretation {details[:16]}")
    dtype_of(header)
    if header.bits_stored > header.bits or header.high_bit != header.bits_stored - 1:
        details = f"{header.bits_stored} bits stored up to bit {header.high_bit}"
        raise RejectionError("unsupported-pixels", f"{details} of {header.bits}")
    if header.has_lut:
        raise RejectionError("unsupported-pixels", "a modality lookup table instead of a slope")
    if header.rows < 2 or header.columns < 2:
        raise RejectionError("geometry", f"{header.rows} rows, {header.columns} columns")
    if header.rows * header.columns * header.frames > max_voxels:
        raise RejectionError("too-large", f"more than {max_voxels} voxels declared")


def dtype_of(header: Header) -> np.dtype[np.generic]:
    """Return the type of a file's stored values, little endian."""
    if header.bits not in (8, 16, 32):
        raise RejectionError("unsupported-pixels", f"{header.bits} bits allocated")
    return np.dtype(f"<{'i' if header.signed else 'u'}{header.bits // 8}")


def read_pixel_values(headers: Sequence[Header]) -> NDArray[Any]:
    """Read (N,rows,columns): one plane for each single-frame file, all of one size.

    Raises:
        RejectionError: `truncated`, `codec` or `corrupt`.
    """
    dtype = np.result_type(*{dtype_of(header) for header in headers})
    values = np.empty((len(headers), headers[0].rows, headers[0].columns), dtype)
    for plane, header in zip(values, headers, strict=True):
        fill_with_pixels(header, plane)
    return values


def read_frame_values(header: Header) -> NDArray[Any]:
    """Read (frames,rows,columns) of one multi-frame file; raises as `read_pixel_values`."""
    values = np.empty((header.frames, header.rows, header.columns), dtype_of(header))
    fill_with_pixels(header, values)
    return values


def fill_with_pixels(header: Header, values: NDArray[Any]) -> None:
    """Fill (rows,columns), or (frames,rows,columns), with the stored values of a file."""
    if header.transfer_syntax not in UNCOMPRESSED or not read_uncompressed(header, values):
        values[...] = decode_with_pydicom(header, values.shape)


def read_uncompressed(header: Header, plane: NDArray[Any]) -> bool:
    """Fill an array with the bytes behind the header; return False if pydicom is needed."""
    dtype = dtype_of(header)
    values = plane if plane.dtype == dtype else np.empty(plane.shape, dtype)
    with header.source.open() as file:
        file.seek(header.offset)
        tag = file.read(12)
        if tag[:4] != b"\xe0\x7f\x10\x00" or tag[4:8] == UNDEFINED_LENGTH:
            return False
        if header.transfer_syntax == EXPLICIT:
            length = int.from_bytes(tag[8:12], "little")
        else:
            length = int.from_bytes(tag[4:8], "little")
            file.seek(header.offset + 8)
        if length < values.nbytes:
            raise RejectionError(
                "truncated", f"{length} bytes of pixels for {values.size} declared"
            )
        bytes_read = file.readinto(values.data)
    if bytes_read < values.nbytes:
        pixels_read = (bytes_read or 0) // dtype.itemsize
        raise RejectionError("truncated", f"{pixels_read} of {values.size} pixels are in the file")
    unused_bits = header.bits - header.bits_stored
    if 0 < unused_bits < header.bits:  # old scanners kept overlays in the high bits
        values = (values << unused_bits) >> unused_bits
    if values is not plane:
        plane[...] = values
    return True


def decode_with_pydicom(header: Header, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """Decode the pixels with pydicom and check that they have this shape."""
    import pydicom

    try:
        dataset = pydicom.dcmread(header.source.path, force=True)
        dataset.file_meta.TransferSyntaxUID = header.transfer_syntax  # bare files declare none
        values = dataset.pixel_array
    except Exception as error:  # decoders raise anything; their text may hold names
        raise decoding_error(header, error) from None
    if values.shape != shape:
        raise RejectionError("corrupt", "the decoded frames have another size than declared")
    return np.asarray(values)


def decoding_error(header: Header, error: Exception) -> RejectionError:
    """Return the rejection for a failed decoding."""
    if header.transfer_syntax in (*UNCOMPRESSED, BIG_ENDIAN, ""):
        return RejectionError("truncated", "fewer pixels in the file than its header declares")
    if isinstance(error, NotImplementedError):
        return RejectionError("codec", "no decoder for the transfer syntax")
    return RejectionError(
        "corrupt", f"the compressed pixels cannot be decoded: {one_line_error(error)}"
    )
