import pytest
import torch
from torch import nn

from models.classifier import PretrainedClassifier, build_residual_classifier
from models.efficientnet_features import EfficientNetLite0Features
from tasks.measures.features.feature_extraction import load_extractor


def pretrained(channels: int, *, seed: int) -> nn.Module:
    features = load_extractor().network
    assert isinstance(features, EfficientNetLite0Features)
    return PretrainedClassifier(features, channels, seed=seed)


every_classifier = pytest.mark.parametrize("build", [build_residual_classifier, pretrained])


@every_classifier
def test_equal_seeds_give_equal_weights_and_leave_the_global_generator_alone(build):
    pretrained(1, seed=0)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, again, other = (build(1, seed=seed) for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), before)
    pairs = list(zip(first.parameters(), again.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)


@every_classifier
def test_one_logit_a_slice_at_any_size_and_channel_count(build):
    network = build(2, seed=0).eval()
    for size in (32, 64, 128):
        assert network(torch.zeros(3, 2, size, size)).shape == (3, 1)


@every_classifier
def test_the_logit_of_a_slice_does_not_depend_on_its_batch(build):
    """Synthetic slices in a batch must not shift what the network says of real ones."""
    network = build(1, seed=0).train()
    images = torch.rand(4, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with_others = network(images)[:1]
    alone = network(torch.cat([images[:1], -images[1:]]))[:1]
    assert torch.allclose(with_others, alone, atol=1e-5)


def test_fine_tuning_changes_no_weight_of_the_network_that_measures():
    """The Fréchet distance is that of the published weights, whatever was trained before."""
    features = load_extractor().network
    before = {name: part.clone() for name, part in features.state_dict().items()}
    network = pretrained(1, seed=0).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network(torch.zeros(2, 1, 32, 32)).mean().backward()
    optimizer.step()
    tuned = dict(network.named_parameters())
    assert all(torch.equal(part, before[name]) for name, part in features.state_dict().items())
    assert not any(part.requires_grad for part in features.parameters())
    assert all(part.grad is not None for part in tuned.values())
