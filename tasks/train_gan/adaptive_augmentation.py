"""Adapt how often the discriminator's input is augmented (Karras 2020, arXiv 2006.06676)."""

import torch
from torch import Tensor

from models.sync_batch_norm import mean_over_ranks
from tasks.params.train_gan import TrainGan

DECISION_INTERVAL = 4  # steps between two decisions


class AdaptiveAugmentation:
    """The probability of each augmentation (section 3.1), kept on the device.

    A discriminator that memorises its training slices scores nearly all of them above 0: the mean
    sign r_t of their scores rises towards 1. The probability rises while r_t is above `ada_target`
    and falls while it is below. Without a target it is 1.
    """

    def __init__(self, config: TrainGan, device: torch.device) -> None:
        self.target = config.ada_target
        self.change = DECISION_INTERVAL * config.batch / config.ada_images
        self.probability = torch.full((), 0.0 if self.target else 1.0, device=device)
        self.signs = torch.zeros((), device=device)

    def update_probability(self, number: int, logits: Tensor) -> None:
        """Add a step's logits of real slices; adjust the probability at every fourth step."""
        if not self.target:
            return
        self.signs += mean_over_ranks(logits.sign().mean())
        if number % DECISION_INTERVAL == 0:
            direction = (self.signs / DECISION_INTERVAL - self.target).sign()
            # In place: a recorded step reads it.
            self.probability.add_(direction * self.change).clamp_(0, 1)
            self.signs.zero_()

    def pack(self) -> Tensor:
        """Return the state (2,) for a checkpoint."""
        return torch.stack([self.probability, self.signs])

    def unpack(self, state: Tensor) -> None:
        """Restore a state from `pack`."""
        self.probability.copy_(state[0])
        self.signs.copy_(state[1])
