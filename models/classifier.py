"""Build the slice classifier: a residual network small enough for a few hundred slices."""

from typing import Any

import torch
from monai.networks.nets.resnet import ResNet
from torch import nn

WIDTHS = (16, 32, 64, 128)
NORM = ("group", {"num_groups": 8})


class GroupNormResNet(ResNet):  # type: ignore[misc]
    """MONAI's ResNet with `norm` in all blocks; the original passes it to its first layer only."""

    def _make_layer(self, *args: Any, **kwargs: Any) -> nn.Sequential:
        blocks: nn.Sequential = super()._make_layer(*args, **{**kwargs, "norm": NORM})
        return blocks


def build_classifier(channels: int, *, seed: int) -> nn.Module:
    """Build an untrained slice classifier.

    MONAI's ResNet (He 2016, arXiv 1512.03385) with one basic block a stage and a quarter of the
    usual widths: 0.3 million weights, where ResNet-18's 11 million would only memorise the few
    hundred slices that this comparison is about. It is fully convolutional up to the last
    average, so any height and width from 32 px serve. Group normalisation (Wu 2018, arXiv
    1803.08494) in place of batch normalisation: a real slice's features must not hang on the
    synthetic ones beside it in a batch, nor a test slice's on their running means.

    Args:
        channels: C of the input (B,C,H,W) in [-1, 1].
        seed: draws the initial weights; the same seed always gives the same ones.

    Returns:
        A network to logits (B,1).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = GroupNormResNet(
            "basic",
            layers=[1, 1, 1, 1],
            block_inplanes=list(WIDTHS),
            spatial_dims=2,
            n_input_channels=channels,
            conv1_t_size=7,
            conv1_t_stride=2,
            no_max_pool=True,  # it would wipe out tumours of a few pixels
            norm=NORM,
            num_classes=1,
        )
    return network
