"""How often the discriminator's view is augmented (Karras 2020, arXiv 2006.06676, section 3.1)."""

import torch
from torch import Tensor

from models.sync_batch_norm import mean_over_ranks
from tasks.params.train_gan import TrainGan

EVERY = 4  # steps between two decisions


class Adaptive:
    """The probability of each augmentation; it stays on the device.

    A discriminator that learns its training slices by heart scores nearly all of them above 0:
    the mean sign r_t of their scores rises towards 1. Above `ada_target` the probability rises,
    below it falls. Without a target it is 1.
    """

    def __init__(self, asked: TrainGan, device: torch.device) -> None:
        self.target = asked.ada_target
        self.pace = EVERY * asked.batch / asked.ada_images
        self.probability = torch.full((), 0.0 if self.target else 1.0, device=device)
        self.signs = torch.zeros((), device=device)

    def observe(self, number: int, logits: Tensor) -> None:
        """Take note of a step's scores of real slices; decide at every fourth."""
        if not self.target:
            return
        self.signs += mean_over_ranks(logits.sign().mean())
        if number % EVERY == 0:
            ahead = (self.signs / EVERY - self.target).sign()
            # In place: a recorded step reads it.
            self.probability.add_(ahead * self.pace).clamp_(0, 1)
            self.signs.zero_()

    def pack(self) -> Tensor:
        """Its state (2,)."""
        return torch.stack([self.probability, self.signs])

    def unpack(self, state: Tensor) -> None:
        """Go on from a packed state."""
        self.probability.copy_(state[0])
        self.signs.copy_(state[1])
