"""RT structure sets: closed planar contours, filled on the grid of the image they belong to.

DICOM PS3.3 C.8.8.6. Contours of one region on one plane combine by exclusive or, so that a hole
drawn as an inner contour stays a hole.
"""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.ingest.found import Found
from tasks.ingest.refusal import RefusalError
from tasks.ingest.segments import tumour_segments
from tasks.ingest.volume import Volume
from tasks.params.ingest import LabelRule

CLOSED = re.compile("CLOSED_?PLANAR(_?XOR)?")
OFF_PLANE = 0.25  # voxels that a contour may leave its plane
MAX_CONTOURS = 100_000


@dataclass(frozen=True)
class Contours:
    """`regions`: for each region of interest its contours, each (N,3) in RAS+ mm."""

    regions: tuple[tuple[NDArray[np.float64], ...], ...]


def read_contours(found: Found, rule: LabelRule | list[int]) -> Contours:
    """The closed contours of the regions that are tumour by their names."""
    import pydicom

    dataset = pydicom.dcmread(found.sources[0].path, force=True)
    names = {
        int(roi.ROINumber): str(roi.get("ROIName", ""))
        for roi in dataset.get("StructureSetROISequence", [])
    }
    chosen = tumour_segments(names, rule)
    regions = [
        tuple(
            points_of(contour.ContourData)
            for contour in roi.get("ContourSequence", [])
            if CLOSED.fullmatch(str(contour.ContourGeometricType))
        )
        for roi in dataset.get("ROIContourSequence", [])
        if int(roi.ReferencedROINumber) in chosen
    ]
    if sum(map(len, regions)) > MAX_CONTOURS:
        raise RefusalError("too-large", f"more than {MAX_CONTOURS} contours")
    return Contours(tuple(regions))


def points_of(data: list[float]) -> NDArray[np.float64]:
    """Triplets in LPS+ mm to (N,3) in RAS+ mm."""
    points = np.array(data, np.float64).reshape(-1, 3) * [-1.0, -1.0, 1.0]
    if not np.isfinite(points).all():
        raise RefusalError("geometry", "a contour's points are not finite")
    return points


def fill(contours: Contours, image: Volume) -> NDArray[np.uint8]:
    """(I,J,K) of the image in {0,1}: voxels whose centre lies inside a contour on their plane.

    Raises:
        RefusalError: contours that are not parallel to the image's planes, or all outside.
    """
    from skimage.draw import polygon

    to_voxels = np.linalg.inv(image.affine)
    result = np.zeros(image.data.shape, np.uint8)
    drawn = False
    for region in contours.regions:
        filled = np.zeros_like(result)
        for points in region:
            voxels = points @ to_voxels[:3, :3].T + to_voxels[:3, 3]  # (N,3)
            axis = int(np.ptp(voxels, axis=0).argmin())
            if np.ptp(voxels[:, axis]) > 2 * OFF_PLANE:
                raise RefusalError("geometry", "contours are not parallel to the image's planes")
            drawn = True
            plane = int(np.round(voxels[:, axis].mean()))
            if not 0 <= plane < result.shape[axis]:
                continue
            layer = np.moveaxis(filled, axis, 0)[plane]  # a view
            a, b = np.delete(voxels, axis, axis=1).T
            rows, columns = polygon(a, b, layer.shape)
            layer[rows, columns] ^= 1
        result |= filled
    if drawn and not result.any():
        raise RefusalError("mask-outside-image", "no voxel of the tumour falls inside the image")
    return result
