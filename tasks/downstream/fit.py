"""One training run: equal steps for all arms, weights chosen on validation patients."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor, Tensor]
Judge = Callable[[Tensor], float]
LATE = 0.8  # of the steps: what comes after should gain next to nothing
WORST = 0.0  # AUROC or Dice: what a judgement counts that is no number


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
    def late_gain(self) -> float:
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
    seen more of the schedule. A judgement that is no number (the network diverged, or validation
    slices show one label only) counts as the worst; with no other the network keeps its initial
    weights, which learnt nothing.

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
    fitted, initial = Fitted(), copy_of(network)
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
        said = judge(probability) if probability.isfinite().all() else math.nan
        metric = WORST if math.isnan(said) else said
        if not math.isnan(said) and metric >= fitted.best:
            fitted.weights, fitted.probability = copy_of(network), probability
        fitted.history.append(Entry(step, torch.stack(losses).mean().item(), metric))
        losses.clear()
    network.load_state_dict(fitted.weights or initial)
    network.eval()
    if not fitted.weights:
        fitted.probability = probabilities(network, val_images)
    return fitted


def copy_of(network: nn.Module) -> dict[str, Tensor]:
    """The weights as they are now."""
    return {name: part.clone() for name, part in network.state_dict().items()}


@torch.inference_mode()
def probabilities(network: nn.Module, images: Tensor, *, batch: int = 16) -> Tensor:
    """Sigmoid of the network's logits: (N,1) of a classifier, (N,1,H,W) of a segmenter.

    On a CPU a U-Net is a quarter slower with 64 slices at a time than with 16, which fit the
    cache.
    """
    return torch.cat([network(part).sigmoid() for part in torch.split(images, batch)])
