"""Train one network, with equal steps for all arms and weights chosen on validation patients."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor, Tensor]
ValidationMetric = Callable[[Tensor], float]
LATE_SHARE = 0.8  # of the steps; the rest should gain next to nothing
WORST_METRIC = 0.0  # AUROC or Dice; stands for a metric that is not finite


@dataclass(frozen=True)
class HistoryEntry:
    """A row of the history: the mean loss since the last row, and the validation metric."""

    step: int
    train_loss: float
    val_metric: float


@dataclass
class FitResult:
    """The history of a run, and the best weights with their validation probabilities."""

    history: list[HistoryEntry] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)
    probability: Tensor = field(default_factory=lambda: torch.empty(0))

    @property
    def best(self) -> float:
        """The best validation metric so far."""
        return max((entry.val_metric for entry in self.history), default=float("-inf"))

    @property
    def late_gain(self) -> float:
        """What the last fifth of the steps gained; NaN with too few evaluations."""
        last = self.history[-1]
        before = [entry for entry in self.history if entry.step <= LATE_SHARE * last.step]
        return last.val_metric - before[-1].val_metric if before else float("nan")


def fit(
    network: nn.Module,
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    batches: Iterable[Batch],
    validation_metric: ValidationMetric,
    val_images: Tensor,
    *,
    steps: int,
    learning_rate: float,
    evaluations: int,
) -> FitResult:
    """Train a network in place and restore the weights with the best validation metric.

    AdamW (Loshchilov 2019) on a one-cycle schedule (Smith 2018), with which a small network
    converges in a few hundred steps. Of equal metrics the later one counts: it has seen more of
    the schedule. A metric that is not finite (the network diverged, or validation slices have one
    label only) counts as the worst; with no other the network keeps its initial weights, which
    learnt nothing.

    Args:
        network: on its device; ends in evaluation mode.
        loss: of the network's output, masks (B,1,H,W) and labels (B,1).
        batches: `steps` times images (B,C,H,W), masks and labels.
        validation_metric: of the probabilities for `val_images`; larger is better.
        val_images: (N,C,H,W).
        steps: optimiser steps.
        learning_rate: peak of the schedule.
        evaluations: number of evaluations, evenly spaced, the last after the last step.
    """
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=learning_rate, total_steps=steps + 1, pct_start=0.2
    )
    evaluated_at = {steps * k // evaluations for k in range(1, evaluations + 1)} - {0}
    result, initial = FitResult(), copy_weights(network)
    losses: list[Tensor] = []
    for step, (images, masks, labels) in enumerate(batches, start=1):
        network.train()
        optimizer.zero_grad(set_to_none=True)
        batch_loss = loss(network(images), masks, labels)
        batch_loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(batch_loss.detach())
        if step not in evaluated_at:
            continue
        network.eval()
        probability = predict_probabilities(network, val_images)
        value = validation_metric(probability) if probability.isfinite().all() else math.nan
        metric = WORST_METRIC if math.isnan(value) else value
        if not math.isnan(value) and metric >= result.best:
            result.weights, result.probability = copy_weights(network), probability
        result.history.append(HistoryEntry(step, torch.stack(losses).mean().item(), metric))
        losses.clear()
    network.load_state_dict(result.weights or initial)
    network.eval()
    if not result.weights:
        result.probability = predict_probabilities(network, val_images)
    return result


def copy_weights(network: nn.Module) -> dict[str, Tensor]:
    """Copy the network's current weights."""
    return {name: part.clone() for name, part in network.state_dict().items()}


@torch.inference_mode()
def predict_probabilities(network: nn.Module, images: Tensor, *, batch: int = 16) -> Tensor:
    """Compute the sigmoid of a network's logits: (N,1) of a classifier, (N,1,H,W) of a segmenter.

    On a CPU a U-Net is a quarter slower with 64 slices at a time than with 16, which fit the
    cache.
    """
    return torch.cat([network(part).sigmoid() for part in torch.split(images, batch)])
