"""Adversarial losses, gradient penalties, and the two auxiliary losses of the seed paper.

All take logits, never sigmoid scores: `logistic` on logits is binary cross-entropy on scores.
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from models.sync_batch_norm import mean_over_ranks

Loss = Literal["logistic", "hinge", "lsgan", "wgan"]


def discriminator_loss(real: Tensor, fake: Tensor, *, loss: Loss) -> Tensor:
    """Compute the discriminator's loss from its logits (B,) of real and generated slices."""
    match loss:
        case "logistic":  # Goodfellow 2014, eq. 1
            return F.softplus(-real).mean() + F.softplus(fake).mean()
        case "hinge":  # Lim 2017; Miyato 2018, eq. 16
            return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        case "lsgan":  # Mao 2017, eq. 9
            return ((real - 1).square().mean() + fake.square().mean()) / 2
        case "wgan":  # Arjovsky 2017, eq. 2
            return fake.mean() - real.mean()


def generator_loss(fake: Tensor, *, loss: Loss) -> Tensor:
    """Compute the generator's loss from the discriminator's logits (B,) of its slices."""
    match loss:
        case "logistic":  # Goodfellow 2014, section 3: the non-saturating form
            return F.softplus(-fake).mean()
        case "hinge" | "wgan":
            return -fake.mean()
        case "lsgan":
            return (fake - 1).square().mean() / 2


def r1_penalty(logits: Tensor, real: Tensor) -> Tensor:
    """Compute half the squared gradient of real logits at real slices (Mescheder 2018, eq. 9).

    Args:
        logits: (B,), computed from `real`.
        real: (B,C+1,H,W), a leaf that asks for gradients.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean() / 2


def gradient_penalty(
    score: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mix: Tensor
) -> Tensor:
    """Penalise gradient norms other than 1 between real and fake slices (Gulrajani 2017, eq. 3).

    Args:
        score: slices (B,C+1,H,W) -> logits (B,).
        real, fake: (B,C+1,H,W).
        mix: (B,) uniform in [0, 1), the place between the two.
    """
    share = mix[:, None, None, None]
    between = (share * real + (1 - share) * fake).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(score(between).sum(), between, create_graph=True)
    return ((gradient.square().sum((1, 2, 3)) + 1e-12).sqrt() - 1).square().mean()


def l1_to_label_mean(fake: Tensor, labels: Tensor, means: Tensor) -> Tensor:
    """Compute the paper's L1 loss, against a target that exists for unpaired slices.

    Args:
        fake: (B,C+1,H,W) with the labels (B,).
        means: (2,C+1,H,W), the mean real slice of each label: the targets.
    """
    return F.l1_loss(fake, means[labels])


def label_means(real: Tensor, labels: Tensor) -> Tensor:
    """Compute the mean slice (2,C+1,H,W) of each label in a batch (B,C+1,H,W)."""
    share = (labels[:, None] == torch.arange(2, device=labels.device)).to(real.dtype)  # (B,2)
    share = share / share.sum(0).clamp(min=1)
    return torch.einsum("bl,bchw->lchw", share, real)


def feature_matching(fake: Tensor, real: Tensor) -> Tensor:
    """Compute the distance of mean features (B,F) of slices (Salimans 2016, section 3.1)."""
    fake_mean, real_mean = (mean_over_ranks(x.mean(0)) for x in (fake, real.detach()))
    return (fake_mean - real_mean).square().mean()
