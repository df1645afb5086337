"""Deform outlined tumours, and find places for them in slices without tumour.

A tumour is turned, scaled, mirrored, bent and moved, so that a few outlined tumours give many,
wherever a brain has room for one.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import (
    binary_fill_holes,
    distance_transform_edt,
    gaussian_filter,
    map_coordinates,
)

from tasks.common.slice_set import SliceSet

AIR = -1.0
DARK = -0.9  # of tissue, at least
ROTATION = 0.5  # radians
SCALE = 0.3  # of the logarithm
BEND = 0.02  # of the side, standard deviation
BEND_RANGE = 0.1  # of the side, over which it varies
MOVE = 0.17  # of the side, at most
SHALLOW_QUANTILE = 0.25  # of real tumours: a placed one reaches no nearer to the head's surface
MOST_DEPTH = 0.3  # asked for; skull and scalp are thinner, and central tumours may move
INSIDE = 0.98  # least share of the tumour that lies in the host's tissue
LEAST_PIXELS = 4
NEAREST_HOSTS = 20
PLACES = 6  # tried in each host
ATTEMPTS = 20  # tumours tried for one slice
T = TypeVar("T", bound=np.generic)
Image = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Tumor:
    """A deformed tumour: its slice (C,H,W) and mask (H,W)."""

    image: Image
    mask: Mask


@dataclass(frozen=True)
class Placements:
    """N deformed tumours, each with a host that has room for it.

    `donors`, `hosts` (N,) are positions in the two sets; `images` (N,C,H,W) the deformed slices of
    the donors, moved, and `masks` (N,H,W) their tumours.
    """

    donors: NDArray[np.intp]
    hosts: NDArray[np.intp]
    images: Image
    masks: Mask

    def __len__(self) -> int:
        return len(self.hosts)


def place_deformed_tumors(
    donors: SliceSet, hosts: SliceSet, *, count: int, rng: np.random.Generator
) -> Placements:
    """Find a host for each of `count` deformed tumours.

    A host is a slice of another patient, one of the nearest in position to the donor's slice whose
    tissue has room for the tumour. No tumour comes nearer to the head's surface than three quarters
    of the donors' tumours do, so that none lies in skull or scalp where heads are whole.

    Args:
        donors: slices with outlined tumours; `subject`, `position_mm`.
        hosts: slices without tumour, same columns; they may be used several times.
        count: of placements.
        rng: source of all randomness.

    Returns:
        Fewer than `count` where tumours hardly fit; none without donors or hosts.
    """
    placed: list[tuple[int, int, Tumor]] = []
    tissue: Mask = np.all(hosts.images > DARK, axis=1)  # (N,H,W)
    deep = relative_depth(hosts.images) >= least_depth(donors)
    distance = np.abs(
        donors.table["position_mm"].to_numpy()[:, None] - hosts.table["position_mm"].to_numpy()
    )
    same_patient = donors.table["subject"].to_numpy()[:, None] == hosts.table["subject"].to_numpy()
    for _ in range(count if len(donors) and len(hosts) else 0):
        for _ in range(ATTEMPTS):
            donor = int(rng.integers(len(donors)))
            tumor = deform_tumor(donors.images[donor], donors.masks[donor] > 0, rng)
            others = np.flatnonzero(~same_patient[donor])
            order = np.argsort(distance[donor][others], kind="stable")
            nearest = others[order][:NEAREST_HOSTS]
            place = place_tumor(tumor, tissue, deep, rng.permutation(nearest), rng)
            if place is not None:
                placed.append((donor, *place))
                break
    shape = hosts.images.shape[1:]
    return Placements(
        np.array([donor for donor, _, _ in placed], dtype=np.intp),
        np.array([host for _, host, _ in placed], dtype=np.intp),
        np.array([tumor.image for _, _, tumor in placed], np.float32).reshape(-1, *shape),
        np.array([tumor.mask for _, _, tumor in placed], bool).reshape(-1, *shape[1:]),
    )


def relative_depth(images: Image) -> NDArray[np.float32]:
    """Return how deep each pixel (N,H,W) lies in the head or brain: 0 outside, 1 at the deepest.

    Dark parts that tissue encloses, such as ventricles, are inside.
    """
    depths = np.zeros((len(images), *images.shape[2:]), np.float32)
    for row, tissue in enumerate(np.any(images > DARK, axis=1)):
        depth = distance_transform_edt(binary_fill_holes(tissue))
        depths[row] = depth / max(float(depth.max()), 1.0)
    return depths


def least_depth(donors: SliceSet) -> float:
    """Return the depth that three quarters of outlined tumours keep with all pixels; .3 at most."""
    if not len(donors):
        return 0.0
    depths = relative_depth(donors.images)
    shallowest = [depth[mask].min() for depth, mask in zip(depths, donors.masks > 0, strict=True)]
    return min(float(np.quantile(shallowest, SHALLOW_QUANTILE)), MOST_DEPTH)


def deform_tumor(image: Image, mask: Mask, rng: np.random.Generator) -> Tumor:
    """Turn, scale, mirror and bend a tumour about its own centre."""
    side = max(mask.shape)
    angle, scale = rng.uniform(-ROTATION, ROTATION), np.exp(rng.uniform(-SCALE, SCALE))
    cosine, sine = np.cos(angle) / scale, np.sin(angle) / scale
    turn = np.array([[cosine, -sine], [sine, cosine]])
    if rng.random() < 0.5:
        turn = turn @ np.diag([1.0, -1.0])
    centre = np.argwhere(mask).mean(axis=0)[:, None, None]
    noise = gaussian_filter(rng.normal(size=(2, *mask.shape)), (0, *[BEND_RANGE * side] * 2))
    bend = BEND * side * noise / max(float(noise.std()), 1e-9)
    grid = np.indices(mask.shape).astype(float)
    source: NDArray[np.float64] = np.einsum("ij,jhw->ihw", turn, grid - centre) + centre + bend
    channels = [
        map_coordinates(plane.astype(float), source, order=1, mode="nearest") for plane in image
    ]
    return Tumor(
        np.stack(channels).astype(np.float32),
        map_coordinates(mask.astype(float), source, order=1) >= 0.5,
    )


def place_tumor(
    tumor: Tumor, tissue: Mask, deep: Mask, hosts: NDArray[np.intp], rng: np.random.Generator
) -> tuple[int, Tumor] | None:
    """Move a tumour to where a host's tissue (N,H,W) has room for it; None where none has.

    Args:
        tumor: to be moved.
        tissue: of all hosts.
        deep: (N,H,W) where they may hold a tumour: no pixel of it lies elsewhere.
        hosts: positions of those to try, in this order.
        rng: chooses the moves.
    """
    area = tumor.mask.sum()
    if area < LEAST_PIXELS:
        return None
    most = int(MOVE * max(tumor.mask.shape))
    for host in hosts:
        for rows, columns in rng.integers(-most, most + 1, size=(PLACES, 2)):
            mask = shift(tumor.mask, rows, columns, False)
            inside = mask.sum() == area and deep[host][mask].all()
            if inside and tissue[host][mask].mean() >= INSIDE:
                image = np.stack([shift(plane, rows, columns, AIR) for plane in tumor.image])
                return int(host), Tumor(image, mask)
    return None


def shift(array: NDArray[T], rows: int, columns: int, fill: float | bool) -> NDArray[T]:
    """Shift an array (H,W) by whole pixels; what moves in is `fill`."""
    moved = np.full_like(array, fill)
    height, width = array.shape
    to_rows = slice(max(rows, 0), height + min(rows, 0))
    to_columns = slice(max(columns, 0), width + min(columns, 0))
    from_rows = slice(max(-rows, 0), height + min(-rows, 0))
    from_columns = slice(max(-columns, 0), width + min(-columns, 0))
    moved[to_rows, to_columns] = array[from_rows, from_columns]
    return moved
