"""Extract the slices of one session on the common grid, with a table row for each."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.params.slices import Slices
from tasks.volumes.native_session import NativeSession, ResampledSession
from tasks.volumes.resampling import resample_mask_slices
from tasks.volumes.sessions import Session


@dataclass(frozen=True)
class SlicedSession:
    """All slices of one session: `images` (Z,C,H,W), `masks` (Z,H,W), `table` Z rows.

    `cut_off`: whether the body is wider than the window.
    """

    images: NDArray[np.float16]
    masks: NDArray[np.uint8]
    table: pd.DataFrame
    cut_off: bool


def slice_session(session: Session, resampled: ResampledSession, config: Slices) -> SlicedSession:
    """Slice a resampled session, with masks and table."""
    masks = resample_mask_slices(resampled.mask, resampled.grid)
    table = tabulate_slices(
        session, resampled.native, resampled.mask, masks, config, zoom=resampled.zoom
    )
    return SlicedSession(resampled.images, masks, table, resampled.cut_off)


def without_labels(sliced: SlicedSession) -> SlicedSession:
    """Remove labels and outlines, as if nobody had looked at the scan."""
    return replace(
        sliced,
        masks=np.zeros_like(sliced.masks),
        table=sliced.table.assign(label=-1, mask_known=False, tumor=False, tumor_area_mm2=0.0),
    )


def tabulate_slices(
    session: Session,
    native: NativeSession,
    mask: NDArray[np.bool_],
    masks: NDArray[np.uint8],
    config: Slices,
    *,
    zoom: float,
) -> pd.DataFrame:
    """Tabulate one row a slice.

    Label -2 marks a tumour too small to call, where neither label would be true. Without a mask
    the class folder's label holds for every slice, and without a class folder -1. `zoom`: how many
    times larger objects appear than in the volume's own millimetres.
    """
    first, depth, affine = session.rows[0], mask.shape[2], native.image.affine
    tumor = mask.any(axis=(0, 1))
    tumor_area_mm2 = masks.sum(axis=(1, 2)) * config.spacing_mm**2
    is_tumor_slice = (tumor_area_mm2 > 0) & (tumor_area_mm2 >= config.min_tumor_mm2)
    label = np.where(is_tumor_slice, 1, np.where(tumor, -2, 0))
    if session.mask_row is None:
        class_label = session.class_label
        label, tumor = (
            np.full(depth, -1 if class_label is None else class_label),
            np.full(depth, class_label == 1),
        )
    area_mm2 = float(np.linalg.norm(np.cross(affine[:3, 0], affine[:3, 1]))) * zoom**2
    brain_slices = np.flatnonzero(native.brain.any(axis=(0, 1)))
    spacing_z = float(np.linalg.norm(affine[:3, 2]))
    return pd.DataFrame(
        {
            "subject": session.subject,
            "session": session.name,
            "batch": first["batch"],
            "site": first["site"],
            "slice_index": np.arange(depth) + session.first_slice,
            # From the middle of the imaged body: comparable between scanners' coordinates.
            "position_mm": (np.arange(depth) - (brain_slices[0] + brain_slices[-1]) / 2)
            * spacing_z,
            "brain_area_mm2": native.brain.sum(axis=(0, 1)) * area_mm2,
            "tumor_area_mm2": tumor_area_mm2,
            "label": label,
            "mask_known": session.mask_row is not None,
            "marked_synthetic": session.synthetic,
            "patient_known": bool(first.get("patient_known", True)),
            "tumor": tumor,
        }
    )
