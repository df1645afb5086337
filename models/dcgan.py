"""The generator and discriminator of a conditional DCGAN (Radford 2016, arXiv 1511.06434).

One sample is a slice and its tumour mask together: C image channels and one mask channel, all in
[-1, 1]. The label (1 tumour, 0 none) conditions both networks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

LABELS = 2
SITE = "site="  # begins the name of a condition that is 1 for slices of one site and 0 for others
Norm = Literal["none", "batch", "spectral"]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The settings from which both networks can be built again; `config.json` holds them.

    Attributes:
        size: side of the square slices in pixels, a multiple of 16.
        channels: image channels C, the mask not counted.
        latent: length of z.
        width: channels at half resolution; they double with every halving, up to 8 times.
        smooth_upsampling: transposed convolutions that cannot draw checkerboards.
        excitation: gate high-resolution features by low-resolution ones (FastGAN, Liu 2021).
        discriminator_norm: of the discriminator's inner layers.
        minibatch_stddev: show the discriminator how much a batch varies (Karras 2018, sec. 3).
        projection: score label agreement by an inner product (Miyato 2018); otherwise the label
            enters as constant planes beside the slice, which the first convolution embeds.
        conditions: names of the numbers that say, besides the label, what a slice shows. They
            take the last places of z. Those of sites (`SITE`) are the last of them.
        pretrained_features: the discriminator sees through a frozen network
            (models/projected_discriminator.py).
        masked: the slices came with masks; without, the mask channel learns to be empty.
    """

    size: int = 64
    channels: int = 1
    latent: int = 64
    width: int = 32
    smooth_upsampling: bool = True
    excitation: bool = False
    discriminator_norm: Norm = "none"
    minibatch_stddev: bool = True
    projection: bool = True
    conditions: Sequence[str] = ()
    pretrained_features: bool = False
    masked: bool = True

    def coarsest_size(self) -> int:
        """Return height and width of the coarsest maps: 4 for powers of two, 6 for 96, 5 for 80."""
        side = self.size
        while side % 2 == 0 and side >= 8:
            side //= 2
        return side

    def site_count(self) -> int:
        """Return how many of the conditions stand for a site."""
        return sum(name.startswith(SITE) for name in self.conditions)

    def channel_widths(self) -> list[int]:
        """Return the channels at resolutions base, 2 base, ..., size / 2."""
        stages = (self.size // self.coarsest_size()).bit_length() - 1  # 64: 4, 8, 16, 32
        return [self.width * min(8, 2**power) for power in range(stages)][::-1]


class Generator(nn.Module):
    """A network from z and label to a slice: transposed convolutions, batch norm, ReLU, tanh."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        widths = architecture.channel_widths()
        self.stem = nn.Sequential(
            nn.ConvTranspose2d(
                architecture.latent + LABELS, widths[0], architecture.coarsest_size(), bias=False
            ),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(
                upsampling_layer(inner, outer, architecture.smooth_upsampling, bias=False),
                nn.BatchNorm2d(outer),
                nn.ReLU(inplace=True),
            )
            for inner, outer in pairwise(widths)
        )
        self.head = upsampling_layer(
            widths[-1], architecture.channels + 1, architecture.smooth_upsampling, bias=True
        )
        self.gate = (
            SkipLayerExcitation(widths[0], widths[-1], architecture.coarsest_size())
            if architecture.excitation
            else None
        )
        sites = architecture.site_count()
        if k := len(architecture.conditions) - sites:
            # What the training slices showed: a normal distribution for each label, and the mean
            # and deviation by which the numbers were standardised.
            self.register_buffer("condition_mean", torch.zeros(LABELS, k))
            self.register_buffer("condition_root", torch.eye(k).repeat(LABELS, 1, 1))
            self.register_buffer("condition_scale", torch.tensor([[0.0, 1.0]]).repeat(k, 1))
        if sites:
            # Of each label's training slices; what is missing to 1 came from no site among these.
            self.register_buffer("site_shares", torch.zeros(LABELS, sites))
        self.apply(initialise_weights)

    def forward(self, z: Tensor, labels: Tensor, conditions: Tensor | None = None) -> Tensor:
        """Generate slices.

        Args:
            z: (B,latent) standard normal.
            labels: (B,) int64 in {0, 1}.
            conditions: (B,k) standardised; without them the last k places of z draw them from
                the distribution that the training slices of the label showed.

        Returns:
            (B,C+1,size,size) in [-1, 1]; the last channel is the mask, above 0 inside.
        """
        if k := len(self.architecture.conditions):
            requested = self.conditions(z, labels) if conditions is None else conditions
            z = torch.cat([z[:, :-k], requested.to(z.dtype)], 1)  # (B,latent)
        code = torch.cat([z, one_hot(labels, z.dtype)], 1)
        x = coarse = self.stem(code[:, :, None, None])  # (B,8 width,base,base)
        for block in self.blocks:
            x = block(x)  # (B,...,2 side,2 side)
        if self.gate is not None:
            x = x * self.gate(coarse)
        return torch.tanh(self.head(x))  # (B,C+1,size,size)

    def conditions(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return the conditions (B,k) that z and labels stand for."""
        sites = self.architecture.site_count()
        standard_normal = z[:, -len(self.architecture.conditions) :]  # (B,k)
        parts = []
        if measured := len(self.architecture.conditions) - sites:
            mean, root = self.get_buffer("condition_mean"), self.get_buffer("condition_root")
            deviation = root[labels] @ standard_normal[:, :measured, None]
            parts.append(mean[labels] + deviation[..., 0])
        if sites:
            parts.append(self.draw_sites(standard_normal[:, -1], labels))
        return torch.cat(parts, 1)

    def draw_sites(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return 1 at the site that standard normal z (B,) stands for: (B,S), or zeros for none."""
        upper = self.get_buffer("site_shares").cumsum(1)[labels]  # (B,S)
        share = torch.special.ndtr(z)[:, None]  # uniform in [0, 1]
        lower = F.pad(upper, (1, 0))[:, :-1]
        drawn: Tensor = (share >= lower) & (share < upper)
        return drawn.to(z.dtype)


def upsampling_layer(inner: int, outer: int, smooth: bool, *, bias: bool) -> nn.Module:
    """Make a transposed convolution that doubles height and width."""
    if smooth:
        return SmoothConvTranspose2d(inner, outer, bias=bias)
    # Kernel 4 at stride 2 overlaps evenly, as Odena 2016 advises; checkerboards can still grow.
    return nn.ConvTranspose2d(inner, outer, 4, stride=2, padding=1, bias=bias)


class SmoothConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution whose 4 x 4 kernel is the 2 x 2 box blur of its 3 x 3 weight.

    It equals nearest-neighbour upsampling followed by a 3 x 3 convolution, so it cannot make
    checkerboards, at 4 products in place of 9 (the fused upscaling of Karras 2018).
    """

    blur: Tensor

    def __init__(self, inner: int, outer: int, *, bias: bool) -> None:
        super().__init__(inner, outer, 3, bias=bias)
        along = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1]])  # (4,3)
        # As one product: a sum of four padded copies takes longer than the convolution's own
        # weight gradient.
        blur = torch.einsum("ai,bj->ijab", along, along).reshape(9, 16)
        self.register_buffer("blur", blur, persistent=False)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Map (B,inner,h,w) to (B,outer,2h,2w)."""
        inner, outer = self.weight.shape[:2]
        w = (self.weight.reshape(inner * outer, 9) @ self.blur).reshape(inner, outer, 4, 4)
        return F.conv_transpose2d(x, w, self.bias, stride=2, padding=1)


class SkipLayerExcitation(nn.Module):
    """Skip-layer excitation: a gate per channel from the coarsest features (Liu 2021, eq. 1)."""

    def __init__(self, coarse: int, fine: int, side: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(coarse, fine, side)
        self.excite = nn.Conv2d(fine, fine, 1)

    def forward(self, coarse: Tensor) -> Tensor:
        """Map (B,coarse,base,base) to gates (B,fine,1,1) in [0, 1]."""
        return torch.sigmoid(self.excite(F.leaky_relu(self.squeeze(coarse), 0.2)))


class Discriminator(nn.Module):
    """A network from slice with mask and label to a logit; `torch.sigmoid` of it is the score.

    Args:
        architecture: of the slices, and of this network.
        sees_mask: without, the mask channel is ignored.
    """

    def __init__(self, architecture: Architecture, *, sees_mask: bool = True) -> None:
        super().__init__()
        self.architecture = architecture
        self.sees_mask = sees_mask
        norm = architecture.discriminator_norm
        widths = architecture.channel_widths()[::-1]
        condition_size = LABELS + len(architecture.conditions)
        planes = architecture.channels + int(sees_mask)
        planes += 0 if architecture.projection else condition_size
        # Radford 2016: no batch norm on the first layer.
        layers: list[nn.Module] = [
            *downsampling_layers(planes, widths[0], "none" if norm == "batch" else norm)
        ]
        for inner, outer in pairwise(widths):
            layers += downsampling_layers(inner, outer, norm)
        self.trunk = nn.Sequential(*layers)
        features_size = widths[-1] + int(architecture.minibatch_stddev)
        # A 4 x 4 convolution of 4 x 4 maps, as one product.
        self.squash = with_spectral_norm(
            nn.Linear(features_size * architecture.coarsest_size() ** 2, widths[-1]), norm
        )
        self.score = with_spectral_norm(nn.Linear(widths[-1], 1), norm)
        self.agree = (
            with_spectral_norm(nn.Linear(condition_size, widths[-1], bias=False), norm)
            if architecture.projection
            else None
        )
        if norm == "batch":
            self.apply(initialise_weights)

    def forward(
        self, x: Tensor, labels: Tensor, conditions: Tensor | None = None, parts: int = 1
    ) -> tuple[Tensor, Tensor]:
        """Score slices.

        Args:
            x: (B,C+1,size,size) in [-1, 1].
            labels: (B,) int64 in {0, 1}, or -1 where it is not known.
            conditions: (B,k) standardised, where the architecture has any.
            parts: how many batches of one size stand behind each other in x: slices of two of
                them never share a group of the minibatch standard deviation.

        Returns:
            Logits (B,) and the features (B,8 width) that feature matching compares.
        """
        condition = condition_vector(labels, conditions, x.dtype)
        if not self.sees_mask:
            x = x[:, :-1]
        if self.agree is None:
            x = torch.cat([x, condition[:, :, None, None].expand(-1, -1, *x.shape[2:])], 1)
        maps = self.trunk(x)  # (B,8 width,base,base)
        features = maps.mean((2, 3))
        if self.architecture.minibatch_stddev:
            maps = torch.cat([maps, minibatch_stddev(maps, parts)], 1)
        hidden = F.leaky_relu(self.squash(maps.flatten(1)), 0.2)  # (B,8 width)
        logits = self.score(hidden)[:, 0]
        if self.agree is not None:
            logits = logits + (self.agree(condition) * hidden).sum(1)
        return logits, features


def seeded_noise(seeds: Sequence[int], latent: int) -> Tensor:
    """Return z (B,latent), each row from its own seed and independent of its neighbours."""
    return torch.stack(
        [torch.randn(latent, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    )


def downsampling_layers(inner: int, outer: int, norm: Norm) -> list[nn.Module]:
    """Make the layers of one halving of the discriminator."""
    convolution = with_spectral_norm(nn.Conv2d(inner, outer, 4, 2, 1, bias=norm != "batch"), norm)
    norm_layers: list[nn.Module] = [nn.BatchNorm2d(outer)] if norm == "batch" else []
    return [convolution, *norm_layers, nn.LeakyReLU(0.2, inplace=True)]


def with_spectral_norm(module: nn.Module, norm: Norm) -> nn.Module:
    """Apply spectral normalisation (Miyato 2018) to the module if `norm` is "spectral"."""
    return spectral_norm(module) if norm == "spectral" else module


def minibatch_stddev(maps: Tensor, parts: int = 1, group: int = 4) -> Tensor:
    """Return a plane (B,1,h,w): how much the slices of each group of a batch differ (Karras 2018).

    A batch of several equal `parts`, such as real and generated slices, has no group with slices of
    two of them. A part whose size is no multiple of the group is one group.
    """
    B, _, h, w = maps.shape
    part_size = B // parts
    size = group if part_size % group == 0 else part_size
    grouped = maps.float().reshape(parts, size, part_size // size, -1)
    # torch.var is slow along an axis that is not the last
    variance = (grouped - grouped.mean(1, keepdim=True)).square().mean(1)
    spread = (variance + 1e-8).sqrt().mean(2)  # (parts,part_size/size)
    spread = spread[:, None].expand(-1, size, -1).reshape(B)
    return spread[:, None, None, None].expand(B, 1, h, w).to(maps.dtype)


def one_hot(labels: Tensor, dtype: torch.dtype) -> Tensor:
    """Map labels (B,) to (B,2), an unknown one (-1) to zeros.

    `F.one_hot` would read the labels back to check them.
    """
    return (labels[:, None] == torch.arange(LABELS, device=labels.device)).to(dtype)


def condition_vector(labels: Tensor, conditions: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Return label and conditions of slices as one vector (B,2+k)."""
    vector = one_hot(labels, dtype)
    return vector if conditions is None else torch.cat([vector, conditions.to(dtype)], 1)


def initialise_weights(module: nn.Module) -> None:
    """Initialise as Radford 2016, section 4: weights N(0, .02), batch-norm scales N(1, .02)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
