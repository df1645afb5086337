"""The tumour segmenter: a 2D U-Net, and the loss that it is trained with."""

import math

import torch
from monai.losses.dice import DiceCELoss
from monai.networks.nets.unet import UNet
from torch import Tensor, nn

WIDTHS = (16, 32, 64, 128)
STRIDE = 2 ** (len(WIDTHS) - 1)
PRIOR = 0.05


def segmenter(channels: int, *, seed: int) -> nn.Module:
    """Build an untrained U-Net (Ronneberger 2015, arXiv 1505.04597; MONAI's, residual).

    The last bias starts at the logit of a tumour's usual share of a slice, so that training
    begins by finding where the tumour is and not by emptying the whole slice, from which a
    U-Net may never return.

    Args:
        channels: C of the input (B,C,H,W) in [-1, 1]; H and W must be multiples of 8.
        seed: draws the initial weights; the same seed always gives the same ones.

    Returns:
        A network to logits (B,1,H,W).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: nn.Module = UNet(
            spatial_dims=2,
            in_channels=channels,
            out_channels=1,
            channels=WIDTHS,
            strides=(2, 2, 2),
            num_res_units=1,
        )
    last = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.out_channels == 1][-1]
    if last.bias is not None:
        nn.init.constant_(last.bias, math.log(PRIOR / (1 - PRIOR)))
    return network


def overlap_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Dice plus cross-entropy over the whole batch (Isensee 2021, nnU-Net's batch Dice).

    Summed over the batch, the Dice term is defined and smooth although half of the slices hold
    no tumour; slice by slice it would reward an empty answer for those.

    Args:
        logits: (B,1,H,W).
        masks: (B,1,H,W) in {0, 1}.
    """
    loss: Tensor = DiceCELoss(sigmoid=True, batch=True)(logits, masks)
    return loss
