"""Read the 2D images of one volume, or a single one, with nominal spacing."""

import numpy as np

from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.core.scan_record import ScanRecord
from tasks.ingest.core.volume import Volume, to_smallest_dtype
from tasks.ingest.images2d.pixel_values import UPRIGHT, read_grey_image
from tasks.params.ingest import Ingest


def read_images2d(scan: ScanRecord, settings: Ingest) -> Volume:
    """Read 2D images as (columns, rows, slices) with nominal spacing, int16 or float32.

    The files hold no geometry: spacing comes from `ingest.pictures`, and each image is taken as an
    axial slice seen from below, the patient's right at the left.

    Raises:
        RejectionError: the images have different sizes, colours, or more than one page.
    """
    mask = scan.role == "mask"
    images = [read_grey_image(s, settings, mask=mask, channel=scan.channel) for s in scan.sources]
    planes = [image.values for image in images]
    if len({plane.shape for plane in planes}) > 1:
        raise RejectionError("not-a-volume", f"{len(planes)} pictures of different sizes")
    if sum(plane.size for plane in planes) > settings.max_voxels:
        raise RejectionError("too-large", f"more than {settings.max_voxels} voxels")
    x, y, z = settings.pictures.spacing_mm
    data = np.stack([plane.T for plane in planes], axis=-1)  # (columns, rows, slices)
    affine = np.diag([-x, -y, z, 1.0])
    affine[2, 3] = z * scan.first_slice  # masks may exist for some slices only
    return Volume(
        to_smallest_dtype(data),
        affine,
        exif_turns=frozenset(image.turn for image in images) - {UPRIGHT},
        synthetic=any(image.synthetic for image in images),
    )
