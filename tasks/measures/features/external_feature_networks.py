"""Load feature networks whose weights the user supplies as a file; nothing is downloaded.

The hash of the file accompanies every figure, so that figures of two networks are not compared.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from models.inception_features import InceptionFeatures
from models.radimagenet_features import RadImageNetFeatures
from tasks.measures.features.feature_extraction import Extractor
from tasks.stage.errors import InputError


def load_external_network(
    kind: Literal["inception", "radimagenet"], path: Path, *, device: str
) -> Extractor:
    """Load the network whose file of weights `gate.inception` or `gate.radimagenet` names.

    Raises:
        InputError: when the file cannot be read or holds the weights of another network.
    """
    state = read_weights(path, key=f"gate.{kind}")
    network: InceptionFeatures | RadImageNetFeatures
    try:
        if kind == "inception":
            network = InceptionFeatures(state)
            name = "FID" if network.original else "FD(inception v3 of torchvision)"
        else:
            network = RadImageNetFeatures(state)
            name = "FD(RadImageNet ResNet-50)"
    except KeyError as error:
        raise InputError(
            f"{path} holds no weight {error}; gate.{kind} expects the state dict of"
            f" {'Inception v3 with its fc' if kind == 'inception' else 'a ResNet-50'}"
        ) from None
    except RuntimeError as error:
        misfit = str(error).strip().splitlines()[-1].strip()
        raise InputError(f"{path} does not fit gate.{kind}: {misfit}; give its weights") from None
    return Extractor(network.to(device), name, hashlib.sha256(path.read_bytes()).hexdigest())


def read_weights(path: Path, *, key: str) -> Mapping[str, Tensor]:
    """Read a state dict from a safetensors file or a torch file that holds nothing but tensors.

    Raises:
        InputError: when there is no file, or it holds anything else.
    """
    if not path.is_file():
        raise InputError(f"{key} is {path}, which is no file; give a file of weights or null")
    try:
        if path.suffix == ".safetensors":
            weights: dict[str, Tensor] = load_file(path)
            return weights
        found = torch.load(path, weights_only=True, map_location="cpu")
    except (SafetensorError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error)
        raise InputError(f"{key}: {path} cannot be read ({reason}); give a state dict") from None
    except Exception as error:  # the unpickler's own error has no specific base class
        if type(error).__name__ != "UnpicklingError":
            raise
        raise InputError(f"{key}: {path} holds more than tensors; save its state dict") from None
    if not isinstance(found, dict) or not all(isinstance(v, Tensor) for v in found.values()):
        raise InputError(f"{key}: {path} holds {type(found).__name__}, expected a state dict")
    return found
