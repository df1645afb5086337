"""The radial power spectrum of an image, which shows blur, noise and checkerboards.

Upsampling leaves peaks at the highest frequencies (Durall 2020, arXiv 2003.01826), so the corner
and the two edges of the spectrum, where a checkerboard appears, are added to the radial bands.
"""

from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Floats = NDArray[np.float64]

BANDS = 12
# White noise of 2 % of the range has this power under the window: fainter detail, such as a
# scanner's own noise in the highest bands, does not count as a difference.
FLOOR = 3e-4
AT_ONCE = 32  # images whose spectra fit into the processor's cache


def radial_log_power(images: NDArray[np.float32]) -> Floats:
    """Compute log power (N,15) of images (N,C,H,W): 12 radial bands, then three Nyquist points.

    A Hann window prevents leakage from the frame into the high bands.
    """
    height, width = images.shape[2:]
    window = np.outer(np.hanning(height), np.hanning(width)).astype(np.float32)
    weights = band_weights(height, width)
    rows = [np.empty((0, weights.shape[1]))]
    for start in range(0, len(images), AT_ONCE):
        grey = images[start : start + AT_ONCE].mean(axis=1, dtype=np.float32)
        waves = fft.rfft2((grey + 1) * window)  # (B,H,W/2+1)
        power = (waves.real**2 + waves.imag**2).reshape(len(grey), -1)
        rows.append(np.log10(power @ weights + FLOOR).astype(np.float64))
    return np.concatenate(rows)


@cache
def band_weights(height: int, width: int) -> NDArray[np.float32]:
    """Return weights (H (W/2+1),15) of powers in half a spectrum: bands, then Nyquist points."""
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing="ij"))
    band = np.minimum((radius / radius.max() * BANDS).astype(int), BANDS - 1)
    whole = np.zeros((height, width, BANDS + 3))
    for index in range(BANDS):
        whole[..., index] = (band == index) / (band == index).sum()
    mid = (height // 2, width // 2)
    near = (-1, 0, 1)
    for index, (r, c) in enumerate([(mid[0], mid[1]), (mid[0], 0), (0, mid[1])], start=BANDS):
        for i, j in product(near, near):
            whole[(r + i) % height, (c + j) % width, index] = 1 / len(near) ** 2
    half = whole[:, : width // 2 + 1]
    for column in range(width // 2 + 1, width):  # as strong as the conjugate wave
        half[:, width - column] += whole[-np.arange(height) % height, column]
    return (half / (height * width)).reshape(-1, BANDS + 3).astype(np.float32)


def spectrum_distance(a: Floats, b: Floats) -> float:
    """Compute the root mean square difference, in decades, of the means of profiles (·,15)."""
    return float(np.sqrt(((a.mean(0) - b.mean(0)) ** 2).mean()))
