"""Make smooth random fields: cubic B-splines on a coarse lattice, evaluated on a fine one."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

# Mean over positions of the sum of squared cubic B-spline weights, for each of three axes.
WHITE_NOISE_GAIN = 0.4794**1.5


@dataclass(frozen=True)
class SmoothField:
    """A field of unit variance whose values decorrelate over about `knot_mm`.

    `coefficients` (C,K,K,K) are the control points around `centre_mm` (3,).
    """

    coefficients: Float
    knot_mm: float
    centre_mm: tuple[float, float, float]

    @classmethod
    def random(
        cls,
        rng: np.random.Generator,
        *,
        channels: int,
        knot_mm: float,
        reach_mm: float,
        centre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> "SmoothField":
        """Make a random field that covers `reach_mm` on either side of the centre."""
        knots = 2 * int(np.ceil(reach_mm / knot_mm)) + 5
        noise = rng.standard_normal((channels, knots, knots, knots), dtype=np.float32)
        return cls(noise / np.float32(WHITE_NOISE_GAIN), knot_mm, centre_mm)

    def on_lattice(self, x: Float, y: Float, z: Float) -> Float:
        """Evaluate on the lattice of three axes in mm; return (C, len(x), len(y), len(z))."""
        wx, wy, wz = (
            self.spline_weights(points - np.float32(centre))  # (P,K)
            for points, centre in zip((x, y, z), self.centre_mm, strict=True)
        )
        values = wy @ (self.coefficients @ wz.T)  # (C,K,K,K) -> (C,K,K,Z) -> (C,K,Y,Z)
        channels, knots = values.shape[:2]
        plane = wx @ values.reshape(channels, knots, -1)  # (C,X,Y*Z)
        return plane.reshape(channels, len(x), len(y), len(z))

    def spline_weights(self, offset_mm: Float) -> Float:
        """Compute cubic B-spline weights (P,K) of every control point at every position."""
        knots = self.coefficients.shape[1]
        lattice = np.arange(knots, dtype=np.float32) - (knots - 1) / 2
        distance = np.abs(offset_mm[:, None] / np.float32(self.knot_mm) - lattice[None, :])
        near = 2 / 3 - distance**2 + distance**3 / 2
        far = np.clip(2 - distance, 0, None) ** 3 / 6
        return np.asarray(np.where(distance < 1, near, far), dtype=np.float32)


def sigmoid(x: Float) -> Float:
    """Compute the logistic function without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)), dtype=np.float32)
