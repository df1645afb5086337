"""Build the tumour segmenter, a 2D U-Net, and compute its training loss."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

WIDTHS = (8, 16, 32, 64, 128)
TUMOR_SHARE = 0.05


def level_widths(first: int) -> list[int]:
    """Return the channels of the five usual levels, twice as many at each as at the one before."""
    return [first * width // WIDTHS[0] for width in WIDTHS]


def build_segmenter(channels: int, *, seed: int, widths: Sequence[int] = WIDTHS) -> nn.Module:
    """Build an untrained U-Net (Ronneberger 2015, arXiv 1505.04597) of a quarter million weights.

    MONAI's, without residual units: with them its last layer is normalised slice by slice, and
    a slice without tumour then gets the same spread of logits as one with.

    The last bias starts at the logit of a tumour's usual share of a slice, so that training
    begins by finding where the tumour is and not by emptying the whole slice, from which a
    U-Net may never return.

    The last layer gets its input channels-last: with one output channel it then takes a quarter of
    the time on a CPU, a tenth of a training step. Products are the same, rounded in another order.

    Args:
        channels: C of the input (B,C,H,W) in [-1, 1]; H and W must be multiples of 8.
        seed: draws the initial weights; the same seed always gives the same ones.
        widths: channels of each level. The five usual ones begin at full size; fewer begin at
            half of it, a sixth of the work where outlines need not be exact.

    Returns:
        A network to logits (B,1,H,W).
    """
    from monai.networks.nets.unet import UNet  # it imports all of MONAI, which takes seconds

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: nn.Module = UNet(
            spatial_dims=2,
            in_channels=channels,
            out_channels=1,
            channels=widths,
            strides=(1, 2, 2, 2) if len(widths) == len(WIDTHS) else (2,) * (len(widths) - 1),
        )
    *_, last = (m for m in network.modules() if isinstance(m, nn.ConvTranspose2d | nn.Conv2d))
    last.register_forward_pre_hook(lay_out_channels_last)
    if last.bias is not None:
        nn.init.constant_(last.bias, math.log(TUMOR_SHARE / (1 - TUMOR_SHARE)))
    return network


def lay_out_channels_last(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """Lay out a layer's input (B,C,H,W) pixel by pixel; the values stay."""
    return (inputs[0].contiguous(memory_format=torch.channels_last),)


def dice_ce_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Compute Dice plus cross-entropy over the whole batch (Isensee 2021, nnU-Net's batch Dice).

    Summed over the batch, the Dice term is defined and smooth although half of the slices hold
    no tumour; slice by slice it would reward an empty answer for those.

    Args:
        logits: (B,1,H,W).
        masks: (B,1,H,W) in {0, 1}.
    """
    from monai.losses.dice import DiceCELoss

    loss: Tensor = DiceCELoss(sigmoid=True, batch=True)(logits, masks)
    return loss
