"""One training run: equal steps for all arms, weights chosen on validation patients."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor, Tensor]
Judge = Callable[[Tensor], float]
LATE = 0.8  # of the steps: what comes after should gain next to nothing


@dataclass(frozen=True)
class Entry:
    """A row of the history: the mean loss since the last one, and validation's judgement."""

    step: int
    train_loss: float
    val_metric: float


@dataclass
class Fitted:
    """The history of a run, and the best judged weights with what they said of validation."""

    history: list[Entry] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)
    probability: Tensor = field(default_factory=lambda: torch.empty(0))

    @property
    def best(self) -> float:
        """The best judgement so far."""
        return max((entry.val_metric for entry in self.history), default=float("-inf"))

    @property
    def rise(self) -> float:
        """What the last fifth of the steps gained; null with too few judgements to tell."""
        last = self.history[-1]
        before = [entry for entry in self.history if entry.step <= LATE * last.step]
        return last.val_metric - before[-1].val_metric if before else float("nan")


def fit(
    network: nn.Module,
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    batches: Iterable[Batch],
    judge: Judge,
    val_images: Tensor,
    *,
    steps: int,
    learning_rate: float,
    evaluations: int,
) -> Fitted:
    """Train a network in place and leave it with the weights that validation liked best.

    AdamW (Loshchilov 2019) on a one-cycle schedule (Smith 2018), which is what lets a small
    network converge in a few hundred steps. Of equal judgements the later one counts: it has
    seen more of the schedule.

    Args:
        network: on its device; ends in evaluation mode.
        loss: of the network's output, masks (B,1,H,W) and labels (B,1).
        batches: `steps` times images (B,C,H,W), masks and labels.
        judge: of the probabilities for `val_images`; larger is better.
        val_images: (N,C,H,W).
        steps: optimiser steps.
        learning_rate: peak of the schedule.
        evaluations: number of judgements, evenly spaced, the last after the last step.
    """
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=learning_rate, total_steps=steps + 1, pct_start=0.2
    )
    judged_at = {steps * k // evaluations for k in range(1, evaluations + 1)} - {0}
    fitted = Fitted()
    losses: list[Tensor] = []
    for step, (images, masks, labels) in enumerate(batches, start=1):
        network.train()
        optimizer.zero_grad(set_to_none=True)
        value = loss(network(images), masks, labels)
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(value.detach())
        if step not in judged_at:
            continue
        network.eval()
        probability = probabilities(network, val_images)
        entry = Entry(step, torch.stack(losses).mean().item(), judge(probability))
        losses.clear()
        if entry.val_metric >= fitted.best:
            fitted.weights = {name: part.clone() for name, part in network.state_dict().items()}
            fitted.probability = probability
        fitted.history.append(entry)
    network.load_state_dict(fitted.weights)
    network.eval()
    return fitted


@torch.inference_mode()
def probabilities(network: nn.Module, images: Tensor, *, batch: int = 16) -> Tensor:
    """Sigmoid of the network's logits: (N,1) of a classifier, (N,1,H,W) of a segmenter.

    On a CPU a U-Net is a quarter slower with 64 slices at a time than with 16, which fit the
    cache.
    """
    return torch.cat([network(part).sigmoid() for part in torch.split(images, batch)])
