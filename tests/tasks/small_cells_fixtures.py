"""What the tests of small counts share."""

import numpy as np
import pandas as pd

from tasks.common.release_candidate import ReleaseCandidate


def empty_candidate() -> ReleaseCandidate:
    """A release candidate without any slice: what hides its counts looks at cohort and lift."""
    images, masks = np.zeros((0, 1, 1, 1), np.float32), np.zeros((0, 1, 1), np.uint8)
    return ReleaseCandidate(images, masks, pd.DataFrame(), {}, "", {})
