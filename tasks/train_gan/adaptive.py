"""How often the discriminator's view is augmented (Karras 2020, arXiv 2006.06676, section 3.1)."""

import torch
from torch import Tensor

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
        self.signs = self.signs + logits.detach().sign().mean()
        if number % EVERY == 0:
            ahead = (self.signs / EVERY - self.target).sign()
            self.probability = (self.probability + ahead * self.pace).clamp(0, 1)
            self.signs = torch.zeros_like(self.signs)

    def pack(self) -> Tensor:
        """Its state (2,)."""
        return torch.stack([self.probability, self.signs])

    def unpack(self, state: Tensor) -> None:
        """Go on from a packed state."""
        self.probability, self.signs = state.to(self.signs.device).unbind()
