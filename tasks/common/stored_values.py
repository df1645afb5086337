"""Convert slices to the integers that a release stores and that readers are shown."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

MAX_STORED_VALUE: Final = 4095  # 12 bits, as scanners store them


def to_stored_values(image: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Convert [-1, 1] to the stored integers 0 to 4095; air is 0."""
    unit = (image.astype(np.float32).clip(-1, 1) + 1) / 2
    return np.asarray(np.rint(unit * MAX_STORED_VALUE), dtype=np.uint16)
