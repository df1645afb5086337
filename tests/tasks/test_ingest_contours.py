"""Contours of RT structure sets become masks on grids of any orientation and slice thickness.

The oracle is a sphere: its contours on any plane and its voxels on any grid are known.
"""

import numpy as np
import pytest

from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.core.volume import Volume
from tasks.ingest.masks.rasterise_contours import Contours, rasterise_contours
from tests.tasks.dicom_cases import rotation

RADIUS = 16.0
SAGITTAL = np.eye(3)[:, [1, 2, 0]]  # columns: two directions in the plane, the normal


def grid(
    spacing: tuple[float, float, float],
    turn: np.ndarray | None = None,
    offset: tuple[float, float, float] = (0, 0, 0),
) -> Volume:
    """Return an empty image of 80 mm, its middle voxel at `offset` in its own directions."""
    turn = np.eye(3) if turn is None else turn
    shape = tuple(int(80 / size) | 1 for size in spacing)
    affine = np.eye(4)
    affine[:3, :3] = turn * spacing
    affine[:3, 3] = turn @ offset - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Volume(np.zeros(shape, np.uint8), affine)


def circles(
    gap: float, offset: float, turn: np.ndarray, *, radius: float = RADIUS
) -> list[np.ndarray]:
    """Return the sphere's outlines on planes `gap` mm apart, (N,3) RAS+ mm."""
    angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    heights = offset + gap * np.arange(-60, 60)
    return [
        np.stack([r * np.cos(angle), r * np.sin(angle), np.full(96, z)], axis=1) @ turn.T
        for z in heights
        if abs(z) < radius
        for r in [np.sqrt(radius**2 - z**2)]
    ]


def sphere(image: Volume, radius: float = RADIUS) -> np.ndarray:
    """Return the voxels of which at least half lies in the sphere."""
    index = np.indices(image.data.shape).reshape(3, -1)
    inside = np.zeros(index.shape[1])
    offsets = (np.arange(4) + 0.5) / 4 - 0.5
    for offset in np.stack(np.meshgrid(*[offsets] * 3), axis=-1).reshape(-1, 3, 1):
        at = image.affine[:3, :3] @ (index + offset) + image.affine[:3, 3:]
        inside += np.linalg.norm(at, axis=0) <= radius
    return (inside >= 32).reshape(image.data.shape)


def shift(points: np.ndarray, *by: float) -> np.ndarray:
    return points + np.array(by)


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


THICK, THIN = (0.9, 0.9, 5.0), (1.0, 1.0, 1.0)
AXIAL = np.eye(3)
OBLIQUE = rotation(np.random.default_rng(4))


@pytest.mark.parametrize(
    ("gap", "planes", "image", "least"),
    [
        pytest.param(1, AXIAL, grid(THICK), 0.965, id="1 mm on 5 mm"),
        pytest.param(1, AXIAL, grid(THICK, offset=(0, 0, 2.5)), 0.97, id="1 mm on 5 mm, between"),
        pytest.param(2, AXIAL, grid((1, 1, 3)), 0.965, id="2 mm on 3 mm"),
        pytest.param(3, AXIAL, grid((1, 1, 2)), 0.97, id="3 mm on 2 mm"),
        pytest.param(3, AXIAL, grid((1, 1, 2), offset=(0.3, 0.3, 0.7)), 0.97, id="3 on 2, off"),
        pytest.param(5, AXIAL, grid(THIN), 0.955, id="5 mm on 1 mm"),
        pytest.param(5, AXIAL, grid(THICK), 0.93, id="5 mm on 5 mm"),
        pytest.param(5, AXIAL, grid(THICK, offset=(0, 0, 2.5)), 0.91, id="5 mm on 5 mm, between"),
        pytest.param(10, AXIAL, grid(THIN), 0.885, id="10 mm on 1 mm"),
        pytest.param(1, SAGITTAL, grid(THICK), 0.97, id="sagittal 1 mm on axial 5 mm"),
        pytest.param(5, SAGITTAL, grid(THIN), 0.955, id="sagittal 5 mm on 1 mm"),
        pytest.param(1, OBLIQUE, grid(THICK), 0.975, id="oblique 1 mm on axial 5 mm"),
        pytest.param(3, OBLIQUE, grid(THIN), 0.98, id="oblique 3 mm on 1 mm"),
        pytest.param(1, OBLIQUE, grid(THICK, OBLIQUE), 0.97, id="1 mm on 5 mm, both oblique"),
    ],
)
def test_a_sphere_keeps_its_shape_and_volume_whatever_the_planes(
    gap: float, planes: np.ndarray, image: Volume, least: float
) -> None:
    truth = sphere(image)
    for offset in (0.0, 0.13 * gap, 0.5 * gap):
        mask = rasterise_contours(Contours((tuple(circles(gap, offset, planes)),)), image) > 0
        voxel = abs(np.linalg.det(image.affine[:3, :3]))
        assert dice(mask, truth) > least
        assert mask.sum() * voxel == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.11)
        along = np.flatnonzero(mask.any(axis=(0, 1)))
        assert np.array_equal(along, np.arange(along[0], along[-1] + 1))  # no stripes


def test_regions_drawn_together_or_one_by_one_give_the_same_mask() -> None:
    image = grid((1.3, 1.1, 4.0))
    rings = circles(2, 0.3, AXIAL, radius=9)
    shifted = [shift(ring, 12, -9, 6) for ring in circles(2, 0.3, AXIAL, radius=7)]
    first, second = (
        rasterise_contours(Contours((tuple(part),)), image) for part in (rings, shifted)
    )
    both = rasterise_contours(Contours((tuple(rings), tuple(shifted))), image)
    assert np.array_equal(both, first | second)
    assert np.array_equal(rasterise_contours(Contours((tuple(reversed(rings)),)), image), first)
    assert np.array_equal(
        rasterise_contours(Contours((tuple(r[::-1] for r in rings),)), image), first
    )


def test_a_contour_that_is_stored_twice_counts_once() -> None:
    image, rings = grid(THICK), circles(5, 0, AXIAL)
    twice = [*rings, *(np.roll(ring, 7, axis=0) for ring in rings)]
    once = rasterise_contours(Contours((tuple(rings),)), image)
    assert np.array_equal(rasterise_contours(Contours((tuple(twice),)), image), once)


def test_a_hole_stays_a_hole_between_planes() -> None:
    """Draw a shell: the inner sphere's contours lie in the outer one's planes."""
    image = grid(THIN)
    shell = sphere(image) & ~sphere(image, 9)
    for gap in (1, 4):
        drawn = (*circles(gap, 0, AXIAL), *circles(gap, 0, AXIAL, radius=9))
        mask = rasterise_contours(Contours((drawn,)), image) > 0
        assert dice(mask, shell) > 0.93
        assert not mask[tuple(size // 2 for size in mask.shape)]


def test_pieces_of_one_region_are_not_bridged() -> None:
    image = grid(THIN)
    low = [shift(ring, -14, 0, -20) for ring in circles(2, 0, AXIAL, radius=7)]
    high = [shift(ring, 14, 0, 14) for ring in circles(2, 0, AXIAL, radius=7)]
    mask = rasterise_contours(Contours((tuple(low + high),)), image) > 0
    apart = rasterise_contours(Contours((tuple(low), tuple(high))), image) > 0
    assert np.array_equal(mask, apart)
    assert not mask[:, :, 36:46].any()


def test_a_slice_left_out_inside_a_tumour_is_filled_between() -> None:
    image, rings = grid(THICK), circles(5, 0, AXIAL)
    full = rasterise_contours(Contours((tuple(rings),)), image) > 0
    mask = rasterise_contours(Contours((tuple(rings[:3] + rings[4:]),)), image) > 0
    assert dice(mask, full) > 0.97


def test_planes_too_far_apart_are_rejected() -> None:
    with pytest.raises(RejectionError, match="contours-too-sparse"):
        rasterise_contours(Contours((tuple(circles(12, 0, AXIAL)),)), grid(THIN))


def test_a_lesion_thinner_than_half_a_slice_does_not_vanish() -> None:
    image = grid(THICK)
    disc = [shift(ring, 0, 0, 1) for ring in circles(1, 0, AXIAL, radius=6)[5:7]]
    mask = rasterise_contours(Contours((tuple(disc),)), image) > 0
    assert np.flatnonzero(mask.any(axis=(0, 1))).tolist() == [image.data.shape[2] // 2]


def test_a_region_smaller_than_a_pixel_does_not_vanish() -> None:
    image = grid((4.0, 4.0, 4.0))
    rings = [shift(ring, 1.0, 1.0, 0.0) for ring in circles(1, 0, AXIAL, radius=1.2)]
    assert rasterise_contours(Contours((tuple(rings),)), image).sum() == 1


def test_one_plane_is_as_thick_as_the_slices_it_was_drawn_on() -> None:
    (ring,) = circles(40, 0, AXIAL)
    for steps, slices in (((), 1), (((0.0, 0.0, -5.0),), 5), (((5.0, 0.0, 0.0),), 1)):
        mask = rasterise_contours(Contours(((ring,),), slice_steps=steps), grid(THIN)) > 0
        assert mask.any(axis=(0, 1)).sum() == slices
    organ = tuple(circles(3, 0, AXIAL, radius=30))
    assert (rasterise_contours(Contours(((ring,),), organ), grid(THIN)) > 0).any(
        axis=(0, 1)
    ).sum() == 3
    with pytest.raises(RejectionError, match="nothing says how thick"):
        rasterise_contours(Contours(((ring @ SAGITTAL.T @ OBLIQUE,),)), grid(THIN))


def test_contours_in_no_plane_are_rejected() -> None:
    rings = circles(3, 0, AXIAL)
    rings[2] = rings[2] + np.outer(np.arange(96) % 2, [0, 0, 4.0])
    with pytest.raises(RejectionError, match="parallel planes"):
        rasterise_contours(Contours((tuple(rings),)), grid(THIN))
    with pytest.raises(RejectionError, match="parallel planes"):
        rasterise_contours(
            Contours((tuple(circles(3, 0, AXIAL) + circles(3, 0, SAGITTAL)),)), grid(THIN)
        )


def test_contours_beside_the_image_are_rejected() -> None:
    rings = [shift(ring, 0, 0, 300.0) for ring in circles(3, 0, AXIAL)]
    with pytest.raises(RejectionError, match="mask-outside-image"):
        rasterise_contours(Contours((tuple(rings),)), grid(THIN))
