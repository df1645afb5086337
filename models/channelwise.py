"""Show a colour network one channel at a time, and load published weights into it."""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn


def channels_as_colour(images: Tensor, size: int) -> Tensor:
    """Resize each channel (N,C,H,W) and repeat it as a colour image (N C,3,size,size)."""
    n, channels, height, width = images.shape
    grey = images.reshape(n * channels, 1, height, width)
    large = F.interpolate(grey, size=(size, size), mode="bilinear", align_corners=False)
    return large.expand(-1, 3, -1, -1)


def load_weights(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a network's weights; the batch counters of its normalisations may be missing.

    Raises:
        KeyError: when a weight is missing.
        RuntimeError: when a weight has another shape.
    """
    names = [name for name in network.state_dict() if not name.endswith("batches_tracked")]
    network.load_state_dict({name: state[name] for name in names}, strict=False)
