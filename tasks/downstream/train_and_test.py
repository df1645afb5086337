"""Run one fold and seed of an arm, from initial weights to the scores of test patients."""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, Protocol

import pandas as pd
import torch
from torch import Tensor, nn

from tasks.common.arms import Arm
from tasks.common.slice_set import SliceSet
from tasks.common.torch_setup import seeded_generator
from tasks.downstream.volume_dice import TestVolume, dice_volume
from tasks.params.downstream import SegmentTraining, TaskTraining
from tasks.training.augmentation import CLASSICAL, PAPER, Augmentation
from tasks.training.balanced_batches import balanced_batches
from tasks.training.fit import Batch, fit, predict_probabilities

WEIGHTS_STREAM, AUGMENTATION_STREAM = 0, 1
AUGMENTATIONS: dict[str, Augmentation | None] = {
    "": None, "classical": CLASSICAL, "paper-augmented": PAPER
}  # fmt: skip


class DownstreamTask(Protocol):
    """The interface of a downstream task; `classify` and `segment` are modules that implement it.

    `probability` is the sigmoid of the network's logits for N slices: (N,1) of a classifier,
    (N,1,H,W) of a segmenter. `train_and_test` calls the functions in the order in which they
    stand here; `PREDICTIONS_SCHEMA` is the pandera model of the table of predictions.
    """

    PREDICTIONS_SCHEMA: Any

    def build_network(self, channels: int, training: Any, *, seed: int) -> nn.Module:
        """Build the untrained network for (B,C,H,W) images."""

    def loss(self, logits: Tensor, masks: Tensor, labels: Tensor) -> Tensor:
        """Compute the scalar that training minimises; masks are (B,1,H,W), labels (B,1)."""

    def validation_metric(self, probability: Tensor, slices: SliceSet) -> float:
        """Compute the metric of the history, on validation slices; larger is better."""

    def beats_chance(self, metric: float) -> bool:
        """Return whether a network with this validation metric learnt anything."""

    def choose_threshold(self, probability: Tensor, slices: SliceSet) -> float:
        """Return the probability from which a slice or pixel counts as tumour."""

    def predict_slices(
        self, probability: Tensor, slices: SliceSet, *, threshold: float, pixel_mm: float
    ) -> pd.DataFrame:
        """Tabulate the predictions: one row a test slice, columns as in `PREDICTIONS_SCHEMA`."""

    def score_patient(self, predictions: pd.DataFrame, *, pixel_mm: float) -> dict[str, float]:
        """Compute the metrics of one patient from the rows of the patient's slices."""


@dataclass(frozen=True)
class FoldSlices:
    """The labelled slices of one fold; `added` are the arm's own, possibly none.

    `volumes` are the test patients' whole volumes, where these are scored.
    """

    name: str
    train: SliceSet
    val: SliceSet
    test: SliceSet
    added: SliceSet
    pixel_mm: float
    volumes: tuple[TestVolume, ...] = ()


@dataclass(frozen=True)
class RunTables:
    """The tables of one run; `outcome` has one row (`tasks.schemas.predictions.RunOutcomes`)."""

    TABLES: ClassVar = ("predictions", "patients", "history", "outcome")
    predictions: pd.DataFrame
    patients: pd.DataFrame
    history: pd.DataFrame
    outcome: pd.DataFrame


def train_and_test(
    task: DownstreamTask,
    arm: Arm,
    fold: FoldSlices,
    training: TaskTraining,
    *,
    seed: int,
    bf16: bool,
    device: torch.device,
) -> RunTables:
    """Train on the arm's slices, choose the threshold, score on test patients."""
    key = (seed, zlib.crc32(fold.name.encode()))
    val_images = to_tensor(fold.val.images, device)
    network = task.build_network(
        val_images.shape[1],
        training,
        seed=seeded_generator(*key, WEIGHTS_STREAM, 0).initial_seed(),
    ).to(device)
    result = fit(
        network,
        task.loss,
        training_batches(arm, fold, training, key, device),
        lambda probability: task.validation_metric(probability, fold.val),
        val_images,
        training=training,
        bf16=bf16,
    )
    threshold = task.choose_threshold(result.probability, fold.val)
    probability = predict_probabilities(network, to_tensor(fold.test.images, device))
    predictions = task.predict_slices(
        probability, fold.test, threshold=threshold, pixel_mm=fold.pixel_mm
    )
    volume_dice = dice_volume(
        network,
        fold.volumes,
        threshold=threshold,
        largest_component=isinstance(training, SegmentTraining)
        and training.components == "largest",
        device=device,
    )
    site_of = fold.test.table.groupby("subject")["site"].first()

    def score_patient(rows: pd.DataFrame) -> dict[str, float]:
        scores = task.score_patient(rows, pixel_mm=fold.pixel_mm)
        if not fold.volumes:
            return scores
        return {"dice_volume": volume_dice.get(rows["subject"].iloc[0], float("nan"))} | scores

    patients = score_by_patient(predictions, site_of, score_patient)
    history = pd.DataFrame([vars(entry) for entry in result.history])
    beats_chance = task.beats_chance(result.final)
    outcome = pd.DataFrame(
        [{"val_metric": result.final, "rise": result.late_rise, "learnt": beats_chance}]
    )
    tables = predictions, patients, history, outcome
    for table in tables:
        table.insert(0, "fold", fold.name)
        table.insert(1, "seed", seed)
    return RunTables(*tables)


def training_batches(
    arm: Arm, fold: FoldSlices, training: TaskTraining, key: tuple[int, ...], device: torch.device
) -> Iterator[Batch]:
    """Yield the batches of an arm: half real and half added slices, or all from its only source.

    Order and augmentation depend on the seed and the fold alone, never on the arm.
    """
    first = fold.train if arm.real else fold.added
    second = fold.added if arm.added else fold.train
    if training.strategy == "pretrain" and arm.real and arm.added:
        pretraining_steps = training.steps // 2
        phases = [
            (second, second, 0, pretraining_steps),
            (first, first, pretraining_steps, training.steps),
        ]
    else:
        phases = [(first, second, 0, training.steps)]
    augment, generator = (
        AUGMENTATIONS[arm.augmentation], seeded_generator(*key, AUGMENTATION_STREAM)
    )  # fmt: skip
    for first_half, second_half, start, stop in phases:
        labels = [half.table["label"].to_numpy() for half in (first_half, second_half)]
        halves = [to_device(half, device) for half in (first_half, second_half)]
        batches = balanced_batches(*labels, steps=training.steps, batch=training.batch, seed=key)
        for rows_of_halves in islice(batches, start, stop):
            halves_of_batch = [
                [part[torch.as_tensor(rows, device=device)] for part in half]
                for half, rows in zip(halves, rows_of_halves, strict=True)
            ]
            images, masks, labels_of_batch = (
                torch.cat(parts) for parts in zip(*halves_of_batch, strict=True)
            )
            if augment is not None:
                images, masks = augment(images, masks, generator)
            yield images, masks, labels_of_batch


def to_device(slices: SliceSet, device: torch.device) -> Batch:
    """Put all images (N,C,H,W), masks (N,1,H,W) and labels (N,1) of a source on the device."""
    label = slices.table["label"].to_numpy()
    parts = slices.images, slices.masks[:, None], label[:, None]
    return to_tensor(parts[0], device), to_tensor(parts[1], device), to_tensor(parts[2], device)


def to_tensor(array: Any, device: torch.device) -> Tensor:
    """Convert an array to float32 on the device."""
    return torch.tensor(array, dtype=torch.float32, device=device)


def score_by_patient(
    predictions: pd.DataFrame,
    site_of: "pd.Series[Any]",
    score_patient: Callable[[pd.DataFrame], dict[str, float]],
) -> pd.DataFrame:
    """Score each patient's slices: one row a patient and metric."""
    rows = [
        {"subject": subject, "site": site_of[subject], "metric": metric, "value": value}
        for subject, slices in predictions.groupby("subject", sort=True)
        for metric, value in score_patient(slices).items()
    ]
    return pd.DataFrame(rows)
