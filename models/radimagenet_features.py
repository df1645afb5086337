"""ResNet-50 trained on radiological images (RadImageNet, Mei 2022) up to its last average."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torchvision.models import resnet50

from models.channelwise import channels_as_colour, load_weights

INPUT_SIZE = 224
WIDTH = 2048
BLUE_GREEN_RED = (0.406, 0.456, 0.485)  # subtracted where the weights were ported from Keras
# The authors' own PyTorch weights number the layers of `nn.Sequential(*resnet.children())`.
LAYER_NAMES = {
    "0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4",
}  # fmt: skip


class RadImageNetFeatures(nn.Module):
    """The 2048 pooled features for each channel of an image.

    Args:
        state: weights under torchvision's names (ported from Keras; images in [0, 1] less the
            mean of each colour) or as `backbone.0.weight` (the authors'; images in [-1, 1]).

    Raises:
        KeyError: when a weight is missing.
        RuntimeError: when a weight has another shape.
    """

    mean: Tensor

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.authors = any(name.startswith("backbone.") for name in state)
        if self.authors:
            state = {torchvision_name(name): value for name, value in state.items()}
        self.network = resnet50(weights=None)
        self.network.fc = nn.Identity()
        load_weights(self.network, state)
        self.register_buffer("mean", torch.tensor(BLUE_GREEN_RED).reshape(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Compute features (N, 2048 C) of images (N, C, H, W) in [-1, 1], channel by channel."""
        colour = channels_as_colour(images, INPUT_SIZE)  # (N C, 3, 224, 224)
        out: Tensor = self.network(colour if self.authors else (colour + 1) / 2 - self.mean)
        return out.reshape(len(images), images.shape[1] * WIDTH)


def torchvision_name(name: str) -> str:
    """Return torchvision's name of `backbone.4.0.conv1.weight`; other names stay."""
    _, _, rest = name.partition("backbone.")
    number, _, tail = rest.partition(".")
    return f"{LAYER_NAMES[number]}.{tail}" if number in LAYER_NAMES else name
