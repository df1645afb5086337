"""Build the slice classifiers: a pretrained network, and a small one without pretraining."""

import copy

import torch
from torch import Tensor, nn

from models.efficientnet_features import WIDTH, EfficientNetLite0Features

WIDTHS = (16, 32, 64, 128)


def build_residual_classifier(channels: int, *, seed: int) -> nn.Module:
    """Build an untrained residual network, small enough for a few hundred slices.

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
    # It imports all of MONAI, which takes seconds that the pretrained classifier can spare.
    from models.group_norm_resnet import NORM, GroupNormResNet

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


class PretrainedClassifier(nn.Module):
    """EfficientNet-Lite0 of ImageNet up to its block 10, to be fine-tuned whole.

    Few patients do not suffice to learn what edges and textures are. Normalisations are folded
    into the convolutions: a real slice's features do not depend on the synthetic ones beside it
    in a batch.

    Args:
        features: the pretrained network; it is copied.
        channels: C of the input (B,C,H,W) in [-1, 1]; each is seen as a grey image.
        seed: samples the initial weights of the last layer.
    """

    def __init__(self, features: EfficientNetLite0Features, channels: int, *, seed: int) -> None:
        super().__init__()
        self.features = copy.deepcopy(features).requires_grad_(True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.last = nn.Linear(channels * WIDTH, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits (B,1)."""
        logits: Tensor = self.last(self.features(images))
        return logits
