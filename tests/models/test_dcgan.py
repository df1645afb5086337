import pytest
import torch
import torch.nn.functional as F

from models.dcgan import (
    Architecture,
    Discriminator,
    Generator,
    SmoothConvTranspose2d,
    minibatch_stddev,
    seeded_noise,
)

LABELS = torch.tensor([0, 1, 0, 1])


@pytest.mark.parametrize("size", [32, 48, 64, 80, 128, 256])
@pytest.mark.parametrize("channels", [1, 3])
def test_both_networks_fit_each_other_at_every_size(size: int, channels: int) -> None:
    architecture = Architecture(size=size, channels=channels, width=4, latent=8, excitation=True)
    generator, judge = Generator(architecture), Discriminator(architecture)
    x = generator(torch.randn(4, 8), LABELS)
    assert x.shape == (4, channels + 1, size, size) and x.abs().max() <= 1
    logits, features = judge(x, LABELS)
    assert logits.shape == (4,) and len(features) == 4
    logits.sum().backward()
    assert all(p.grad is not None for net in (generator, judge) for p in net.parameters())


def test_the_label_changes_the_slice_and_the_score() -> None:
    torch.manual_seed(0)
    architecture = Architecture(size=32, width=4, latent=8)
    z = torch.randn(1, 8).expand(4, -1)
    x = Generator(architecture).eval()(z, LABELS)
    assert torch.allclose(x[0], x[2]) and not torch.allclose(x[0], x[1])
    for projection in (True, False):
        judge = Discriminator(Architecture(size=32, width=4, projection=projection))
        same = torch.randn(1, 2, 32, 32).expand(4, -1, -1, -1)
        logits, _ = judge(same, LABELS)
        assert torch.allclose(logits[0], logits[2]) and not torch.allclose(logits[0], logits[1])


def conditioned(**changes: bool) -> Architecture:
    return Architecture(
        size=32, width=4, latent=8, conditions=("area", "position"),
        **changes,  # type: ignore[arg-type]
    )  # fmt: skip


def test_the_last_places_of_z_give_the_conditions_of_each_label() -> None:
    generator = Generator(conditioned())
    generator.get_buffer("condition_mean").copy_(torch.tensor([[0.0, 0.5], [1.0, -0.5]]))
    root = torch.tensor([[[0.0, 0.0], [0.0, 0.2]], [[0.5, 0.0], [0.3, 0.4]]])
    generator.get_buffer("condition_root").copy_(root)
    z, labels = torch.randn(4000, 8), torch.arange(4000) % 2
    shown = generator.conditions(z, labels)
    for label, mean in ((0, [0.0, 0.5]), (1, [1.0, -0.5])):
        some = shown[labels == label]
        torch.testing.assert_close(some.mean(0), torch.tensor(mean), atol=0.05, rtol=0)
        expected = root[label] @ root[label].T
        torch.testing.assert_close(torch.cov(some.T), expected, atol=0.05, rtol=0)


@pytest.mark.parametrize("projection", [True, False])
def test_conditions_change_slice_and_score(projection: bool) -> None:
    torch.manual_seed(0)
    architecture = conditioned(projection=projection)
    generator, judge = Generator(architecture).eval(), Discriminator(architecture)
    z, labels = torch.randn(1, 8).expand(2, -1), torch.tensor([1, 1])
    asked = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    with torch.no_grad():
        x = generator(z, labels, asked)
        assert not torch.allclose(x[0], x[1])
        drawn = generator(z, labels)
        assert torch.equal(drawn, generator(z, labels, generator.conditions(z, labels)))
        logits, _ = judge(x[:1].expand(2, -1, -1, -1), labels, asked)
    assert not torch.isclose(logits[0], logits[1])


@pytest.mark.parametrize("norm", ["none", "batch", "spectral"])
def test_every_discriminator_norm_passes_gradients(norm: str) -> None:
    judge = Discriminator(Architecture(size=32, width=4, discriminator_norm=norm))  # type: ignore[arg-type]
    judge(torch.randn(4, 2, 32, 32), LABELS)[0].sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in judge.parameters())


def test_minibatch_stddev_sees_a_collapse() -> None:
    varied = torch.randn(8, 5, 4, 4)
    alike = varied[:1].expand(8, -1, -1, -1)
    assert minibatch_stddev(varied).shape == (8, 1, 4, 4)
    assert minibatch_stddev(alike).max() < 1e-3 < minibatch_stddev(varied).min()


def test_noise_of_a_seed_does_not_depend_on_its_neighbours() -> None:
    assert torch.equal(seeded_noise([3, 9, 4], 16)[1], seeded_noise([9], 16)[0])
    assert not torch.equal(seeded_noise([9], 16), seeded_noise([10], 16))


def test_a_smooth_upsampling_is_nearest_neighbours_then_a_convolution() -> None:
    torch.manual_seed(0)
    layer = SmoothConvTranspose2d(3, 5, bias=True)
    x = torch.randn(2, 3, 8, 8)
    large = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    kernel = layer.weight.transpose(0, 1).flip(2, 3)
    expected = F.conv2d(large, kernel, layer.bias, padding=1)
    assert torch.allclose(layer(x), expected, atol=1e-5)
