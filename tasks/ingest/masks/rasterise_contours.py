"""Rasterise contours to a mask on an image's grid.

Contours lie on parallel planes of their own, which need not be the image's: 1 mm contours on 5 mm
slices, 5 mm contours on a 1 mm series, sagittal ones on an axial image. Each plane is filled by
itself, even-odd, so that a hole drawn as an inner contour stays a hole. Between neighbouring planes
the outline is interpolated by signed distances (Raya and Udupa 1990, IEEE TMI 9:32). A voxel larger
than the distance of the planes is tumour if at least half of it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.core.volume import Volume

SAME_PLANE_MM = 0.05
MAX_TILT_MM = 0.2  # lowest to highest point of a contour that is parallel to the image's slices
PARALLEL = float(np.cos(np.radians(2.0)))
MAX_OFF_PLANE = 0.5  # times the planes' distance: most from lowest to highest point of a contour
NEIGHBOURS = 1.5  # times the usual distance: planes farther apart are not neighbours
LARGEST_GAP_MM = 10.0  # over which an outline may be interpolated
OVERSAMPLE_FROM = 1.25  # times the planes' distance: voxels from there on are sampled several times
MOST_SAMPLES = 45  # of a voxel
FINEST_MM = 0.25  # of the grid on which planes oblique to the image are filled

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Contours:
    """`regions`: the contours of each region that is tumour, each (N,3) in RAS+ mm.

    `others` are those of other regions, which show how far apart planes were drawn;
    `slice_steps` are the vectors from slice to slice of the images that the contours were drawn on.
    """

    regions: tuple[tuple[Points, ...], ...]
    others: tuple[Points, ...] = ()
    slice_steps: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class PlaneGrid:
    """Coordinates (u, v, d) of parallel planes: `to_grid` (4,4) maps RAS+ mm to them.

    u and v count the pixels on which planes are filled, d is the distance along the normal in mm.
    """

    to_grid: NDArray[np.float64]
    pixel_mm: tuple[float, float]
    aligned: int | None  # the image's axis that is the normal, if one is

    def coordinates(self, points: Points) -> Points:
        """Convert (N,3) mm to (N,3) grid coordinates."""
        return points @ self.to_grid[:3, :3].T + self.to_grid[:3, 3]


@dataclass(frozen=True)
class PlaneStack:
    """Neighbouring planes: `along` (P,) their d, `distance` (P,U,V) signed mm, positive inside.

    `corner` is the grid coordinate of [0,0]; `half` is how far the first and last plane reach, mm.
    """

    along: NDArray[np.float64]
    distance: NDArray[np.float32]
    corner: NDArray[np.float64]
    half: float


def rasterise_contours(contours: Contours, image: Volume) -> NDArray[np.uint8]:
    """Return (I,J,K) of the image in {0,1}: the union of all regions.

    Raises:
        RejectionError: `geometry` for contours that lie in no parallel planes,
            `contours-too-sparse` for planes too far apart, `mask-outside-image` if no region meets
            the image.
    """
    result = np.zeros(image.data.shape, np.uint8)
    for region in contours.regions:
        result |= fill_region(region, contours, image)
    if not result.any():
        raise RejectionError("mask-outside-image", "no voxel of the tumour falls inside the image")
    return result


def fill_region(region: tuple[Points, ...], contours: Contours, image: Volume) -> NDArray[np.uint8]:
    """Return (I,J,K) in {0,1} of one region."""
    grid = plane_grid(region, image)
    drawn = [grid.coordinates(points) for points in region]
    planes = group_by_plane(drawn)
    along = np.array([np.mean(np.concatenate(plane)[:, 2]) for plane in planes])
    spacing = plane_spacing(along, planes, grid, contours, image)
    height = max(float(np.ptp(points[:, 2])) for points in drawn)
    if height > max(MAX_OFF_PLANE * spacing, 2 * SAME_PLANE_MM):
        raise RejectionError("geometry", "contours do not lie in parallel planes")
    share = np.zeros(image.data.shape, np.float32)
    for stack in plane_stacks(along, planes, spacing, grid, image.data.size):
        add_inside_share(share, stack, grid, image, spacing)
    if share.max() == 0:
        return np.zeros(share.shape, np.uint8)
    # If no voxel is half covered, those covered at least half as much as the best are kept.
    least = 0.5 if share.max() > 0.5 else share.max() / 2
    return (share > least).astype(np.uint8)


def plane_grid(region: tuple[Points, ...], image: Volume) -> PlaneGrid:
    """Return plane coordinates; the normal is an image axis if the contours are parallel to slices.

    Raises:
        RejectionError: `mask-not-drawn` if the contours enclose no area.
    """
    normal = np.zeros(3)
    areas = [vector_area(points) for points in region]
    largest = max(areas, key=lambda area: float(area @ area))
    for area in areas:
        normal += area if area @ largest >= 0 else -area
    length = float(np.linalg.norm(normal))
    if not length:
        raise RejectionError("mask-not-drawn", "the contours enclose no area")
    normal /= length
    to_voxels = np.linalg.inv(image.affine)
    axes = to_voxels[:3, :3] / np.linalg.norm(to_voxels[:3, :3], axis=1, keepdims=True)
    axis = int(np.abs(axes @ normal).argmax())
    to_grid = np.eye(4)
    if max(float(np.ptp(points @ axes[axis])) for points in region) < MAX_TILT_MM:
        in_plane = [other for other in range(3) if other != axis]
        to_grid[:2] = to_voxels[in_plane]
        size = 1 / float(np.linalg.norm(to_voxels[axis, :3]))  # mm from slice to slice
        to_grid[2] = to_voxels[axis] * size
        return PlaneGrid(to_grid, tuple(image.spacing_mm[a] for a in in_plane), axis)  # type: ignore[arg-type]
    pixel = max(min(image.spacing_mm) / 2, FINEST_MM)
    u = np.cross(normal, np.eye(3)[np.abs(normal).argmin()])
    u /= np.linalg.norm(u)
    to_grid[:3, :3] = np.stack([u / pixel, np.cross(normal, u) / pixel, normal])
    return PlaneGrid(to_grid, (pixel, pixel), None)


def vector_area(points: Points) -> Points:
    """Return (3,) the area of a polygon times its normal."""
    centred = points - points.mean(axis=0)
    return np.asarray(np.cross(centred, np.roll(centred, -1, axis=0)).sum(axis=0) / 2)


def group_by_plane(drawn: list[Points]) -> list[list[Points]]:
    """Group contours by plane, planes sorted; planes much nearer than usual are joined."""
    heights = np.array([points[:, 2].mean() for points in drawn])
    order = np.argsort(heights, kind="stable")
    gaps = np.diff(heights[order])
    apart = gaps[gaps > SAME_PLANE_MM]
    usual = float(np.median(apart)) if len(apart) else 0.0
    cuts = np.flatnonzero(gaps > max(SAME_PLANE_MM, usual / 4)) + 1
    return [[drawn[index] for index in part] for part in np.split(order, cuts)]


def plane_spacing(
    along: NDArray[np.float64],
    planes: list[list[Points]],
    grid: PlaneGrid,
    contours: Contours,
    image: Volume,
) -> float:
    """Return the distance in mm at which planes were drawn: their own, else from other evidence."""
    gaps = np.diff(along)
    if len(gaps) > 1:
        return float(np.median(gaps))
    # An outline on one slice only was drawn on a thick slice: take the thickest of the images.
    normal = grid.to_grid[2, :3]
    lengths = [float(np.linalg.norm(step)) for step in contours.slice_steps]
    parallel = [
        length
        for length, step in zip(lengths, contours.slice_steps, strict=True)
        if abs(normal @ np.array(step)) > PARALLEL * length
    ]
    usual = max(parallel, default=None)
    if usual is None:
        level = [
            points
            for points in map(grid.coordinates, contours.others)
            if np.ptp(points[:, 2]) < 0.1
        ]
        heights = [plane[0][:, 2].mean() for plane in group_by_plane(level)] if level else []
        others = np.diff(np.array(heights, np.float64))
        usual = float(np.median(others)) if len(others) else None
    if usual is None and grid.aligned is not None:
        usual = image.spacing_mm[grid.aligned]
    if len(gaps) and (usual is None or gaps[0] <= NEIGHBOURS * usual):
        return float(gaps[0])
    if usual is None:
        raise RejectionError("geometry", "one plane of contours, and nothing says how thick it is")
    return usual


def plane_stacks(
    along: NDArray[np.float64],
    planes: list[list[Points]],
    spacing: float,
    grid: PlaneGrid,
    largest: int,
) -> Iterator[PlaneStack]:
    """Yield planes that belong together, each stack filled on the pixels that it needs.

    Raises:
        RejectionError: `contours-too-sparse` if an outline continues behind too wide a gap.
    """
    everything = np.concatenate([points for plane in planes for points in plane])
    low = np.floor(everything[:, :2].min(axis=0)) - 2
    size = tuple((np.ceil(everything[:, :2].max(axis=0)) + 3 - low).astype(int))
    if len(planes) * size[0] * size[1] > max(largest, 2**24) * 4:
        raise RejectionError("too-large", "contours over more pixels than an image may have")
    filled = [fill_plane(plane, low, size) for plane in planes]
    cuts = []
    for index, gap in enumerate(np.diff(along)):
        goes_on = bool((filled[index] & filled[index + 1]).any())
        if goes_on and gap > LARGEST_GAP_MM:
            reason = f"planes of one region are {gap:.1f} mm apart, at most {LARGEST_GAP_MM:.0f} mm"
            raise RejectionError("contours-too-sparse", f"{reason} can be filled between")
        if gap > LARGEST_GAP_MM or not (goes_on or gap <= NEIGHBOURS * spacing):
            cuts.append(index + 1)
    for part in np.split(np.arange(len(planes)), cuts):
        distance = np.stack([signed_distance(filled[index], grid.pixel_mm) for index in part])
        yield PlaneStack(along[part], distance, low, spacing / 2)


def fill_plane(
    plane: list[Points], low: NDArray[np.float64], size: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Fill (U,V): pixels inside an odd number of a plane's contours; a duplicate counts once."""
    from skimage.draw import polygon

    layer = np.zeros(size, np.bool_)
    seen: set[tuple[tuple[float, ...], ...]] = set()
    for points in plane:
        corners = tuple(sorted(map(tuple, np.round(points[:, :2], 2).tolist())))
        if corners in seen:
            continue
        seen.add(corners)
        u, v = (points[:, :2] - low).T
        inside = polygon(u, v, size)
        layer[inside] ^= True
        if not len(inside[0]):  # smaller than a pixel
            layer[round(float(u.mean())), round(float(v.mean()))] = True
    return layer


def signed_distance(
    inside: NDArray[np.bool_], pixel_mm: tuple[float, float]
) -> NDArray[np.float32]:
    """Compute (U,V) mm to the outline, which runs between pixels: positive inside."""
    from scipy.ndimage import distance_transform_edt

    within = distance_transform_edt(inside, sampling=pixel_mm)
    beyond = distance_transform_edt(~inside, sampling=pixel_mm)
    half = min(pixel_mm) / 2
    return np.asarray(np.where(inside, within - half, half - beyond), np.float32)


def add_inside_share(
    share: NDArray[np.float32], stack: PlaneStack, grid: PlaneGrid, image: Volume, spacing: float
) -> None:
    """Add to each voxel of (I,J,K) the share of its samples that lies inside a stack of planes."""
    from scipy.ndimage import map_coordinates

    box = voxel_box(stack, grid, image)
    if box is None:
        return
    counts = samples_per_axis(grid, image, spacing)
    offsets = [(np.arange(count) + 0.5) / count - 0.5 for count in counts]
    to_grid = grid.to_grid @ image.affine
    index = np.arange(len(stack.along))
    first, last = box
    rest = [np.arange(first[axis], last[axis]) for axis in (0, 1)]
    for k in range(first[2], last[2]):  # one slice at a time bounds the memory
        centres = np.stack(np.meshgrid(*rest, [k], indexing="ij")).reshape(3, -1)
        inside = np.zeros(centres.shape[1], np.float32)
        for offset in product(*offsets):
            at = to_grid[:3, :3] @ (centres + np.array(offset)[:, None]) + to_grid[:3, 3:]
            near = (at[2] >= stack.along[0] - stack.half - 1e-6) & (
                at[2] < stack.along[-1] + stack.half - 1e-6
            )
            if not near.any():
                continue
            u, v = at[:2, near] - stack.corner[:, None]
            plane = np.interp(at[2, near], stack.along, index)
            distance = map_coordinates(
                stack.distance, [plane, u, v], order=1, mode="constant", cval=-1.0
            )
            inside[near] += distance > 0
        inside /= np.prod(counts)
        where = (slice(first[0], last[0]), slice(first[1], last[1]), k)
        share[where] += inside.reshape(last[0] - first[0], last[1] - first[1])


def samples_per_axis(grid: PlaneGrid, image: Volume, spacing: float) -> tuple[int, ...]:
    """Return the number of samples of a voxel along each of its axes, an odd number.

    A centre stands for its voxel unless the voxel is much larger than the contours' resolution.
    """
    sizes = np.array(image.spacing_mm)
    if grid.aligned is not None:
        finest = sizes.copy()
        finest[grid.aligned] = spacing
    else:
        normal = grid.to_grid[2, :3]
        along = np.abs(normal @ (image.affine[:3, :3] / sizes)) > 0.7
        finest = np.where(along, max(spacing, float(sizes.min())), sizes.min())
    counts = np.maximum(np.ceil(sizes / finest - (OVERSAMPLE_FROM - 1)), 1).astype(int)
    counts = np.minimum(counts, MOST_SAMPLES) | 1
    while np.prod(counts) > MOST_SAMPLES:
        counts[counts.argmax()] -= 2
    return tuple(map(int, counts))


def voxel_box(
    stack: PlaneStack, grid: PlaneGrid, image: Volume
) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
    """Return first and last+1 voxel of the image that a stack may touch; None if it is outside."""
    size = np.array(stack.distance.shape[1:])
    limits = np.array(
        [
            [stack.corner[0], stack.corner[0] + size[0]],
            [stack.corner[1], stack.corner[1] + size[1]],
            [stack.along[0] - stack.half, stack.along[-1] + stack.half],
        ]
    )
    corners = np.array(list(product(*limits)))  # (8,3)
    to_voxels = np.linalg.inv(grid.to_grid @ image.affine)
    voxels = corners @ to_voxels[:3, :3].T + to_voxels[:3, 3]
    shape = np.array(image.data.shape)
    first = np.clip(np.floor(voxels.min(axis=0)) - 1, 0, shape).astype(np.intp)
    last = np.clip(np.ceil(voxels.max(axis=0)) + 2, 0, shape).astype(np.intp)
    return (first, last) if (first < last).all() else None
