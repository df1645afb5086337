"""Train one network, with equal steps for all arms, to the average of its last weights."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tasks.params.downstream import TaskTraining

Batch = tuple[Tensor, Tensor, Tensor]
ValidationMetric = Callable[[Tensor], float]
LATE_SHARE = 0.8  # of the steps; the rest should gain next to nothing
WORST_METRIC = 0.0  # AUROC or Dice; stands for a metric that is not finite
WARM_UP_SHARE = 0.2  # of the steps, in which the learning rate rises


@dataclass(frozen=True)
class HistoryEntry:
    """A row of the history: the mean loss since the last row, and the validation metric."""

    step: int
    train_loss: float
    val_metric: float


@dataclass
class FitResult:
    """The history of a run, and the final network's probabilities for validation slices."""

    history: list[HistoryEntry] = field(default_factory=list)
    probability: Tensor = field(default_factory=lambda: torch.empty(0))

    @property
    def final(self) -> float:
        """The validation metric of the final weights."""
        return self.history[-1].val_metric

    @property
    def late_rise(self) -> float:
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
    training: TaskTraining,
    bf16: bool = False,
) -> FitResult:
    """Train a network in place; it ends with the moving average of its weights.

    AdamW (Loshchilov 2019) on a one-cycle schedule (Smith 2018), with which a small network
    converges in a few hundred steps. Weights are averaged over steps (Polyak 1992) and not chosen
    on validation patients: the best of several evaluations on two or three patients is chance.
    Validation slices serve for the history, which says whether the network learnt and whether it
    still improved. A network that diverged gets its initial weights back: they learnt nothing.

    Args:
        network: on its device; ends in evaluation mode.
        loss: of the network's output, masks (B,1,H,W) and labels (B,1).
        batches: `training.steps` times images (B,C,H,W), masks and labels.
        validation_metric: of the probabilities for `val_images`; larger is better.
        val_images: (N,C,H,W).
        training: steps, learning rate and the rest of the recipe.
        bf16: whether products run in bfloat16; weights and losses stay in float32.
    """
    steps = training.steps
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=training.learning_rate, weight_decay=1e-2
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=training.learning_rate,
        total_steps=steps + 1,
        pct_start=WARM_UP_SHARE,
    )
    evaluated_at = {steps * k // training.evaluations for k in range(1, training.evaluations + 1)}
    result, initial = FitResult(), copy_weights(network)
    average = copy_weights(network)
    losses: list[Tensor] = []
    for step, (images, masks, labels) in enumerate(batches, start=1):
        network.train()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
            output = network(images)
        batch_loss = loss(output.float(), masks, labels)
        batch_loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        update_average(average, network, decay=min(training.ema, step / (step + 9)))
        losses.append(batch_loss.detach())
        if step not in evaluated_at:
            continue
        trained = copy_weights(network)
        network.load_state_dict(average)
        network.eval()
        result.probability = predict_probabilities(network, val_images)
        metric = math.nan
        if result.probability.isfinite().all():
            metric = validation_metric(result.probability)
        result.history.append(
            HistoryEntry(
                step,
                torch.stack(losses).mean().item(),
                WORST_METRIC if math.isnan(metric) else metric,
            )
        )
        losses.clear()
        if step < steps:
            network.load_state_dict(trained)
    if not result.probability.isfinite().all():
        network.load_state_dict(initial)
        result.probability = predict_probabilities(network, val_images)
    return result


@torch.no_grad()
def update_average(average: dict[str, Tensor], network: nn.Module, *, decay: float) -> None:
    """Move the averaged weights towards the network's current ones."""
    current = network.state_dict()
    floating = [name for name, part in average.items() if part.is_floating_point()]
    torch._foreach_lerp_([average[n] for n in floating], [current[n] for n in floating], 1 - decay)


def copy_weights(network: nn.Module) -> dict[str, Tensor]:
    """Copy the network's current weights."""
    return {name: part.clone() for name, part in network.state_dict().items()}


@torch.inference_mode()
def predict_probabilities(network: nn.Module, images: Tensor, *, batch: int = 16) -> Tensor:
    """Compute probabilities, the mean over each slice and its mirror image, left to right.

    On a CPU a U-Net is a quarter slower with 64 slices at a time than with 16, which fit the
    cache.

    Args:
        network: to logits, (N,1) of a classifier or (N,1,H,W) of a segmenter.
        images: (N,C,H,W).
        batch: slices at a time.
    """
    means = []
    for part in torch.split(images, batch):
        straight, mirrored = network(part).sigmoid(), network(part.flip(-1)).sigmoid()
        means.append((straight + (mirrored.flip(-1) if mirrored.ndim == 4 else mirrored)) / 2)
    return torch.cat(means)
