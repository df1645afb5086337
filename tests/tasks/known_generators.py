"""Generators whose worth is known, made from real or simulated slices."""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from tasks.common.slice_set import SliceSet

Floats = np.ndarray

CHANGES = ("flip", "shift", "blur", "gain", "noise")
PAIRS = tuple(f"{a}+{b}" for i, a in enumerate(CHANGES) for b in CHANGES[i + 1 :])
HARD = ("rotate", "scale", "blend")
COPIES = 60
# What a reason for the rejection must speak of, one of the words.
EXPECTED = {
    "collapsed": ("collapsed",),
    "blurred": ("blur, noise", "spectrum"),
    "noisy": ("blur, noise", "spectrum"),
    "pure noise": ("blur, noise", "outline", "unlike"),
    "checkerboard": ("blur, noise", "spectrum"),
    "upside-down": ("upside-down", "orientation"),
    "masks shifted": ("mask",),
    "masks swapped": ("mask",),
    "masks empty": ("mask",),
    "black": ("broken",),
}
Make = Callable[[np.random.Generator], SliceSet]


def generators(train: SliceSet, oracle: SliceSet) -> dict[str, tuple[Make, tuple[str, ...]]]:
    """Each known generator: how it is made, and what its rejection must speak of."""

    def copying(how: str) -> Make:
        return lambda rng: copier(train, how, COPIES, rng)

    def damaging(how: str) -> Make:
        return lambda rng: damaged(oracle, how, rng)

    known_generators: dict[str, tuple[Make, tuple[str, ...]]] = {"oracle": (lambda _: oracle, ())}
    for how in ("as-is", *CHANGES, *PAIRS, *HARD):
        known_generators[f"copy, {how}"] = (copying(how), ("memorised",))
    if oracle.masks.any():
        known_generators["copy, tumours"] = (
            lambda rng: transplanted(oracle, train, COPIES, rng),
            ("memorised",),
        )
    for how, words in EXPECTED.items():
        known_generators[how] = (damaging(how), words)
    known_generators["collapsed"] = (lambda rng: collapsed(oracle, 200, rng), EXPECTED["collapsed"])
    for site in sorted(oracle.table["site"].value_counts().index[:2]):  # the two largest
        known_generators[f"one site ({site})"] = (lambda _, s=site: one_site(oracle, s), ("site",))
    return known_generators


def copier(train: SliceSet, how: str, n: int, rng: np.random.Generator) -> SliceSet:
    """Training slices, changed a little, in several ways joined by +.

    `flip` left and right, `shift` by up to 4 pixels, `blur` (sigma .7), `gain` .9, `noise` of .02
    to .05 of the range; further `rotate` by 8 degrees, `scale` by 5 %, `blend` with another.
    """
    chosen = train.select(rng.choice(len(train), n, replace=n > len(train)))
    images, masks = chosen.images, chosen.masks
    for word in how.split("+"):
        if word == "flip":
            images, masks = images[..., ::-1], masks[..., ::-1]
        elif word == "shift":
            moves = rng.integers(-4, 5, (n, 2))
            images = rolled(images, moves)
            masks = rolled(masks, moves)
        elif word == "blur":
            images = blurred(images, 0.7)
        elif word == "gain":
            images = (images + 1) * 0.9 - 1
        elif word == "noise":
            images = noisy(images, rng.uniform(0.02, 0.05, (n, 1, 1, 1)), rng)
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


def transplanted(oracle: SliceSet, train: SliceSet, n: int, rng: np.random.Generator) -> SliceSet:
    """Fresh brains with the tumours of training slices: mirrored or not, shifted, noisy."""
    brains, donors = (np.flatnonzero(side.masks.any(axis=(1, 2))) for side in (oracle, train))
    host = oracle.select(rng.choice(brains, n, replace=n > len(brains)))
    donor = copier(train.select(rng.choice(donors, n)), "shift+noise", n, rng)
    half = rng.random(n) < 0.5
    tumors, masks = donor.images.copy(), donor.masks.copy()
    tumors[half], masks[half] = tumors[half, :, :, ::-1], masks[half, :, ::-1]
    soft = ndimage.binary_dilation(masks > 0, iterations=3, axes=(1, 2)).astype(np.float32)
    soft = ndimage.gaussian_filter(soft, 1, axes=(1, 2))[:, None]
    images = host.images * (1 - soft) + tumors * soft
    return SliceSet(images.astype(np.float32), masks, host.table)


def one_site(oracle: SliceSet, site: str) -> SliceSet:
    """Only the slices of one site."""
    return oracle.select((oracle.table["site"] == site).to_numpy())


def collapsed(oracle: SliceSet, n: int, rng: np.random.Generator) -> SliceSet:
    """Ten images, repeated with noise."""
    few = np.concatenate(
        [np.flatnonzero(oracle.table["label"].to_numpy() == label)[:5] for label in (0, 1)]
    )
    chosen = oracle.select(rng.choice(few, n))
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


def rolled(images: Floats, moves: Floats) -> Floats:
    """Each image shifted by its own number of rows and columns; at the frame there is air."""
    return np.stack(
        [np.roll(image, tuple(by), (-2, -1)) for image, by in zip(images, moves, strict=True)]
    )


def noisy(images: Floats, std: float | Floats, rng: np.random.Generator) -> Floats:
    """Noise with a standard deviation of `std` of the full range."""
    noise = 2 * std * rng.normal(size=images.shape)
    return (images + noise).clip(-1, 1).astype(np.float32)
