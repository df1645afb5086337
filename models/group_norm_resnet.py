"""MONAI's ResNet with group normalisation in all blocks."""

from typing import Any

from monai.networks.nets.resnet import ResNet
from torch import nn

NORM = ("group", {"num_groups": 8})


class GroupNormResNet(ResNet):  # type: ignore[misc]
    """MONAI's ResNet with `NORM` in all blocks; the original passes it to its first layer only."""

    def _make_layer(self, *args: Any, **kwargs: Any) -> nn.Sequential:
        blocks: nn.Sequential = super()._make_layer(*args, **{**kwargs, "norm": NORM})
        return blocks
