"""One DICOM frame's stored values, read straight from the file where they lie uncompressed."""

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tasks.ingest.headers import Header
from tasks.ingest.refusal import RefusalError

NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
UNDEFINED_LENGTH = b"\xff\xff\xff\xff"


def check_pixels(header: Header, max_voxels: int) -> None:
    """Refuse what is no single-channel integer image of a sane size, before it is decoded."""
    if header.samples != 1 or header.photometric not in ("MONOCHROME2", ""):
        found = header.photometric if header.photometric.isalnum() else "another"
        raise RefusalError("not-greyscale", f"photometric interpretation {found[:16]}")
    if header.bits not in (8, 16, 32):
        raise RefusalError("unsupported-pixels", f"{header.bits} bits allocated")
    if header.has_lut:
        raise RefusalError("unsupported-pixels", "a modality lookup table instead of a slope")
    if header.rows < 2 or header.columns < 2:
        raise RefusalError("geometry", f"{header.rows} rows, {header.columns} columns")
    if header.rows * header.columns * header.frames > max_voxels:
        raise RefusalError("too-large", f"more than {max_voxels} voxels declared")


def stored_values(header: Header) -> NDArray[np.generic]:
    """(rows, columns) of a single-frame file.

    Raises:
        RefusalError: `truncated`, `codec` or `corrupt`.
    """
    if header.transfer_syntax in NATIVE:
        values = native_values(header)
        if values is not None:
            return values
    try:
        dataset = pydicom.dcmread(header.source.path, force=True)
        dataset.file_meta.TransferSyntaxUID = header.transfer_syntax  # bare files declare none
        values = dataset.pixel_array
    except Exception as error:  # decoders raise anything; their text may hold names
        raise decoding_refusal(header, error) from None
    if values.shape != (header.rows, header.columns):
        raise RefusalError("corrupt", "the decoded frame has another size than declared")
    return np.asarray(values)


def native_values(header: Header) -> NDArray[np.generic] | None:
    """Uncompressed little-endian values from the bytes behind the header; None: use pydicom."""
    dtype = np.dtype(f"<{'i' if header.signed else 'u'}{header.bits // 8}")
    count = header.rows * header.columns
    with header.source.path.open("rb") as file:
        file.seek(header.offset)
        tag = file.read(8)
        if tag[:4] != b"\xe0\x7f\x10\x00" or tag[4:8] == UNDEFINED_LENGTH:
            return None
        if header.transfer_syntax == ExplicitVRLittleEndian:
            length = int.from_bytes(file.read(4), "little")
        else:
            length = int.from_bytes(tag[4:8], "little")
        if length < count * dtype.itemsize:
            raise RefusalError("truncated", f"{length} bytes of pixels for {count} declared")
        values = np.fromfile(file, dtype, count)
    if values.size < count:
        raise RefusalError("truncated", f"{values.size} of {count} pixels are in the file")
    spare = header.bits - header.bits_stored
    if 0 < spare < header.bits:  # old scanners kept overlays in the high bits
        values = (values << spare) >> spare
    return values.reshape(header.rows, header.columns)


def decoding_refusal(header: Header, error: Exception) -> RefusalError:
    """What a failed decoding means."""
    if header.transfer_syntax in (*NATIVE, ExplicitVRBigEndian, ""):
        return RefusalError("truncated", "fewer pixels in the file than its header declares")
    if isinstance(error, NotImplementedError):
        return RefusalError("codec", "no decoder for the transfer syntax")
    return RefusalError(
        "corrupt", f"the compressed pixels cannot be decoded ({type(error).__name__})"
    )
