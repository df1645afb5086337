"""Compute Dice over a test patient's whole volume: every slice, on the grid it was acquired on."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.ndimage import affine_transform
from torch import Tensor, nn

from tasks.params.slices import Slices
from tasks.training.fit import predict_probabilities
from tasks.volumes.intensity_normalisation import Landmarks
from tasks.volumes.native_session import UnusableSessionError, resample_session
from tasks.volumes.resampling import SliceGrid
from tasks.volumes.sessions import group_sessions, read_manifests


@dataclass(frozen=True)
class TestVolume:
    """One session of a patient: `images` (Z,C,H,W) on `grid`, the true mask (X,Y,Z) native."""

    subject: str
    images: NDArray[np.float32]
    mask: NDArray[np.bool_]
    grid: SliceGrid


def read_test_volumes(
    batches: Iterable[str],
    subjects: Iterable[str],
    config: Slices,
    scales: list[Landmarks] | None,
) -> list[TestVolume]:
    """Read the outlined sessions of some patients, sliced as in `data/slices`, with every slice."""
    wanted = set(subjects)
    sessions, _ = group_sessions(read_manifests(sorted(batches)), list(config.modalities))
    volumes = []
    for session in sessions:
        if session.subject not in wanted or session.mask_row is None:
            continue
        try:
            resampled = resample_session(session, config, scales)
        except UnusableSessionError:
            continue
        images = resampled.images.astype(np.float32)
        volumes.append(TestVolume(session.subject, images, resampled.mask, resampled.grid))
    return volumes


def dice_volume(
    network: nn.Module,
    volumes: Iterable[TestVolume],
    *,
    threshold: float,
    largest_component: bool,
    device: torch.device,
) -> dict[str, float]:
    """Compute each patient's Dice, the mean over the sessions with a tumour; NaN without one.

    With `largest_component` only the largest part of a predicted mask counts, whose voxels touch
    by face, edge or corner.
    """
    # MONAI takes seconds to import, and `classify` needs none of it.
    from monai.transforms.utils import get_largest_connected_component_mask

    dice_by_subject: dict[str, list[float]] = {}
    for volume in volumes:
        images = torch.from_numpy(volume.images).to(device)
        predicted = (
            to_acquired_grid(predict_probabilities(network, images), volume.grid, volume.mask.shape)
            >= threshold
        )
        if largest_component:
            predicted = get_largest_connected_component_mask(predicted)
        dice_by_subject.setdefault(volume.subject, []).append(dice_of_masks(predicted, volume.mask))
    return {subject: float(pd.Series(values).mean()) for subject, values in dice_by_subject.items()}


def dice_of_masks(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Compute Dice of two masks (X,Y,Z), by MONAI; NaN where the true one is empty."""
    from monai.metrics.meandice import compute_dice

    pair = (torch.from_numpy(mask)[None, None].float() for mask in (predicted, truth))
    return float(compute_dice(*pair, include_background=True)[0, 0])


def to_acquired_grid(
    probability: Tensor, grid: SliceGrid, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Resample probabilities (Z,1,H,W) to the grid (X,Y,Z) that `resample_slices` sampled from.

    Linear between pixels; 0 outside the window, where the network saw nothing.
    """
    half = (grid.size - 1) / 2
    # Voxel x is at column half - (x - centre) / step, and voxel y at row likewise.
    steps = np.array([-1 / step for step in grid.step])
    offset = [half + centre / step for centre, step in zip(grid.centre, grid.step, strict=True)]
    slices = [
        affine_transform(
            plane.T,  # (column, row)
            steps, offset, output_shape=shape[:2], order=1, mode="constant", cval=0.0,
        )
        for plane in probability[:, 0].cpu().numpy()
    ]  # fmt: skip
    return np.stack(slices, axis=2)
