"""Agreement of masks with the output of a segmenter that was trained on real training slices.

The segmenter has learnt real tumours and no synthetic ones. When its output overlaps a synthetic
mask as well as it overlaps the true mask of an unseen real slice, the mask marks what the image
shows. Images and masks are shrunk to a grid of 64 to 127 pixels per side, which suffices to locate
a tumour; at 128 pixels this is a quarter of the work.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.segmenter import build_segmenter, dice_ce_loss
from tasks.common.slice_set import SliceSet

Floats = NDArray[np.float64]

WIDTHS = (16, 32, 64)
LEARNING_RATE = 1e-2
BATCH = 16
SIDE = 64  # pixels of that grid; larger images are shrunk
MARKED = 10  # training slices with a tumour, at least; fewer do not suffice for training


def train_segmenter(
    train: SliceSet, *, steps: int, seed: int, device: str = "cpu"
) -> nn.Module | None:
    """Train a small U-Net (MONAI's) for `steps` steps on training slices.

    The result is None when fewer than `MARKED` slices show a tumour. Half of every batch shows one.
    The optimiser is AdamW on a one-cycle schedule, as for the downstream segmenters. Nothing is
    selected on validation patients, so they stay unseen.
    """
    marked = train.masks.any(axis=(1, 2))
    pools = [np.flatnonzero(marked == kind) for kind in (True, False)]
    if len(pools[0]) < MARKED:
        return None
    pools = [pool if len(pool) else pools[0] for pool in pools]
    rng = np.random.default_rng(seed)
    rows = [np.concatenate([rng.choice(pool, BATCH // 2) for pool in pools]) for _ in range(steps)]
    images = torch.from_numpy(pad_to_multiple(shrink(train.images), -1)).to(device)
    masks = (
        torch.from_numpy(pad_to_multiple(shrink_masks(train.masks)[:, None], 0)).float().to(device)
    )
    network = build_segmenter(train.images.shape[1], seed=seed, widths=WIDTHS).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=LEARNING_RATE, total_steps=steps + 1, pct_start=0.2
    )
    network.train()
    for chosen in rows:
        optimizer.zero_grad(set_to_none=True)
        loss = dice_ce_loss(network(images[chosen]), masks[chosen])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.inference_mode()
def mask_overlap(
    network: nn.Module, images: NDArray[np.float32], masks: NDArray[np.uint8], *, device: str
) -> Floats:
    """Count pixels (N,2) of each slice: twice the overlap of mask and output, and their sum.

    The pixels are those of the segmenter's grid of 64 to 127 pixels per side.
    """
    rows = []
    for start in range(0, len(images), 64):
        x = torch.from_numpy(pad_to_multiple(shrink(images[start : start + 64]), -1)).to(device)
        mask = torch.from_numpy(pad_to_multiple(shrink_masks(masks[start : start + 64]), 0)).to(
            device
        )
        output = network(x)[:, 0] > 0  # (B,H,W): probability above one half
        overlap = (output & mask).sum(dim=(1, 2))
        rows.append(
            torch.stack([2 * overlap, output.sum(dim=(1, 2)) + mask.sum(dim=(1, 2))], dim=1)
        )
    return torch.cat(rows).cpu().double().numpy()


def shrink(images: NDArray[Any]) -> NDArray[np.float32]:
    """Shrink images (...,H,W) to 64 to 127 pixels on the shorter side, by means of blocks."""
    height, width = images.shape[-2:]
    factor = max(min(height, width) // SIDE, 1)
    if factor == 1:
        return images.astype(np.float32, copy=False)
    rows, columns = height // factor, width // factor
    cut = images[..., : rows * factor, : columns * factor]
    blocks = cut.reshape(*images.shape[:-2], rows, factor, columns, factor)
    return np.asarray(blocks.mean(axis=(-3, -1), dtype=np.float32))


def shrink_masks(masks: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Shrink masks (N,H,W) to the smaller grid; true where half of a pixel lies under the mask."""
    return np.concatenate(
        [shrink(masks[start : start + 64] > 0) >= 0.5 for start in range(0, len(masks), 64)]
    )


def pad_to_multiple(images: NDArray[Any], fill: float) -> NDArray[Any]:
    """Pad images (...,H,W) with `fill` to the right and below, to multiples of the coarsest pixel.

    Added air changes nothing that a mask could mark.
    """
    coarse = 2 ** (len(WIDTHS) - 1)
    padding = [(0, 0)] * (images.ndim - 2) + [(0, -side % coarse) for side in images.shape[-2:]]
    return np.pad(images, padding, constant_values=fill)


def set_dice(areas: Floats) -> float:
    """Compute the Dice score of a set from its rows (N,2) of `mask_overlap`.

    It is one score over all pixels of the set, so slices without a tumour count too. NaN rows do
    not count; NaN when nothing is marked.
    """
    known = areas[np.isfinite(areas).all(axis=1)]
    total = known[:, 1].sum()
    return float(known[:, 0].sum() / total) if total > 0 else float("nan")
