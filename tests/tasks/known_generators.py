"""Generators whose worth is known, made from real or simulated slices."""

import numpy as np
from scipy import ndimage

from tasks.arrays import SliceSet

Floats = np.ndarray


def copier(train: SliceSet, how: str, n: int, rng: np.random.Generator) -> SliceSet:
    """Training slices, changed a little: `flip`, `shift`, `blur`, `gain`, `noise`, two with +."""
    chosen = train.take(rng.choice(len(train), n, replace=n > len(train)))
    images, masks = chosen.images, chosen.masks
    for word in how.split("+"):
        if word == "flip":
            images, masks = images[..., ::-1], masks[..., ::-1]
        elif word == "shift":
            by = rng.integers(-4, 5, 2)
            images, masks = np.roll(images, by, (2, 3)), np.roll(masks, by, (1, 2))
        elif word == "blur":
            images = blurred(images, 0.7)
        elif word == "gain":
            images = (images + 1) * 0.9 - 1
        elif word == "noise":
            images = noisy(images, 0.05, rng)
        elif word == "rotate":
            images = ndimage.rotate(images, 8, axes=(2, 3), reshape=False, order=1, cval=-1)
            masks = ndimage.rotate(masks, 8, axes=(1, 2), reshape=False, order=0)
        elif word == "scale":
            matrix = np.diag([1, 1, 1 / 1.05, 1 / 1.05])
            half = (images.shape[-1] - 1) / 2 * (1 - 1 / 1.05)
            images = ndimage.affine_transform(images, matrix, (0, 0, half, half), order=1, cval=-1)
            masks = ndimage.affine_transform(masks, matrix[1:, 1:], (0, half, half), order=0)
        elif word == "blend":
            images = (images + images[rng.permutation(n)]) / 2
        elif word != "as-is":
            raise ValueError(word)
    return SliceSet(images.clip(-1, 1).astype(np.float32), masks.copy(), chosen.table)


def collapsed(oracle: SliceSet, n: int, rng: np.random.Generator) -> SliceSet:
    """Ten images, repeated with noise."""
    few = np.concatenate(
        [np.flatnonzero(oracle.table["label"].to_numpy() == label)[:5] for label in (0, 1)]
    )
    chosen = oracle.take(rng.choice(few, n))
    return SliceSet(noisy(chosen.images, 0.01, rng), chosen.masks, chosen.table)


def damaged(oracle: SliceSet, how: str, rng: np.random.Generator) -> SliceSet:
    """Fresh slices with one fault."""
    images, masks = oracle.images, oracle.masks
    size = images.shape[-1]
    if how == "blurred":
        images = blurred(images, 1.5)
    elif how == "noisy":
        images = noisy(images, 0.1, rng)
    elif how == "pure noise":
        images = rng.uniform(-1, 1, images.shape)
    elif how == "checkerboard":
        board = np.indices((size, size)).sum(0) % 2 * 2 - 1
        images = images + 0.06 * board * (images > -0.95)
    elif how == "upside-down":
        images, masks = images[:, :, ::-1], masks[:, ::-1]
    elif how == "masks shifted":
        masks = np.roll(masks, (size // 6, -size // 8), (1, 2))
    elif how == "masks swapped":
        marked = np.flatnonzero(masks.any((1, 2)))
        masks = masks.copy()
        masks[marked] = masks[np.roll(marked, 7)]
    elif how == "masks empty":
        masks = np.zeros_like(masks)
    elif how == "black":
        images = np.full_like(images, -1)
    else:
        raise ValueError(how)
    return SliceSet(images.clip(-1, 1).astype(np.float32), masks.copy(), oracle.table)


def blurred(images: Floats, sigma: float) -> Floats:
    return ndimage.gaussian_filter(images, sigma, axes=(2, 3), mode="nearest")


def noisy(images: Floats, std: float, rng: np.random.Generator) -> Floats:
    """Noise with a standard deviation of `std` of the full range."""
    noise = 2 * std * rng.normal(size=images.shape)
    return (images + noise).clip(-1, 1).astype(np.float32)
