import pytest
import torch
import torch.nn.functional as F

from models.dcgan import (
    Architecture,
    Discriminator,
    Generator,
    SmoothConvTranspose2d,
    minibatch_stddev,
    noise,
)

LABELS = torch.tensor([0, 1, 0, 1])


@pytest.mark.parametrize("size", [32, 48, 64, 80, 128])
@pytest.mark.parametrize("channels", [1, 3])
def test_both_networks_fit_each_other_at_every_size(size: int, channels: int) -> None:
    architecture = Architecture(size=size, channels=channels, width=4, latent=8, excitation=True)
    x = Generator(architecture)(torch.randn(4, 8), LABELS)
    assert x.shape == (4, channels + 1, size, size) and x.abs().max() <= 1
    logits, features = Discriminator(architecture)(x, LABELS)
    assert logits.shape == (4,) and len(features) == 4


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
    assert torch.equal(noise([3, 9, 4], 16)[1], noise([9], 16)[0])
    assert not torch.equal(noise([9], 16), noise([10], 16))


def test_a_smooth_upsampling_is_nearest_neighbours_then_a_convolution() -> None:
    torch.manual_seed(0)
    layer = SmoothConvTranspose2d(3, 5, 3)
    x = torch.randn(2, 3, 8, 8)
    large = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    kernel = layer.weight.transpose(0, 1).flip(2, 3)
    expected = F.conv2d(large, kernel, layer.bias, padding=1)
    assert torch.allclose(layer(x), expected, atol=1e-5)
