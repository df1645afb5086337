"""A head with a tumour on its left, drawn on any grid: whoever mirrors or moves it is seen."""

from itertools import product

import numpy as np
from numpy.typing import NDArray

HEAD_MM = np.array([60.0, 72.0, 48.0])
TUMOUR = np.array([-26.0, -20.0, 4.0])
RADIUS_MM = 16.0
SHAPE = (60, 72, 24)
Array = NDArray[np.float64]


def affine_of(codes: str = "RAS", spacing: tuple[float, ...] = (2.4, 2.4, 5.0)) -> Array:
    """An affine whose axes run as told and whose middle lies at the origin; `spacing` is RAS's."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, code in enumerate(codes):
        row = row_of(code)
        affine[row, axis] = spacing[row] if code in "RAS" else -spacing[row]
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape_of(codes)) - 1) / 2)
    return affine


def row_of(code: str) -> int:
    """The world axis of a letter."""
    return "RASLPI".index(code) % 3


def shape_of(codes: str) -> tuple[int, ...]:
    """The shape that covers the head along axes that run as told."""
    return tuple(SHAPE[row_of(code)] for code in codes)


def places(shape: tuple[int, ...], affine: Array) -> Array:
    """(I,J,K,3) world millimetres."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    return index @ affine[:3, :3].T + affine[:3, 3]


def head(shape: tuple[int, ...], affine: Array, *, contrast: float = 1.0, seed: int = 0) -> Array:
    """Air 0, head about 300 with waves and noise, tumour about 300 x (1 + contrast) (I,J,K)."""
    at = places(shape, affine)
    rng = np.random.default_rng(seed)
    waves = sum(np.sin(at[..., i] / rng.uniform(5, 9) + rng.uniform(0, 6)) for i in range(3))
    inside = ((at / HEAD_MM) ** 2).sum(-1) <= 1
    grey = np.where(inside, 300 + 8 * waves + rng.normal(0, 20, shape), rng.uniform(0, 8, shape))
    grey += contrast * 300 * ball(shape, affine)
    return np.asarray(grey.round(), np.float64)


def ball(
    shape: tuple[int, ...], affine: Array, centre: Array = TUMOUR, radius: float = RADIUS_MM
) -> NDArray[np.uint8]:
    """A mask of what lies within a radius of a place (I,J,K)."""
    return np.asarray(np.linalg.norm(places(shape, affine) - centre, axis=-1) <= radius, np.uint8)


ORIENTATIONS = ["".join(c) for c in product("RL", "AP", "SI")] + ["PSR", "SLA", "ARS"]
