"""Read one session of a patient as it was acquired, and resample it to the common slice grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from nibabel.processing import resample_from_to
from numpy.typing import NDArray

from tasks.params.slices import Slices
from tasks.volumes.intensity_normalisation import (
    Landmarks,
    apply_standard_scale,
    compute_landmarks,
    z_score,
)
from tasks.volumes.resampling import (
    SliceGrid,
    Volume,
    body_extent_mm,
    centred_grid,
    largest_body_mask,
    resample_slices,
)
from tasks.volumes.sessions import Session

MIN_BRAIN_OVERLAP = 0.5  # of the first modality's brain that another one must show
BODY_FILL = 0.9  # of the window, by a body whose size in millimetres is unknown


class UnusableSessionError(Exception):
    """A session that cannot be sliced; the message is the code."""


@dataclass(frozen=True)
class NativeSession:
    """A session on its own grid: `channels` and `brain` (X,Y,Z), affine to RAS millimetres."""

    channels: list[Volume]
    brain: NDArray[np.bool_]
    image: nib.Nifti1Image


@dataclass(frozen=True)
class ResampledSession:
    """A session on the common grid, with what leads back to its native grid.

    `images` (Z,C,H,W) were sampled on `grid`; `mask` (X,Y,Z) is the tumour on the native grid.
    `zoom`: how many times larger objects appear than in the volume's own millimetres. `cut_off`:
    whether the body is wider than the window.
    """

    native: NativeSession
    images: NDArray[np.float16]
    mask: NDArray[np.bool_]
    grid: SliceGrid
    zoom: float
    cut_off: bool


def brain_overlap(
    brain: NDArray[np.bool_], affine: NDArray[np.float64], other: nib.Nifti1Image
) -> float:
    """Compute the share of a brain's voxels that lie within another image's grid."""
    voxels = np.argwhere(brain)[:: max(1, int(brain.sum()) // 10_000)]  # (n, 3)
    positions = apply_affine(np.linalg.inv(other.affine) @ affine, voxels)
    inside = ((positions > -0.5) & (positions < np.array(other.shape) - 0.5)).all(axis=1)
    return float(inside.mean())


def read_native_session(session: Session) -> NativeSession:
    """Read the session's volumes on the grid of the first one.

    Raises:
        UnusableSessionError: no brain is detected, or volumes hardly overlap.
    """
    first, *others = session.rows
    folder = Path(first["folder"])
    reference = nib.load(folder / first["image"])
    channels = [np.asarray(reference.dataobj, dtype=np.float32)]
    brain = largest_body_mask(channels[0])
    if not brain.any():
        raise UnusableSessionError("no-brain")
    for row in others:
        image = nib.load(Path(row["folder"]) / row["image"])
        if brain_overlap(brain, reference.affine, image) < MIN_BRAIN_OVERLAP:
            raise UnusableSessionError("no-overlap")
        channels.append(
            np.asarray(resample_from_to(image, reference, order=1).dataobj, dtype=np.float32)
        )
    return NativeSession(channels, brain, reference)


def session_landmarks(native: NativeSession, config: Slices) -> list[Landmarks]:
    """Compute the grey-value landmarks of each channel."""
    return [
        compute_landmarks(channel, native.brain, clip_percentiles=config.clip_percentiles)
        for channel in native.channels
    ]


def read_native_mask(session: Session, reference: nib.Nifti1Image) -> NDArray[np.bool_]:
    """Read the tumour mask on the first volume's grid (X,Y,Z); empty without a mask file."""
    row = session.mask_row
    if row is None or row["mask_status"] != "segmented":
        return np.zeros(reference.shape, dtype=bool)
    mask = nib.load(Path(row["folder"]) / row["mask"])
    if mask.shape != reference.shape or not np.allclose(mask.affine, reference.affine):
        mask = resample_from_to(mask, reference, order=0)
    tumor: NDArray[np.bool_] = np.asarray(mask.dataobj) > 0
    return tumor


def normalise_channels(
    native: NativeSession, config: Slices, scales: Sequence[Landmarks] | None
) -> list[Volume]:
    """Normalise the channels (X,Y,Z) to [-1, 1]: z-scores, or the standard scales where given."""
    if scales is None:
        return [
            z_score(
                channel,
                native.brain,
                clip_percentiles=config.clip_percentiles,
                z_range=config.z_range,
            )
            for channel in native.channels
        ]
    return [
        apply_standard_scale(channel, native.brain, landmarks, standard)
        for channel, landmarks, standard in zip(
            native.channels, session_landmarks(native, config), scales, strict=True
        )
    ]


def resample_session(
    session: Session, config: Slices, scales: Sequence[Landmarks] | None
) -> ResampledSession:
    """Resample one session to the common grid; no slice is left out.

    Args:
        session: the session to read.
        config: the grid and the normalisation.
        scales: the standard scale of each channel (11,); None: z-scores.

    Raises:
        UnusableSessionError: the session cannot be sliced.
    """
    native = read_native_session(session)
    spacing_mm = native.image.header.get_zooms()[:2]  # as it is, float32: 3.6 / 0.9 must be 4
    width_mm = max(body_extent_mm(native.brain, spacing_mm))
    # The millimetres of a 2D image are unknown: its body gives the scale.
    pixel_mm = width_mm / (BODY_FILL * config.size) if config.scale == "body" else config.spacing_mm
    grid = centred_grid(native.brain, spacing_mm, pixel_mm=pixel_mm, size=config.size)
    images = [
        resample_slices(channel, grid, fill=-1.0)
        for channel in normalise_channels(native, config, scales)
    ]
    stacked = np.stack(images, axis=1).astype(np.float16)  # (Z,C,H,W)
    mask = read_native_mask(session, native.image)
    cut_off = bool(width_mm > pixel_mm * config.size)
    return ResampledSession(
        native, stacked, mask, grid, zoom=config.spacing_mm / pixel_mm, cut_off=cut_off
    )
