"""Simulate any number of patients with a FLAIR volume, an exact tumour mask and an affine.

The simulator writes no files and keeps no state, so it is also the oracle of the tests: patients
with an index beyond the cohort are new ones of the same kinds.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.phantom import mni_atlas
from tasks.phantom.mni_atlas import CENTRE_MM
from tasks.phantom.random_fields import Float, SmoothField
from tasks.phantom.tumor import Tumor, displacement, label_parts, paint_tumor, random_tumor

Format = Literal["dicom", "nifti"]


class PatientKind(NamedTuple):
    """A combination of format, site and tumour: twelve in each block, a third of them DICOM."""

    format: Format
    site: str
    tumor: bool


FORMATS: tuple[Format, ...] = ("dicom", "nifti", "nifti")
KINDS: tuple[PatientKind, ...] = tuple(
    PatientKind(format_, site, has)
    for format_ in FORMATS
    for site in ("A", "B")
    for has in (False, True)
)


@dataclass(frozen=True)
class Scanner:
    """How a site's FLAIR looks: brightness of fluid, grey and white matter, and its faults."""

    fluid: float
    grey: float
    white: float
    noise: float
    bias: float
    gain: float


SCANNERS = {
    "A": Scanner(fluid=0.16, grey=0.74, white=0.58, noise=0.030, bias=0.07, gain=1100.0),
    "B": Scanner(fluid=0.24, grey=0.70, white=0.49, noise=0.042, bias=0.12, gain=620.0),
}


@dataclass(frozen=True)
class SimulatedPatient:
    """One simulated examination.

    `volume` (I,J,K) float32, 0 outside the brain (the image is stripped), fluid dark, grey
    matter brighter than white. `mask` (I,J,K) uint8 is the whole tumour (core, rim and oedema),
    `parts` uint8 the same voxels as 1 core, 2 rim, 3 oedema. `affine` (4,4) maps voxels to mm in
    RAS+ world space; the axes run right, anterior, superior, a little tilted in some patients.
    """

    index: int
    participant_id: str
    kind: PatientKind
    volume: Float
    mask: NDArray[np.uint8]
    parts: NDArray[np.uint8]
    brain: NDArray[np.bool_]
    affine: NDArray[np.float64]
    spacing_mm: tuple[float, float, float]


class RandomStream:
    """The random stream of each part of a patient: leaving a tumour out changes nothing else."""

    KIND, ANATOMY, GEOMETRY, CONTRAST, NOISE, TUMOR = range(6)


@dataclass(frozen=True)
class Simulator:
    """A simulator of patients; equal seeds and indices give equal patients in any order."""

    seed: int

    def kind(self, index: int) -> PatientKind:
        """Return the kind of a patient: each block of twelve holds all kinds, shuffled."""
        block, place = divmod(index, len(KINDS))
        order = self.rng(block, RandomStream.KIND).permutation(len(KINDS))
        return KINDS[int(order[place])]

    def rng(self, index: int, stream: int) -> np.random.Generator:
        """Return the random numbers of one part of one patient."""
        return np.random.default_rng([self.seed, index, stream])

    def patients(self, first: int, count: int) -> Iterator[SimulatedPatient]:
        """Yield the patients `first` to `first + count - 1`."""
        for index in range(first, first + count):
            yield self.patient(index)

    def patient(
        self, index: int, *, kind: PatientKind | None = None, has_tumor: bool | None = None
    ) -> SimulatedPatient:
        """Simulate one patient.

        Args:
            index: 0 and up; the cohort is `range(params.phantom.patients)`, others are fresh.
            kind: format and site to use instead of the balanced design's.
            has_tumor: draw the same brain with or without its tumour.
        """
        kind = kind or self.kind(index)
        if has_tumor is not None:
            kind = kind._replace(tumor=has_tumor)
        atlas = mni_atlas.load_atlas()
        spacing, affine, axes = random_geometry(self.rng(index, RandomStream.GEOMETRY))
        points, linear = self.deform_anatomy(index, axes)  # (3,I,J,K) MNI mm
        brain = mni_atlas.interpolate_map(atlas.brain, atlas.origin_mm, points) > 0.5
        labels = np.zeros(brain.shape, dtype=np.uint8)
        tumor = None
        if kind.tumor:
            tumor = random_tumor(self.rng(index, RandomStream.TUMOR), atlas)
            centre = nearest_voxel_position(points, tumor.place_mm, axes)
            around = voxels_within(axes, centre, tumor.reach_mm)
            offset = offsets_from(axes, centre, around)
            pushed = displacement(tumor, offset)
            points[:, *around] += np.tensordot(linear, pushed, axes=1)
        flair, scanner = self.simulate_contrast(index, kind.site, atlas)
        image = np.zeros(brain.shape, dtype=np.float32)
        image[brain] = mni_atlas.interpolate_map(flair, atlas.origin_mm, points[:, brain])
        if tumor is not None:
            labels[around], image[around] = insert_tumor(
                tumor,
                atlas,
                image[around],
                points=points[:, *around],
                offset=offset,
                brain=brain[around],
                grey=scanner.grey,
            )
        volume = self.acquire(index, image, brain, axes, scanner)
        return SimulatedPatient(
            index=index,
            participant_id=f"sub-{index + 1:03d}",
            kind=kind,
            volume=volume,
            mask=(labels > 0).astype(np.uint8),
            parts=labels,
            brain=brain,
            affine=affine,
            spacing_mm=spacing,
        )

    def deform_anatomy(self, index: int, axes: tuple[Float, Float, Float]) -> tuple[Float, Float]:
        """Return the MNI point (3,I,J,K) of every voxel, and that map's linear part (3,3)."""
        rng = self.rng(index, RandomStream.ANATOMY)
        # MNI152 is larger than a typical brain, and the torque lengthens it further.
        size = np.exp(rng.normal(-0.055, 0.025)) * np.exp(rng.normal(0, 0.022, 3))
        linear = (rotation(rng.normal(0, 2.5, 3)) / size).astype(np.float32)
        wide = SmoothField.random(rng, channels=3, knot_mm=42, reach_mm=125)
        local = SmoothField.random(rng, channels=3, knot_mm=20, reach_mm=125)
        points = 2.6 * wide.on_lattice(*axes) + 1.1 * local.on_lattice(*axes)  # (3,I,J,K)
        for channel, (slopes, centre) in enumerate(zip(linear, CENTRE_MM, strict=True)):
            x, y, z = (slope * axis for slope, axis in zip(slopes, axes, strict=True))
            points[channel] += (centre + x)[:, None, None] + y[:, None] + z
        flat = mni_atlas.break_symmetry(
            points.reshape(3, -1), ventricle=float(rng.normal(0.05, 0.15))
        )
        return flat.reshape(points.shape), linear

    def simulate_contrast(
        self, index: int, site: str, atlas: mni_atlas.Atlas
    ) -> tuple[Float, Scanner]:
        """Return the average brain (1 mm) with this patient's FLAIR contrast, and the scanner."""
        rng = self.rng(index, RandomStream.CONTRAST)
        base = SCANNERS[site]
        jitter = np.exp(rng.normal(0, [0.08, 0.025, 0.025, 0.12, 0.2, 0.1]))
        values = [base.fluid, base.grey, base.white, base.noise, base.bias, base.gain]
        scanner = Scanner(*(float(v) for v in values * jitter))
        flair = scanner.fluid + (scanner.grey - scanner.fluid) * atlas.grey
        flair += (scanner.white - scanner.fluid) * atlas.white
        flair += 0.3 * atlas.texture
        # Age leaves bright caps at the ventricles and a few bright spots: not every bright
        # patch is a tumour.
        flair += float(rng.beta(1.2, 2.5)) * (1.15 * scanner.grey - scanner.white) * atlas.caps
        for _ in range(rng.poisson(3)):
            add_spot(flair, atlas, rng, peak=scanner.grey * float(rng.uniform(0.15, 0.35)))
        return flair, scanner

    def acquire(
        self,
        index: int,
        image: Float,
        brain: NDArray[np.bool_],
        axes: tuple[Float, Float, Float],
        scanner: Scanner,
    ) -> Float:
        """Add texture, coil shading, Rician noise and the scanner's gain, inside the brain only."""
        rng = self.rng(index, RandomStream.NOISE)
        texture = SmoothField.random(rng, channels=1, knot_mm=9, reach_mm=125).on_lattice(*axes)[0]
        shading = SmoothField.random(rng, channels=1, knot_mm=60, reach_mm=125).on_lattice(*axes)[0]
        # The coil is brighter at the patient's left, as one with a weak element would be.
        shading = scanner.bias * shading - (0.0018 * axes[0])[:, None, None]
        clean = image[brain] * np.exp(shading[brain]) * (1 + 0.025 * texture[brain])
        noise = scanner.noise * rng.standard_normal((2, clean.size), dtype=np.float32)
        volume = np.zeros_like(image)
        volume[brain] = scanner.gain * np.hypot(clean + noise[0], noise[1])
        return volume


def random_geometry(
    rng: np.random.Generator,
) -> tuple[tuple[float, float, float], NDArray[np.float64], tuple[Float, Float, Float]]:
    """Choose spacing in mm, the affine, and the voxels' positions along the head's own axes in mm.

    There are 24 to 36 slices, 4 to 6 mm apart. About half of the stacks are oblique, as technicians
    tilt them to the head.
    """
    between = round(float(rng.uniform(4.0, 6.0)), 2)
    pixel = round(float(rng.uniform(1.35, 1.7)), 3)
    slices = int(np.clip(round(rng.uniform(140, 152) / between), 24, 36))
    spacing = (pixel, pixel, between)
    counts = (2 * round(98 / pixel), 2 * round(112 / pixel), slices)
    axes = tuple(
        ((np.arange(n) - (n - 1) / 2) * step).astype(np.float32)
        for n, step in zip(counts, spacing, strict=True)
    )
    tilt = rng.normal(0, 5, 3) if rng.random() < 0.5 else np.zeros(3)
    affine = np.eye(4)
    affine[:3, :3] = rotation(tilt) * spacing
    affine[:3, 3] = rng.normal(0, 8, 3) - affine[:3, :3] @ ((np.array(counts) - 1) / 2)
    return spacing, affine.round(6), axes  # type: ignore[return-value]


def rotation(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rotation matrix (3,3) about x, then y, then z."""
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_euler("xyz", degrees, degrees=True).as_matrix())


def add_spot(
    flair: Float, atlas: mni_atlas.Atlas, rng: np.random.Generator, *, peak: float
) -> None:
    """Add one bright white-matter spot of 2 to 5 mm to the 1 mm lattice, in place."""
    centre = np.rint(
        atlas.tumor_sites_mm[rng.integers(len(atlas.tumor_sites_mm))] - atlas.origin_mm
    )
    width = rng.uniform([1.2, 1.2, 2.0], [2.6, 2.6, 3.2])
    box = tuple(slice(int(c) - 8, int(c) + 9) for c in centre)
    r = np.mgrid[-8:9, -8:9, -8:9].astype(np.float32) / width.reshape(3, 1, 1, 1)
    flair[box] += (peak * np.exp(-0.5 * (r**2).sum(0)) * atlas.white[box]).astype(np.float32)


def nearest_voxel_position(
    points: Float, place_mm: Float, axes: tuple[Float, Float, Float]
) -> Float:
    """Return the position (3,) in the head's axes of the voxel that shows an MNI point."""
    distance = ((points - place_mm[:, None, None, None]) ** 2).sum(0)
    voxel = np.unravel_index(int(distance.argmin()), distance.shape)
    return np.array([axis[i] for axis, i in zip(axes, voxel, strict=True)], dtype=np.float32)


def voxels_within(
    axes: tuple[Float, Float, Float], centre: Float, reach: float
) -> tuple[slice, slice, slice]:
    """Return the voxels within `reach` mm of a centre along every axis."""
    spans = (np.flatnonzero(np.abs(a - c) <= reach) for a, c in zip(axes, centre, strict=True))
    x, y, z = (slice(int(span[0]), int(span[-1]) + 1) for span in spans)
    return x, y, z


def offsets_from(
    axes: tuple[Float, Float, Float], centre: Float, around: tuple[slice, slice, slice]
) -> Float:
    """Return offsets (3,X,Y,Z) in mm of a window's voxels from the centre."""
    cut = [a[s] - c for a, s, c in zip(axes, around, centre, strict=True)]
    return np.stack(np.meshgrid(*cut, indexing="ij")).astype(np.float32)


def insert_tumor(
    tumor: Tumor,
    atlas: mni_atlas.Atlas,
    image: Float,
    *,
    points: Float,
    offset: Float,
    brain: NDArray[np.bool_],
    grey: float,
) -> tuple[NDArray[np.uint8], Float]:
    """Return labels and image (X,Y,Z) of the window around a tumour, tissue already displaced."""
    white = mni_atlas.interpolate_map(atlas.white, atlas.origin_mm, points)
    tissue = white + mni_atlas.interpolate_map(atlas.grey, atlas.origin_mm, points)
    noise = tumor.shape.on_lattice(offset[0, :, 0, 0], offset[1, 0, :, 0], offset[2, 0, 0])
    same_hemisphere = (np.sign(tumor.place_mm[0]) * points[0] > 1.5).astype(np.float32)
    labels, core, oedema = label_parts(
        tumor,
        offset,
        noise,
        tissue=tissue * brain,
        white=white * brain,
        same_hemisphere=same_hemisphere,
    )
    painted = paint_tumor(tumor, image, offset, noise, core=core, oedema=oedema, grey=grey)
    return labels, np.where(brain, painted, image)
