"""One training run: equal steps for all arms, weights chosen on validation patients."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor, Tensor]
Judge = Callable[[nn.Module], float]


@dataclass(frozen=True)
class Entry:
    """A row of the history: the mean loss since the last one, and validation's judgement."""

    step: int
    train_loss: float
    val_metric: float


def fit(
    network: nn.Module,
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    batches: Iterable[Batch],
    judge: Judge,
    *,
    steps: int,
    learning_rate: float,
    evaluations: int,
) -> list[Entry]:
    """Train a network in place and leave it with the weights that validation liked best.

    AdamW (Loshchilov 2019) on a one-cycle schedule (Smith 2018), which is what lets a small
    network converge in a few hundred steps. Of equal judgements the later one counts: it has
    seen more of the schedule.

    Args:
        network: on its device; ends in evaluation mode.
        loss: of the network's output, masks (B,1,H,W) and labels (B,1).
        batches: `steps` times images (B,C,H,W), masks and labels.
        judge: larger is better; called with the network in evaluation mode.
        steps: optimiser steps.
        learning_rate: peak of the schedule.
        evaluations: number of judgements, evenly spaced, the last after the last step.
    """
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=learning_rate, total_steps=steps + 1, pct_start=0.2
    )
    judged_at = {steps * k // evaluations for k in range(1, evaluations + 1)} - {0}
    history: list[Entry] = []
    best: dict[str, Tensor] = {}
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
        entry = Entry(step, torch.stack(losses).mean().item(), judge(network))
        losses.clear()
        if entry.val_metric >= max((e.val_metric for e in history), default=float("-inf")):
            best = {name: value.clone() for name, value in network.state_dict().items()}
        history.append(entry)
    network.load_state_dict(best)
    network.eval()
    return history


@torch.inference_mode()
def probabilities(network: nn.Module, images: Tensor, *, batch: int = 64) -> Tensor:
    """Sigmoid of the network's logits: (N,1) of a classifier, (N,1,H,W) of a segmenter."""
    return torch.cat([network(part).sigmoid() for part in torch.split(images, batch)])
