"""Inception v3 up to its last average: the features of the Fréchet Inception distance.

Two sets of weights are in use. The original one (Heusel 2017) was trained in TensorFlow on 1008
classes; there, padding does not count in the average pools and the last block takes a maximum
(as ported by `pytorch-fid`). torchvision's own has 1000 classes and its own pools.
"""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.inception import Inception3, InceptionA, InceptionC, InceptionE

from models.channelwise import channels_as_colour, load_weights

INPUT_SIZE = 299
WIDTH = 2048
ORIGINAL_CLASSES = 1008  # classes of the weights that FID was defined with


class InceptionFeatures(nn.Module):
    """The 2048 pooled features for each channel of an image.

    Args:
        state: weights under torchvision's names; `fc.weight` tells which of the two they are.

    Raises:
        KeyError: when a weight is missing.
        RuntimeError: when a weight has another shape.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        classes = len(state["fc.weight"])
        self.original = classes == ORIGINAL_CLASSES
        self.network = Inception3(num_classes=classes, aux_logits=False, init_weights=False)
        if self.original:
            use_tensorflow_pools(self.network)
        load_weights(self.network, state)
        self.network.fc = nn.Identity()
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Compute features (N, 2048 C) of images (N, C, H, W) in [-1, 1], channel by channel."""
        out: Tensor = self.network(channels_as_colour(images, INPUT_SIZE))  # (N C, 2048)
        return out.reshape(len(images), images.shape[1] * WIDTH)


def use_tensorflow_pools(network: Inception3) -> None:
    """Replace the pools of the blocks by TensorFlow's; their weights keep their names."""
    for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        getattr(network, name).__class__ = BlockA
    for name in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        getattr(network, name).__class__ = BlockC
    network.Mixed_7b.__class__ = BlockE
    network.Mixed_7c.__class__ = LastBlockE


def mean_pool_without_padding(x: Tensor) -> Tensor:
    """Average the pixels of the image only: padding does not count."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class BlockA(InceptionA):  # type: ignore[misc]
    """Figure 5 of Szegedy 2016, pooled as in TensorFlow."""

    def _forward(self, x: Tensor) -> list[Tensor]:
        return [
            self.branch1x1(x),
            self.branch5x5_2(self.branch5x5_1(x)),
            self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))),
            self.branch_pool(mean_pool_without_padding(x)),
        ]


class BlockC(InceptionC):  # type: ignore[misc]
    """Figure 6, pooled as in TensorFlow."""

    def _forward(self, x: Tensor) -> list[Tensor]:
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        return [
            self.branch1x1(x),
            self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x))),
            self.branch7x7dbl_5(self.branch7x7dbl_4(double)),
            self.branch_pool(mean_pool_without_padding(x)),
        ]


class BlockE(InceptionE):  # type: ignore[misc]
    """Figure 7, pooled as in TensorFlow."""

    def pool(self, x: Tensor) -> Tensor:
        """Pool the input of the last branch."""
        return mean_pool_without_padding(x)

    def _forward(self, x: Tensor) -> list[Tensor]:
        wide = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        return [
            self.branch1x1(x),
            self.branch3x3_2a(wide),
            self.branch3x3_2b(wide),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(self.pool(x)),
        ]


class LastBlockE(BlockE):
    """The last block with a maximum pool, a slip of the original that became the standard."""

    def pool(self, x: Tensor) -> Tensor:
        """Pool the input of the last branch."""
        return F.max_pool2d(x, 3, stride=1, padding=1)
