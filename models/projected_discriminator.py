"""A discriminator on top of a frozen network (Projected GAN, Sauer 2021, arXiv 2111.01007).

EfficientNet-Lite0 turns slice and mask into maps at three scales. Random mixing that is never
trained spreads the information over all channels (cross-channel mixing) and all scales (cross-scale
mixing), and a small discriminator scores each scale. Distances measured on the same network's
features flatter a generator that was trained against it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.dcgan import (
    LABELS,
    Architecture,
    Norm,
    condition_vector,
    downsampling_layers,
    with_spectral_norm,
)
from models.efficientnet_features import EfficientNetLite0Features, scale_pixels

TAPS = {2: 24, 4: 40, 10: 112}  # block: channels; at a quarter, an eighth, a sixteenth of the side
MIXED_CHANNELS = 64


class ProjectedDiscriminator(nn.Module):
    """A network from slice and label to a logit for each scale; inputs as `Discriminator`.

    Args:
        architecture: `discriminator_norm` may be "none" or "spectral".
        network: the frozen network. It is not part of the module's state: its weights are known.
        sees_mask: without, the mask channel is ignored.
    """

    def __init__(
        self,
        architecture: Architecture,
        network: EfficientNetLite0Features,
        *,
        sees_mask: bool = True,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.sees_mask = sees_mask
        self.frozen = (network,)  # a tuple hides it from state_dict, train() and requires_grad_()
        for index, channels in enumerate(TAPS.values()):
            across = nn.init.kaiming_normal_(torch.empty(MIXED_CHANNELS, channels, 1, 1))
            along = nn.init.kaiming_normal_(torch.empty(MIXED_CHANNELS, MIXED_CHANNELS, 3, 3))
            self.register_buffer(f"across_{index}", across)
            self.register_buffer(f"along_{index}", along)
        condition_size = LABELS + len(architecture.conditions)
        sides = [architecture.size // 4, architecture.size // 8, architecture.size // 16]
        self.heads = nn.ModuleList(
            ScaleDiscriminator(side, condition_size, architecture.discriminator_norm)
            for side in sides
        )

    def forward(
        self, x: Tensor, labels: Tensor, conditions: Tensor | None = None, parts: int = 1
    ) -> tuple[Tensor, Tensor]:
        """Score slices (B,C+1,size,size), each by itself, whatever `parts` they belong to.

        Returns:
            Logits (B,3) and the features (B,64) that feature matching compares.
        """
        condition = condition_vector(labels, conditions, x.dtype)
        image, mask = x[:, :-1], x[:, -1]
        # Three colours: all image channels, the last of them, and the mask.
        third = mask if self.sees_mask else image[:, 0]
        colours = torch.stack([image.mean(1), image[:, -1], third], 1)
        maps = self.mix_maps(self.frozen[0].block_outputs(scale_pixels(colours), tuple(TAPS)))
        logits = [head(m, condition) for head, m in zip(self.heads, maps, strict=True)]
        return torch.stack(logits, 1), maps[-1].mean((2, 3))

    def mix_maps(self, maps: list[Tensor]) -> list[Tensor]:
        """Mix maps of three scales over channels, then from coarse to fine: (B,64,h,w) each."""
        mixed: list[Tensor] = []
        for index in reversed(range(len(maps))):
            m = F.conv2d(maps[index], self.get_buffer(f"across_{index}").to(maps[index].dtype))
            if mixed:
                m = m + upsample_nearest(mixed[0])
            along = self.get_buffer(f"along_{index}").to(m.dtype)
            mixed.insert(0, F.conv2d(m, along, padding=1))
        return mixed


class ScaleDiscriminator(nn.Module):
    """The discriminator of one scale."""

    def __init__(self, side: int, condition_size: int, norm: Norm) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        while side % 2 == 0 and side >= 8:
            layers += downsampling_layers(MIXED_CHANNELS, MIXED_CHANNELS, norm)
            side //= 2
        self.trunk = nn.Sequential(*layers)
        self.squash = with_spectral_norm(nn.Linear(MIXED_CHANNELS * side**2, MIXED_CHANNELS), norm)
        self.score = with_spectral_norm(nn.Linear(MIXED_CHANNELS, 1), norm)
        self.agree = with_spectral_norm(nn.Linear(condition_size, MIXED_CHANNELS, bias=False), norm)

    def forward(self, maps: Tensor, condition: Tensor) -> Tensor:
        """Map (B,64,h,w) and condition vectors (B,2+k) to logits (B,)."""
        hidden = F.leaky_relu(self.squash(self.trunk(maps).flatten(1)), 0.2)  # (B,64)
        agreement: Tensor = (self.agree(condition) * hidden).sum(1)
        logits: Tensor = self.score(hidden)[:, 0] + agreement
        return logits


def upsample_nearest(x: Tensor) -> Tensor:
    """Upsample by nearest neighbours with a gradient that is a plain sum, the same every time."""
    B, C, h, w = x.shape
    return x[:, :, :, None, :, None].expand(B, C, h, 2, w, 2).reshape(B, C, 2 * h, 2 * w)
