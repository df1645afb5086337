"""Extract the brain by the networks of deepbet (Fisch et al. 2024, PII S0010482524009302).

Only the two TorchScript networks of its wheel are used, not its code, which needs a GUI toolkit.
They were trained on T1 heads of healthy adults; docs/ingest.md says what they do on other
contrasts.
"""

from dataclasses import replace
from functools import cache
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.core.volume import Volume
from tasks.stage.errors import InputError

PACKAGE = "deepbet"
INSTALL = "pip install --no-deps deepbet==1.0.2"
NETWORKS = {
    "bbox_model.pt": "39a7b2b5f799faa1391ea97bfcdc0b9299f20d84f2316a4ff8918dc4685e40aa",
    "model.pt": "de8ee7c69654d0dd3935dc4a5d84571d8ecf4637a6bfc01df399c4c2bc86e0fd",
}
COARSE, FINE = (128, 128, 128), (256, 256, 256)  # voxels that the networks were trained on
MARGIN = 0.1  # of the coarse box, on each side
MOST_OUTSIDE = 0.1  # share of a stripped image's support that may lie outside the brain

BrainStatus = Literal["extracted", "stripped before"]


def check_installed() -> None:
    """Check that the networks are installed, before any patient is read.

    Raises:
        InputError: if they are not installed, or are not the known ones.
    """
    for name, digest in NETWORKS.items():
        path = network_path(name)
        if not path.is_file() or sha256(path.read_bytes()).hexdigest() != digest:
            raise InputError(
                f"ingest.brain_extraction needs the networks of {PACKAGE} 1.0.2, which"
                f" {'are others here' if path.is_file() else 'are not installed'}; run"
                f" `{INSTALL}`, or set ingest.brain_extraction to false"
            )


def network_path(name: str) -> Path:
    """Return where pip puts a network, whether or not it is there."""
    try:
        return Path(str(metadata.distribution(PACKAGE).locate_file(f"data/models/{name}")))
    except metadata.PackageNotFoundError:
        return Path(name)


@cache
def load_network(name: str) -> Any:
    """Load a TorchScript module on the CPU; no pickle is executed."""
    import torch

    torch.set_num_threads(1)  # sums over threads round differently
    return torch.jit.load(str(network_path(name)), map_location="cpu").eval()  # type: ignore[no-untyped-call]


def extract_brain(volume: Volume) -> tuple[Volume, BrainStatus]:
    """Set voxels outside the brain to 0, unless the volume is stripped already.

    A volume counts as stripped if hardly any of its voxels above the background lie outside the
    brain that is found in it.

    Raises:
        RejectionError: `no-brain`.
    """
    mask = segment_brain(volume.data)
    support = volume.data > volume.data.min()
    if (support & ~mask).sum() <= MOST_OUTSIDE * support.sum():
        return volume, "stripped before"
    data = np.where(mask, volume.data, volume.data.dtype.type(0))
    return replace(volume, data=data), "extracted"


def segment_brain(data: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Segment the brain in (I,J,K) in RAS+ orientation: a coarse box, then the mask inside it.

    Raises:
        RejectionError: `no-brain`.
    """
    import torch
    from torch.nn.functional import interpolate

    with torch.inference_mode():
        image = torch.from_numpy(np.ascontiguousarray(data, np.float32))
        small = interpolate(image[None, None], COARSE, mode="nearest-exact")
        low, high = torch.quantile(small, 0.005), torch.quantile(small, 0.995)
        if not high > low:
            raise RejectionError("no-brain", "hardly any voxel differs from the others")
        coarse = load_network("bbox_model.pt")(standardise(small, low, high))[0, 1]
        box = bounding_box(largest_component(coarse.numpy() > 0.5), data.shape)
        inside = interpolate(image[box][None, None], FINE, mode="nearest-exact")
        fine = load_network("model.pt")(standardise(inside, low, high))[:, 1:2]
        part = interpolate(fine, image[box].shape, mode="nearest-exact")[0, 0].numpy() > 0.5
    mask = np.zeros(data.shape, bool)
    mask[box] = fill_holes(largest_component(part))
    return mask


def standardise(image: Any, low: Any, high: Any) -> Any:
    """Clip to the percentiles and scale to the mean and spread that the networks expect."""
    image = ((image - low) / (high - low)).clamp(0, 1)
    return 0.226 * (image - image.mean()) / image.std() + 0.449


def largest_component(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest component of voxels that touch at least at a corner."""
    from scipy.ndimage import label

    labels, count = label(mask, np.ones((3, 3, 3)))
    if count == 0:
        raise RejectionError("no-brain", "no brain was found in the volume")
    largest: NDArray[np.bool_] = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    return largest


def fill_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the mask with its cavities filled."""
    from scipy.ndimage import binary_fill_holes

    filled: NDArray[np.bool_] = binary_fill_holes(mask)
    return filled


def bounding_box(coarse: NDArray[np.bool_], shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the box, in voxels of `shape`, around where the coarse mask covers 2 % of a plane."""
    box = []
    for axis, length in enumerate(shape):
        others = tuple(other for other in range(3) if other != axis)
        planes = np.flatnonzero(coarse.mean(axis=others) > 0.02)
        if not planes.size:
            raise RejectionError("no-brain", "too little brain was found in the volume")
        scale = length / coarse.shape[axis]
        centre = round(scale * (planes[0] + planes[-1] + 1) / 2)
        size = round(scale * (planes[-1] + 1 - planes[0]) * (1 + 2 * MARGIN))
        box.append(slice(max(0, int(centre - size / 2)), min(length, int(centre + size / 2))))
    return tuple(box)
