"""Do image and mask belong together? A segmenter of real training slices is asked.

It knows what real tumours look like, not what this generator paints. Where its finding overlaps a
synthetic mask as well as the true mask of a slice it never saw, the mask marks what the picture
shows.
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
    images = torch.from_numpy(padded(train.images, -1)).to(device)
    masks = torch.from_numpy(padded(train.masks[:, None].astype(np.float32), 0)).to(device)
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
    """Pixels (N,2) of each slice: twice those both mask and finding hold, and the sum of both."""
    rows = []
    for start in range(0, len(images), 64):
        x = torch.from_numpy(padded(images[start : start + 64], -1)).to(device)
        mask = torch.from_numpy(padded(masks[start : start + 64], 0) > 0).to(device)
        found = network(x)[:, 0] > 0  # (B,H,W): probability above one half
        both = (found & mask).sum(dim=(1, 2))
        rows.append(torch.stack([2 * both, found.sum(dim=(1, 2)) + mask.sum(dim=(1, 2))], dim=1))
    return torch.cat(rows).cpu().double().numpy()


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
