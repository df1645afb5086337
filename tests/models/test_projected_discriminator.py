"""The discriminator that sees through a frozen network."""

import pytest
import torch

from models.dcgan import Architecture
from models.efficientnet_features import EfficientNetLite0Features
from models.projected_discriminator import ProjectedDiscriminator, upsample_nearest
from tasks.measures.features.feature_extraction import load_extractor

LABELS = torch.tensor([0, 1, 0, 1])


@pytest.fixture(scope="module")
def network() -> EfficientNetLite0Features:
    extractor = load_extractor().network
    assert isinstance(extractor, EfficientNetLite0Features)
    return extractor


def shape(size: int = 64, channels: int = 1) -> Architecture:
    return Architecture(
        size=size, channels=channels, discriminator_norm="spectral", pretrained_features=True
    )


@pytest.mark.parametrize(("size", "channels"), [(32, 1), (64, 2), (80, 1), (128, 3)])
def test_each_of_three_scales_scores_each_slice(
    network: EfficientNetLite0Features, size: int, channels: int
) -> None:
    judge = ProjectedDiscriminator(shape(size, channels), network)
    logits, features = judge(torch.rand(4, channels + 1, size, size) * 2 - 1, LABELS)
    assert logits.shape == (4, 3) and len(features) == 4


def test_the_frozen_network_stays_frozen_and_slices_and_heads_get_gradients(
    network: EfficientNetLite0Features,
) -> None:
    judge = ProjectedDiscriminator(shape(), network).train().requires_grad_(True)
    x = (torch.rand(4, 2, 64, 64) * 2 - 1).requires_grad_()
    judge(x, LABELS)[0].sum().backward()
    assert x.grad is not None and (x.grad.abs().sum((2, 3)) > 0).all()  # the mask's too
    assert all(p.grad is not None for p in judge.parameters())
    assert all(p.grad is None for p in network.parameters())
    assert not any(module.training for module in network.modules())
    assert not any("_blocks" in name for name in judge.state_dict())


def test_the_mask_and_the_label_change_every_score(network: EfficientNetLite0Features) -> None:
    torch.manual_seed(0)
    judge = ProjectedDiscriminator(shape(), network).eval()
    x = torch.rand(1, 2, 64, 64).expand(4, -1, -1, -1) * 2 - 1
    with torch.no_grad():
        logits, _ = judge(x, LABELS)
        masked = torch.cat([x[:, :1], -x[:, 1:]], 1)
        assert not torch.isclose(judge(masked, LABELS)[0], logits).any()
    assert torch.allclose(logits[0], logits[2]) and not torch.isclose(logits[0], logits[1]).any()


def test_nearest_upsampling_repeats_every_pixel() -> None:
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(upsample_nearest(x), x.repeat_interleave(2, 2).repeat_interleave(2, 3))
