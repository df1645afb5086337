"""The radial power spectrum: blur, noise and checkerboards in one profile.

Upsampling leaves peaks at the highest frequencies (Durall 2020, arXiv 2003.01826), so the corner
and the two edges of the spectrum, where a checkerboard lives, are kept beside the radial bands.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BANDS = 12
# White noise of 2 % of the range has this power under the window: fainter detail, such as a
# scanner's own noise in the highest bands, does not count as a difference.
FLOOR = 3e-4


def profile(images: NDArray[np.float32]) -> Floats:
    """Log power (N,15) of images (N,C,H,W): 12 radial bands, then the three Nyquist points.

    A Hann window keeps the frame from leaking into the high bands.
    """
    grey = images.mean(axis=1, dtype=np.float64)
    height, width = grey.shape[1:]
    window = np.outer(np.hanning(height), np.hanning(width))
    power = np.abs(np.fft.fft2((grey + 1) * window)) ** 2 / grey[0].size  # (N,H,W)
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing="ij"))
    band = np.minimum((radius / radius.max() * BANDS).astype(int), BANDS - 1)
    member = np.stack([(band == index).ravel() for index in range(BANDS)], axis=1)  # (HW,12)
    bands = power.reshape(len(grey), -1) @ (member / member.sum(axis=0))
    mid = (height // 2, width // 2)
    near = (-1, 0, 1)
    points = [(mid[0], mid[1]), (mid[0], 0), (0, mid[1])]
    nyquist = np.stack(
        [
            np.mean([power[:, (r + i) % height, (c + j) % width] for i in near for j in near], 0)
            for r, c in points
        ],
        axis=1,
    )
    logs: Floats = np.log10(np.concatenate([bands, nyquist], axis=1) + FLOOR)
    return logs


def spectrum_distance(a: Floats, b: Floats) -> float:
    """Root mean square difference of the mean profiles (N,15) and (M,15), in decades."""
    return float(np.sqrt(((a.mean(0) - b.mean(0)) ** 2).mean()))
