"""Load the average brain, nilearn's MNI152 maps, and derive the simulator's maps from it once."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tasks.phantom.random_fields import Float, sigmoid

# The box of the MNI152 maps, in mm, that holds the whole brain with a margin.
BOX_MM = ((-84, 84), (-120, 88), (-72, 90))
CENTRE_MM = np.array([0.0, -18.0, 8.0], dtype=np.float32)


@dataclass(frozen=True)
class Atlas:
    """Maps on one 1 mm lattice (X,Y,Z) in MNI space (RAS+), all float32 in [0,1].

    They are averaged over a slice's thickness already, as a scanner would, so that sampling one
    point a voxel is enough. `origin_mm` is the MNI position of voxel (0,0,0).
    """

    grey: Float
    white: Float
    texture: Float
    brain: Float
    caps: Float
    origin_mm: Float
    tumor_sites_mm: Float
    """(S,3): sites in cerebral white matter where a tumour may start."""
    clearance_mm: Float
    """(S,3): their distance to a ventricle, to the brain's surface, and to the midline."""


@cache
def load_atlas() -> Atlas:
    """Read the maps that nilearn's package contains; nothing is downloaded."""
    from nilearn.datasets import (
        load_mni152_gm_template,
        load_mni152_template,
        load_mni152_wm_template,
    )

    images = [
        loader(resolution=1)
        for loader in (load_mni152_template, load_mni152_gm_template, load_mni152_wm_template)
    ]
    affine = images[0].affine
    origin = np.array([low for low, _ in BOX_MM], dtype=np.float32)
    first = np.rint(origin - affine[:3, 3]).astype(int)
    box = tuple(
        slice(start, start + high - low) for start, (low, high) in zip(first, BOX_MM, strict=True)
    )
    t1, grey, white = (np.asarray(image.dataobj, dtype=np.float32)[box] for image in images)
    return derive_atlas(t1, grey, white, origin)


def derive_atlas(t1: Float, grey: Float, white: Float, origin: Float) -> Atlas:
    """Derive the simulator's maps from the three MNI maps (X,Y,Z) at 1 mm."""
    brain = ndimage.binary_fill_holes(t1 > 0.05)
    # Averaging 152 brains blurred the folds; steeper shares give back the sulci of one brain.
    tissue = smoothstep(grey + white, low=0.25, high=0.85)
    white = np.minimum(smoothstep(white, low=0.15, high=0.85), tissue)
    grey = tissue - white
    # What T1 shows beyond the tissue classes (pallidum, thalamus, cortex layers), sign reversed.
    design = np.stack([grey[brain], white[brain], 1 - tissue[brain]], axis=1)[::50]
    weights = np.linalg.lstsq(design, t1[brain][::50], rcond=None)[0].astype(np.float32)
    texture = -(t1 - (weights[0] * grey + weights[1] * white + weights[2] * (1 - tissue)))
    texture = np.clip(texture * tissue * brain, -0.2, 0.2)

    depth = ndimage.distance_transform_edt(brain[::2, ::2, ::2]) * 2
    fluid = (tissue[::2, ::2, ::2] < 0.4) & (depth > 16)
    ventricle = largest_component(fluid)
    to_ventricle = ndimage.distance_transform_edt(~ventricle).astype(np.float32) * 2
    caps = np.exp(-np.maximum(upsample_to_1mm(to_ventricle, brain.shape) - 1, 0) / 2.5) * white
    sites, clearance = find_tumor_sites(white, to_ventricle, depth.astype(np.float32), origin)
    return Atlas(
        grey=blur_to_slice_thickness(grey),
        white=blur_to_slice_thickness(white),
        texture=blur_to_slice_thickness(texture),
        brain=blur_to_slice_thickness(brain.astype(np.float32)),
        caps=blur_to_slice_thickness(caps.astype(np.float32)),
        origin_mm=origin,
        tumor_sites_mm=sites,
        clearance_mm=clearance,
    )


def smoothstep(share: Float, *, low: float, high: float) -> Float:
    """Map a share of [low, high] to [0, 1], with a smooth step."""
    t = np.clip((share - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def blur_to_slice_thickness(volume: Float) -> Float:
    """Average over 4 mm through-plane and over about a pixel in-plane."""
    flat = ndimage.uniform_filter1d(volume, 4, axis=2)
    return np.asarray(ndimage.gaussian_filter(flat, (0.6, 0.6, 0.6)), dtype=np.float32)


def upsample_to_1mm(coarse: Float, shape: tuple[int, ...]) -> Float:
    """Upsample from the 2 mm lattice to 1 mm: each value is repeated along every axis."""
    for axis in range(3):
        coarse = np.repeat(coarse, 2, axis=axis)
    return coarse[tuple(slice(n) for n in shape)]


def largest_component(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest connected component; for deep fluid it is the ventricles."""
    parts, _ = ndimage.label(mask)
    return np.asarray(parts == 1 + np.bincount(parts.ravel())[1:].argmax(), dtype=np.bool_)


def find_tumor_sites(
    white: Float, to_ventricle: Float, depth: Float, origin: Float
) -> tuple[Float, Float]:
    """Find tumour sites (S,3) in mm with clearance (S,3), in the hemispheres' white matter."""
    sites = np.argwhere(white[::2, ::2, ::2] > 0.6)
    x, y, z = (sites * 2 + origin).T
    hemisphere = (np.abs(x) > 11) & (z > -8) & (z < 52) & ~((y < -35) & (z < 8))
    sites = sites[hemisphere]
    index = tuple(sites.T)
    midline = np.abs(x[hemisphere])
    clearance = np.stack([to_ventricle[index], depth[index], midline], axis=1)
    return (sites * 2 + origin).astype(np.float32), clearance.astype(np.float32)


def interpolate_map(volume: Float, origin_mm: Float, points_mm: Float) -> Float:
    """Interpolate a 1 mm map at MNI points (3,...), trilinear, zero outside the box."""
    voxels = points_mm - origin_mm.reshape(3, *[1] * (points_mm.ndim - 1))
    values = ndimage.map_coordinates(volume, voxels, order=1, mode="constant", output=np.float32)
    return np.asarray(values, dtype=np.float32)


def break_symmetry(p: Float, *, ventricle: float) -> Float:
    """Break the template's mirror symmetry as in real brains, the same way in every patient.

    The template is its own mirror image (r = 1.000), so a flipped slice could not be distinguished
    from a correct one. Yakovlevian torque: the right frontal lobe reaches further forward and
    across, the left occipital lobe further back and across the midline; the left lateral ventricle
    is the larger one. The asymmetry is about twice the natural one, so that 3 mm pixels still show
    it.

    `p` (3,N) are points in mm; the MNI points (3,N) to sample there are returned. `ventricle`
    widens (> 0) or narrows (< 0) both ventricles of one patient in addition.
    """
    x, y, z = p
    right = sigmoid(x / 8)
    front, back = sigmoid((y - 15) / 10), sigmoid(-(y + 55) / 10)
    shifted = np.stack(
        [
            x + 4 * front - 6 * back,
            y - 6 * right * front + 7 * (1 - right) * back,
            z,
        ]
    )
    for side, size in ((-1, 0.34 + ventricle), (1, ventricle - 0.1)):
        centre = np.array([side * 18, -22, 18], dtype=np.float32)[:, None]
        away = shifted - centre
        reach = np.exp(-(away**2 / np.array([[14], [30], [16]]) ** 2).sum(0))
        shifted = shifted - np.float32(size) * reach * away
    return shifted.astype(np.float32)
