"""Do image and mask belong together? A segmenter of real training slices is asked.

It knows what real tumours look like, not what this generator paints. Where its finding overlaps a
synthetic mask as well as the true mask of a slice it never saw, the mask marks what the picture
shows. Both are looked at on a grid of 64 to 127 pixels a side: where a tumour is shows there, and
at 128 pixels the work is a quarter.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tasks.common.slice_set import SliceSet

Floats = NDArray[np.float64]

WIDTHS = (16, 32, 64)
LEARNING_RATE = 1e-2
BATCH = 16
SIDE = 64  # pixels of that grid; larger pictures are shrunk
MARKED = 10  # training slices with a tumour, below which nothing can be learnt


def train_segmenter(
    train: SliceSet, *, steps: int, seed: int, device: str = "cpu"
) -> nn.Module | None:
    """A small U-Net (MONAI's) after `steps` steps on training slices; None without enough masks.

    Half of every batch shows a tumour. AdamW on a one-cycle schedule, as for the downstream
    segmenters; no choice is made on validation patients, so that they stay unseen.
    """
    from models.segmenter import (  # MONAI's import alone takes 3 seconds
        build_segmenter,
        dice_ce_loss,
    )

    marked = train.masks.any(axis=(1, 2))
    pools = [np.flatnonzero(marked == kind) for kind in (True, False)]
    if len(pools[0]) < MARKED:
        return None
    pools = [pool if len(pool) else pools[0] for pool in pools]
    rng = np.random.default_rng(seed)
    rows = [np.concatenate([rng.choice(pool, BATCH // 2) for pool in pools]) for _ in range(steps)]
    images = torch.from_numpy(padded(shrunk(train.images), -1)).to(device)
    masks = torch.from_numpy(padded(marks(train.masks)[:, None], 0)).float().to(device)
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
def overlap(
    network: nn.Module, images: NDArray[np.float32], masks: NDArray[np.uint8], *, device: str
) -> Floats:
    """Pixels (N,2) of each slice: twice those both mask and finding hold, and the sum of both.

    On the grid that the segmenter knows, of 64 to 127 pixels a side.
    """
    rows = []
    for start in range(0, len(images), 64):
        x = torch.from_numpy(padded(shrunk(images[start : start + 64]), -1)).to(device)
        mask = torch.from_numpy(padded(marks(masks[start : start + 64]), 0)).to(device)
        found = network(x)[:, 0] > 0  # (B,H,W): probability above one half
        both = (found & mask).sum(dim=(1, 2))
        rows.append(torch.stack([2 * both, found.sum(dim=(1, 2)) + mask.sum(dim=(1, 2))], dim=1))
    return torch.cat(rows).cpu().double().numpy()


def shrunk(pictures: NDArray[Any]) -> NDArray[np.float32]:
    """Means of blocks of pictures (...,H,W), so that 64 to 127 pixels are left of a side."""
    height, width = pictures.shape[-2:]
    factor = max(min(height, width) // SIDE, 1)
    if factor == 1:
        return pictures.astype(np.float32, copy=False)
    rows, columns = height // factor, width // factor
    cut = pictures[..., : rows * factor, : columns * factor]
    blocks = cut.reshape(*pictures.shape[:-2], rows, factor, columns, factor)
    return np.asarray(blocks.mean(axis=(-3, -1), dtype=np.float32))


def marks(masks: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Masks (N,H,W) on the smaller grid: true where half of a pixel lies under them."""
    return np.concatenate(
        [shrunk(masks[start : start + 64] > 0) >= 0.5 for start in range(0, len(masks), 64)]
    )


def padded(pictures: NDArray[Any], fill: float) -> NDArray[Any]:
    """Pictures (...,H,W) with `fill` to the right and below, up to multiples of the coarsest pixel.

    Air around a picture changes nothing that a mask could mark.
    """
    coarse = 2 ** (len(WIDTHS) - 1)
    room = [(0, 0)] * (pictures.ndim - 2) + [(0, -side % coarse) for side in pictures.shape[-2:]]
    return np.pad(pictures, room, constant_values=fill)


def dice(areas: Floats) -> float:
    """Dice of a set from its rows of `overlap`: one for all pixels, defined without tumours too."""
    known = areas[np.isfinite(areas).all(axis=1)]
    total = known[:, 1].sum()
    return float(known[:, 0].sum() / total) if total > 0 else float("nan")
