"""Simulate a glioma on FLAIR: an irregular core, its rim, and oedema along the white matter."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tasks.phantom.mni_atlas import Atlas
from tasks.phantom.random_fields import Float, SmoothField, sigmoid

CORE, RIM, OEDEMA = 1, 2, 3
OUTLINE = 0.28  # how irregular a core is, as a share of its radius


@dataclass(frozen=True)
class Tumor:
    """One patient's tumour; lengths in mm, brightness as a share of grey matter's."""

    place_mm: Float
    """(3,) where in MNI space it started."""
    radius_mm: float
    oedema_mm: float
    axes: Float
    """(3,3) turns and stretches an offset in mm so that the core becomes a ball."""
    push: float
    """How far tissue at the centre is moved, as a share of its distance; 0 is no mass effect."""
    oedema_gain: float
    core_gain: float
    centre_gain: float
    """Brightness of the innermost part: below 1 for necrosis or a cyst."""
    shape: SmoothField
    """Three channels: the core's outline, the oedema's outline, the texture inside."""

    @property
    def reach_mm(self) -> float:
        """The distance from the centre beyond which nothing changes."""
        return 2.2 * self.push_mm

    @property
    def push_mm(self) -> float:
        """The width of the displacement."""
        return 1.7 * (self.radius_mm + 0.5 * self.oedema_mm)


def random_tumor(rng: np.random.Generator, atlas: Atlas) -> Tumor:
    """Choose a random tumour with enough clearance: it fills neither a ventricle nor the skull."""
    radius = float(6 + 14 * rng.beta(1.3, 1.5))
    allowed = np.zeros(0, dtype=np.intp)
    required = np.array([[0.7, 0.6, 0.8]])
    while not len(allowed):
        allowed = np.flatnonzero((atlas.clearance_mm > required * radius + [[2, 3, 3]]).all(1))
        radius *= 1 if len(allowed) else 0.93
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    stretch = np.exp(rng.normal(0, 0.16, 3))
    stretch /= np.prod(stretch) ** (1 / 3)
    conspicuous = rng.beta(1.5, 1.4)
    cystic = radius > 9 and rng.random() < 0.45
    return Tumor(
        place_mm=atlas.tumor_sites_mm[rng.choice(allowed)],
        radius_mm=radius,
        oedema_mm=float(3 + 11 * rng.beta(1.3, 1.7)),
        axes=(turn * stretch).astype(np.float32),
        push=float(rng.uniform(0.2, 0.5)),
        oedema_gain=1.30 + 0.45 * conspicuous,
        core_gain=1.20 + conspicuous * rng.uniform(0.15, 0.5),
        centre_gain=rng.uniform(0.4, 0.8) if cystic else rng.uniform(0.95, 1.1),
        shape=SmoothField.random(rng, channels=3, knot_mm=max(4.0, 0.55 * radius), reach_mm=45),
    )


def displacement(tumor: Tumor, offset_mm: Float) -> Float:
    """Return where the tissue now at `offset_mm` (3,...) came from, minus where it is.

    Radial and one-to-one: r (1 - push exp(-(r/s)^2)) grows with r for any push below 1.
    """
    radius = np.sqrt((offset_mm**2).sum(0))
    return np.asarray(-tumor.push * np.exp(-((radius / tumor.push_mm) ** 2)) * offset_mm)


def label_parts(
    tumor: Tumor,
    offset_mm: Float,
    noise: Float,
    *,
    tissue: Float,
    white: Float,
    same_hemisphere: Float,
) -> tuple[NDArray[np.uint8], Float, Float]:
    """Compute labels and soft weights of the tumour on a lattice.

    Args:
        tumor: the tumour.
        offset_mm: offsets from its centre (3,X,Y,Z).
        noise: `tumor.shape` on the lattice (3,X,Y,Z).
        tissue: share of brain tissue, 0 in fluid (X,Y,Z); the core leaves fluid alone.
        white: share of white matter (X,Y,Z); oedema follows it and spares the cortex.
        same_hemisphere: 1 on the tumour's side of the falx, 0 beyond (X,Y,Z).

    Returns:
        Labels uint8 (0 none, 1 core, 2 rim, 3 oedema), the core's weight and the oedema's weight
        in [0,1]. A voxel carries a label exactly where the two together cover half of it, and
        what is not connected with the largest part is no tumour.
    """
    ball = np.sqrt((np.tensordot(tumor.axes.T, offset_mm, axes=1) ** 2).sum(0))
    depth = ball - tumor.radius_mm * (1 + OUTLINE * noise[0])
    spread = ball - tumor.radius_mm - tumor.oedema_mm * (1 + 0.5 * noise[1])
    core = sigmoid(-depth / 0.6) * sigmoid((tissue - 0.35) / 0.06) * same_hemisphere
    oedema = sigmoid(-spread / 0.9) * sigmoid((white - 0.45) / 0.07)
    covered = 1 - (1 - core) * (1 - oedema)
    groups, count = ndimage.label(covered >= 0.5)
    if count > 1:
        main = 1 + np.bincount(groups.ravel())[1:].argmax()
        stray = (groups > 0) & (groups != main)
        core, oedema = np.where(stray, 0, core), np.where(stray, 0, oedema)
        covered = np.where(stray, 0, covered)
    inner = np.where(depth < -2.5, CORE, RIM)
    labels = np.where(core >= 0.5, inner, OEDEMA) * (covered >= 0.5)
    return labels.astype(np.uint8), core.astype(np.float32), oedema.astype(np.float32)


def paint_tumor(
    tumor: Tumor,
    image: Float,
    offset_mm: Float,
    noise: Float,
    *,
    core: Float,
    oedema: Float,
    grey: float,
) -> Float:
    """Return the image (X,Y,Z) with the tumour in it; `grey` is the brightness of grey matter."""
    ball = np.sqrt((np.tensordot(tumor.axes.T, offset_mm, axes=1) ** 2).sum(0))
    texture = 1 + 0.07 * noise[2]
    swollen = grey * tumor.oedema_gain * texture
    middle = sigmoid((ball - 0.62 * tumor.radius_mm * (1 + OUTLINE * noise[0])) / 0.8)
    solid = grey * texture * (tumor.centre_gain + (tumor.core_gain - tumor.centre_gain) * middle)
    image = image + oedema * (swollen - image)
    return np.asarray(image + core * (solid - image), dtype=np.float32)
