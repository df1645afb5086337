"""One session cut into slices of the common grid, with what is known of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.affines import apply_affine
from nibabel.processing import resample_from_to
from numpy.typing import NDArray

from tasks.params.slices import Slices
from tasks.volumes.intensity_normalisation import Landmarks, landmarks, onto_scale, z_score
from tasks.volumes.resampling import (  # fmt: skip
    Grid,
    Volume,
    brain_mask,
    extent_mm,
    sample,
    sample_mask,
    window,
)
from tasks.volumes.sessions import Session

FILL = 0.9  # of the window, by a body whose size in millimetres nobody knows
LEAST_OVERLAP = 0.5  # of the first modality's brain that another one must show


class UnusableError(Exception):
    """A session that cannot be cut; the message is the code."""


@dataclass(frozen=True)
class Native:
    """A session on its own grid: `channels` and `brain` (X,Y,Z), affine to RAS millimetres."""

    channels: list[Volume]
    brain: NDArray[np.bool_]
    image: nib.Nifti1Image


@dataclass(frozen=True)
class Whole:
    """A session on the common grid, with what leads back to its own.

    `images` (Z,C,H,W) were sampled on `grid`; `mask` (X,Y,Z) is the tumour on the native grid.
    `zoom`: how much larger than in the volume's own millimetres things are drawn. `cut_off`: the
    body is wider than the window.
    """

    native: Native
    images: NDArray[np.float16]
    mask: NDArray[np.bool_]
    grid: Grid
    zoom: float
    cut_off: bool


@dataclass(frozen=True)
class Cut:
    """All slices of one session: `images` (Z,C,H,W), `masks` (Z,H,W), `table` Z rows.

    `cut_off`: the body is wider than the window.
    """

    images: NDArray[np.float16]
    masks: NDArray[np.uint8]
    table: pd.DataFrame
    cut_off: bool


def read(session: Session) -> Native:
    """The session's volumes on the grid of the first one.

    Raises:
        UnusableError: no brain is found, or volumes hardly overlap.
    """
    first, *others = session.rows
    folder = Path(first["folder"])
    reference = nib.load(folder / first["image"])
    channels = [np.asarray(reference.dataobj, dtype=np.float32)]
    brain = brain_mask(channels[0])
    if not brain.any():
        raise UnusableError("no-brain")
    for row in others:
        image = nib.load(Path(row["folder"]) / row["image"])
        if overlap(brain, reference.affine, image) < LEAST_OVERLAP:
            raise UnusableError("no-overlap")
        channels.append(
            np.asarray(resample_from_to(image, reference, order=1).dataobj, dtype=np.float32)
        )
    return Native(channels, brain, reference)


def overlap(brain: NDArray[np.bool_], affine: NDArray[np.float64], other: nib.Nifti1Image) -> float:
    """The share of a brain's voxels that lie within another image's grid."""
    voxels = np.argwhere(brain)[:: max(1, int(brain.sum()) // 10_000)]  # (n, 3)
    there = apply_affine(np.linalg.inv(other.affine) @ affine, voxels)
    inside = ((there > -0.5) & (there < np.array(other.shape) - 0.5)).all(axis=1)
    return float(inside.mean())


def own_landmarks(native: Native, config: Slices) -> list[Landmarks]:
    """The grey-value landmarks of each channel."""
    return [
        landmarks(channel, native.brain, clip_percentiles=config.clip_percentiles)
        for channel in native.channels
    ]


def whole(session: Session, config: Slices, scales: Sequence[Landmarks] | None) -> Whole:
    """Sample one session, no slice left out.

    Args:
        session: what to read.
        config: the grid and the normalisation.
        scales: the standard scale of each channel (11,); None: z-scores.

    Raises:
        UnusableError: it cannot be cut.
    """
    native = read(session)
    spacing_mm = native.image.header.get_zooms()[:2]  # as it is, float32: 3.6 / 0.9 must be 4
    width_mm = max(extent_mm(native.brain, spacing_mm))
    # Of a picture nobody knows the millimetres: its body gives the scale.
    pixel_mm = width_mm / (FILL * config.size) if config.scale == "body" else config.spacing_mm
    grid = window(native.brain, spacing_mm, pixel_mm=pixel_mm, size=config.size)
    images = [sample(unit, grid, fill=-1.0) for unit in normalised(native, config, scales)]
    stacked = np.stack(images, axis=1).astype(np.float16)  # (Z,C,H,W)
    mask = native_mask(session, native.image)
    cut_off = bool(width_mm > pixel_mm * config.size)
    return Whole(native, stacked, mask, grid, zoom=config.spacing_mm / pixel_mm, cut_off=cut_off)


def cut(session: Session, one: Whole, config: Slices) -> Cut:
    """Cut a sampled session into slices with their masks and table."""
    masks = sample_mask(one.mask, one.grid)
    table = tabulate(session, one.native, one.mask, masks, config, zoom=one.zoom)
    return Cut(one.images, masks, table, one.cut_off)


def normalised(native: Native, config: Slices, scales: Sequence[Landmarks] | None) -> list[Volume]:
    """The channels (X,Y,Z) in [-1, 1]."""
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
        onto_scale(channel, native.brain, own, standard)
        for channel, own, standard in zip(
            native.channels, own_landmarks(native, config), scales, strict=True
        )
    ]


def native_mask(session: Session, reference: nib.Nifti1Image) -> NDArray[np.bool_]:
    """The tumour on the first volume's grid (X,Y,Z); empty without a mask."""
    row = session.mask_row
    if row is None or row["mask_status"] != "segmented":
        return np.zeros(reference.shape, dtype=bool)
    mask = nib.load(Path(row["folder"]) / row["mask"])
    if mask.shape != reference.shape or not np.allclose(mask.affine, reference.affine):
        mask = resample_from_to(mask, reference, order=0)
    found: NDArray[np.bool_] = np.asarray(mask.dataobj) > 0
    return found


def tabulate(
    session: Session,
    native: Native,
    mask: NDArray[np.bool_],
    masks: NDArray[np.uint8],
    config: Slices,
    *,
    zoom: float,
) -> pd.DataFrame:
    """One row a slice; label -2 marks a tumour too small to call: neither label would be true.

    Without a mask the class folder's label holds for every slice, and without one -1. `zoom`:
    how much larger than in the volume's own millimetres things are drawn.
    """
    first, depth, affine = session.rows[0], mask.shape[2], native.image.affine
    tumor = mask.any(axis=(0, 1))
    tumor_area_mm2 = masks.sum(axis=(1, 2)) * config.spacing_mm**2
    shown = (tumor_area_mm2 > 0) & (tumor_area_mm2 >= config.min_tumor_mm2)
    label = np.where(shown, 1, np.where(tumor, -2, 0))
    if session.mask_row is None:
        told = session.class_label
        label, tumor = np.full(depth, -1 if told is None else told), np.full(depth, told == 1)
    area_mm2 = float(np.linalg.norm(np.cross(affine[:3, 0], affine[:3, 1]))) * zoom**2
    present = np.flatnonzero(native.brain.any(axis=(0, 1)))
    spacing_z = float(np.linalg.norm(affine[:3, 2]))
    return pd.DataFrame(
        {
            "subject": session.subject,
            "session": session.name,
            "batch": first["batch"],
            "site": first["site"],
            "slice_index": np.arange(depth) + session.first_slice,
            # From the middle of the imaged body: comparable between scanners' coordinates.
            "position_mm": (np.arange(depth) - (present[0] + present[-1]) / 2) * spacing_z,
            "brain_area_mm2": native.brain.sum(axis=(0, 1)) * area_mm2,
            "tumor_area_mm2": tumor_area_mm2,
            "label": label,
            "mask_known": session.mask_row is not None,
            "patient_known": bool(first.get("patient_known", True)),
            "tumor": tumor,
        }
    )
