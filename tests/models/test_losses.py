import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.losses import (
    discriminator_loss,
    feature_matching,
    generator_loss,
    gradient_penalty,
    l1_to_label_mean,
    label_means,
    r1_penalty,
)

REAL, FAKE = torch.tensor([2.0, -1.0]), torch.tensor([0.5, -3.0])


def test_logistic_loss_is_cross_entropy_of_sigmoid_scores() -> None:
    bce = F.binary_cross_entropy(torch.sigmoid(REAL), torch.ones(2)) + F.binary_cross_entropy(
        torch.sigmoid(FAKE), torch.zeros(2)
    )
    assert torch.isclose(discriminator_loss(REAL, FAKE, loss="logistic"), bce)
    non_saturating = F.binary_cross_entropy(torch.sigmoid(FAKE), torch.ones(2))
    assert torch.isclose(generator_loss(FAKE, loss="logistic"), non_saturating)


@pytest.mark.parametrize(
    ("loss", "judge", "maker"),
    [
        ("hinge", (0 + 2) / 2 + (1.5 + 0) / 2, 1.25),
        ("lsgan", ((1 + 4) / 2 + (0.25 + 9) / 2) / 2, (0.25 + 16) / 4),
        ("wgan", -1.25 - 0.5, 1.25),
    ],
)
def test_losses_by_hand(loss: str, judge: float, maker: float) -> None:
    assert math.isclose(float(discriminator_loss(REAL, FAKE, loss=loss)), judge, rel_tol=1e-6)  # type: ignore[arg-type]
    assert math.isclose(float(generator_loss(FAKE, loss=loss)), maker, rel_tol=1e-6)  # type: ignore[arg-type]


@pytest.mark.parametrize("loss", ["logistic", "hinge", "lsgan", "wgan"])
def test_better_separation_lowers_the_discriminators_loss(loss: str) -> None:
    good = discriminator_loss(torch.tensor([1.0]), torch.tensor([0.0]), loss=loss)  # type: ignore[arg-type]
    bad = discriminator_loss(torch.tensor([0.0]), torch.tensor([1.0]), loss=loss)  # type: ignore[arg-type]
    assert good < bad


def linear(x: Tensor) -> Tensor:
    """A score whose slope has norm 3 everywhere."""
    return 3 * x.flatten(1)[:, 0]


def test_penalties_of_a_linear_score() -> None:
    real = torch.randn(4, 2, 8, 8, requires_grad=True)
    assert torch.isclose(r1_penalty(linear(real), real), torch.tensor(9 / 2))
    fake = torch.randn(4, 2, 8, 8)
    assert torch.isclose(
        gradient_penalty(linear, real, fake, torch.rand(4)), torch.tensor(4.0), rtol=1e-4
    )


def test_l1_compares_with_the_mean_of_its_own_label() -> None:
    labels = torch.tensor([0, 1, 0, 1])
    real = torch.tensor([0.0, 1.0, 0.2, 0.6])[:, None, None, None].expand(4, 2, 4, 4)
    at_means = torch.tensor([0.1, 0.8, 0.1, 0.8])[:, None, None, None].expand(4, 2, 4, 4)
    means = label_means(real, labels)
    assert float(l1_to_label_mean(at_means, labels, means)) < 1e-6
    assert math.isclose(float(l1_to_label_mean(at_means + 0.3, labels, means)), 0.3, rel_tol=1e-5)


def test_feature_matching_is_zero_for_equal_means_and_gives_real_slices_no_gradient() -> None:
    real = torch.randn(6, 5, requires_grad=True)
    fake = real.detach()[torch.randperm(6)].requires_grad_()
    assert float(feature_matching(fake, real)) < 1e-10
    feature_matching(fake + 1, real).backward()  # type: ignore[no-untyped-call]
    assert real.grad is None and fake.grad is not None
