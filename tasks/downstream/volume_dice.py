"""Dice over a test patient's whole volume: every slice, on the grid it was acquired on."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from monai.metrics.meandice import compute_dice
from numpy.typing import NDArray
from scipy.ndimage import affine_transform
from torch import Tensor, nn

from tasks.downstream.fit import probabilities
from tasks.params.slices import Slices
from tasks.volumes.intensity_normalisation import Landmarks
from tasks.volumes.native_session import UnusableSessionError, resample_session
from tasks.volumes.resampling import Grid
from tasks.volumes.sessions import read_manifests, sessions_of


@dataclass(frozen=True)
class TestVolume:
    """One session of a patient: `images` (Z,C,H,W) on `grid`, the true mask (X,Y,Z) native."""

    subject: str
    images: NDArray[np.float32]
    mask: NDArray[np.bool_]
    grid: Grid


def read_test_volumes(
    batches: Iterable[str],
    subjects: Iterable[str],
    config: Slices,
    scales: list[Landmarks] | None,
) -> list[TestVolume]:
    """The outlined sessions of some patients, cut as `data/slices` was, no slice left out."""
    wanted = set(subjects)
    sessions, _ = sessions_of(read_manifests(sorted(batches)), list(config.modalities))
    found = []
    for session in sessions:
        if session.subject not in wanted or session.mask_row is None:
            continue
        try:
            one = resample_session(session, config, scales)
        except UnusableSessionError:
            continue
        images = one.images.astype(np.float32)
        found.append(TestVolume(session.subject, images, one.mask, one.grid))
    return found


def dice_volume(
    network: nn.Module, volumes: Iterable[TestVolume], *, cut: float, device: torch.device
) -> dict[str, float]:
    """Each patient's Dice, the mean over the sessions that show a tumour; null without one."""
    of: dict[str, list[float]] = {}
    for volume in volumes:
        images = torch.from_numpy(volume.images).to(device)
        found = (
            to_acquired_grid(probabilities(network, images), volume.grid, volume.mask.shape) >= cut
        )
        of.setdefault(volume.subject, []).append(dice(found, volume.mask))
    return {subject: float(pd.Series(values).mean()) for subject, values in of.items()}


def dice(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Dice of two masks (X,Y,Z), by MONAI; null where the true one is empty."""
    pair = (torch.from_numpy(mask)[None, None].float() for mask in (found, truth))
    return float(compute_dice(*pair, include_background=True)[0, 0])


def to_acquired_grid(
    probability: Tensor, grid: Grid, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Bring probabilities (Z,1,H,W) back to the grid (X,Y,Z) that `sample` took slices from.

    Linear between pixels; outside the window, where nothing was looked at, 0.
    """
    half = (grid.size - 1) / 2
    # Voxel x is at column half - (x - centre) / step, and voxel y at row likewise.
    steps = np.array([-1 / step for step in grid.step])
    offset = [half + centre / step for centre, step in zip(grid.centre, grid.step, strict=True)]
    slices = [
        affine_transform(
            picture.T,  # (column, row)
            steps, offset, output_shape=shape[:2], order=1, mode="constant", cval=0.0,
        )
        for picture in probability[:, 0].cpu().numpy()
    ]  # fmt: skip
    return np.stack(slices, axis=2)
