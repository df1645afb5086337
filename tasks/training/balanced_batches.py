"""Choose the slices of every batch: balanced by source and by label, equal across arms."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.intp]
FIRST_HALF, SECOND_HALF = 0, 1


def balanced_batches(
    first: NDArray[np.integer],
    second: NDArray[np.integer],
    *,
    steps: int,
    batch: int,
    seed: tuple[int, ...],
) -> Iterator[tuple[Positions, Positions]]:
    """Sample the two halves of every batch from the labels of their sources.

    Each half is half tumour, half none, whatever its source's prior, so that arms differ in
    their images and not in their label priors. A half's order depends only on `seed`, on which half
    it is and on that source's labels: the real half of `real+synthetic` is, step by step, the
    first half of `real`, and its added half is the second half of `synthetic`.

    Args:
        first, second: labels (0 or 1) of the sources of the two halves.
        steps: number of batches.
        batch: slices in a batch, a multiple of 4.
        seed: numbers that fix the order, such as (seed, fold).

    Yields:
        Positions (batch/2,) into the first and into the second source.
    """
    halves = [
        np.stack(
            [
                shuffled_positions(labels, label, steps * batch // 4, seed=(*seed, half, label))
                for label in (0, 1)
            ],
            axis=1,
        ).reshape(steps, batch // 2)  # (steps, batch/2): labels alternate
        for half, labels in ((FIRST_HALF, first), (SECOND_HALF, second))
    ]
    yield from zip(*halves, strict=True)


def shuffled_positions(
    labels: NDArray[np.integer], label: int, count: int, *, seed: tuple[int, ...]
) -> Positions:
    """Return `count` positions of one label, epoch after epoch, each epoch in a new order."""
    positions = np.flatnonzero(labels == label)
    rng = np.random.default_rng(seed)
    epochs = -(-count // len(positions))
    return np.concatenate([rng.permutation(positions) for _ in range(epochs)])[:count]
