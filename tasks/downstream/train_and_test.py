"""One run: a fold and a seed of an arm, from initial weights to judged test patients."""

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
from tasks.downstream.balanced_batches import balanced_batches
from tasks.downstream.classical_augmentation import Classical
from tasks.downstream.fit import Batch, fit, probabilities
from tasks.downstream.volume_dice import TestVolume, dice_volume
from tasks.params.downstream import TaskTraining

WEIGHTS, AUGMENTATION = 0, 1


class Task(Protocol):
    """What `classify` and `segment` both are; see there."""

    SCHEMA: Any

    def build(self, channels: int, *, seed: int) -> nn.Module:
        """The untrained network."""

    def loss(self, logits: Tensor, masks: Tensor, labels: Tensor) -> Tensor:
        """What training minimises."""

    def judge(self, probability: Tensor, slices: SliceSet) -> float:
        """How good the network is on validation patients; larger is better."""

    def beats_chance(self, metric: float) -> bool:
        """Whether that judgement is one of a network that learnt anything."""

    def threshold(self, probability: Tensor, slices: SliceSet) -> float:
        """The probability from which validation patients say tumour."""

    def predict(
        self, probability: Tensor, slices: SliceSet, *, cut: float, pixel_mm: float
    ) -> pd.DataFrame:
        """One row a test slice."""

    def score(self, predictions: pd.DataFrame, *, pixel_mm: float) -> dict[str, float]:
        """The metrics of one patient's slices."""


@dataclass(frozen=True)
class Fold:
    """The labelled slices of one fold; `added` are the arm's own, possibly none.

    `volumes` are the test patients' own, where whole ones are judged.
    """

    name: str
    train: SliceSet
    val: SliceSet
    test: SliceSet
    added: SliceSet
    pixel_mm: float
    volumes: tuple[TestVolume, ...] = ()


@dataclass(frozen=True)
class Run:
    """The tables that one run leaves; `ended` has one row (`tasks.schemas.predictions.Runs`)."""

    TABLES: ClassVar = ("predictions", "patients", "history", "ended")
    predictions: pd.DataFrame
    patients: pd.DataFrame
    history: pd.DataFrame
    ended: pd.DataFrame


def train_and_test(
    task: Task, arm: Arm, fold: Fold, training: TaskTraining, *, seed: int, device: torch.device
) -> Run:
    """Train on the arm's slices, choose weights and threshold on validation, judge on test."""
    key = (seed, zlib.crc32(fold.name.encode()))
    val_images = tensor(fold.val.images, device)
    network = task.build(
        val_images.shape[1], seed=seeded_generator(*key, WEIGHTS, 0).initial_seed()
    ).to(device)
    fitted = fit(
        network,
        task.loss,
        draw(arm, fold, training, key, device),
        lambda probability: task.judge(probability, fold.val),
        val_images,
        steps=training.steps,
        learning_rate=training.learning_rate,
        evaluations=training.evaluations,
    )
    cut = task.threshold(fitted.probability, fold.val)
    probability = probabilities(network, tensor(fold.test.images, device))
    predictions = task.predict(probability, fold.test, cut=cut, pixel_mm=fold.pixel_mm)
    whole = dice_volume(network, fold.volumes, cut=cut, device=device)
    site_of = fold.test.table.groupby("subject")["site"].first()

    def score(rows: pd.DataFrame) -> dict[str, float]:
        found = task.score(rows, pixel_mm=fold.pixel_mm)
        if not fold.volumes:
            return found
        return {"dice_volume": whole.get(rows["subject"].iloc[0], float("nan"))} | found

    patients = by_patient(predictions, site_of, score)
    history = pd.DataFrame([vars(entry) for entry in fitted.history])
    learnt = task.beats_chance(fitted.best)
    ended = pd.DataFrame([{"val_metric": fitted.best, "rise": fitted.late_gain, "learnt": learnt}])
    tables = predictions, patients, history, ended
    for table in tables:
        table.insert(0, "fold", fold.name)
        table.insert(1, "seed", seed)
    return Run(*tables)


def draw(
    arm: Arm, fold: Fold, training: TaskTraining, key: tuple[int, ...], device: torch.device
) -> Iterator[Batch]:
    """The batches of an arm: half from each of its two sources, or both halves from its one.

    Order and augmentation hang on the seed and the fold alone, never on the arm.
    """
    first = fold.train if arm.real else fold.added
    second = fold.added if arm.added else fold.train
    if training.strategy == "pretrain" and arm.real and arm.added:
        early = training.steps // 2
        phases = [(second, second, 0, early), (first, first, early, training.steps)]
    else:
        phases = [(first, second, 0, training.steps)]
    augment, draws = Classical(), seeded_generator(*key, AUGMENTATION)
    for one, other, start, stop in phases:
        labels = [half.table["label"].to_numpy() for half in (one, other)]
        halves = [to_device(half, device) for half in (one, other)]
        order = balanced_batches(*labels, steps=training.steps, batch=training.batch, seed=key)
        for chosen in islice(order, start, stop):
            picked = [
                [part[torch.as_tensor(rows, device=device)] for part in half]
                for half, rows in zip(halves, chosen, strict=True)
            ]
            images, masks, truth = (torch.cat(parts) for parts in zip(*picked, strict=True))
            if arm.classical:
                images, masks = augment(images, masks, draws)
            yield images, masks, truth


def to_device(slices: SliceSet, device: torch.device) -> Batch:
    """All images (N,C,H,W), masks (N,1,H,W) and labels (N,1) of a source on the device."""
    label = slices.table["label"].to_numpy()
    parts = slices.images, slices.masks[:, None], label[:, None]
    return tensor(parts[0], device), tensor(parts[1], device), tensor(parts[2], device)


def tensor(array: Any, device: torch.device) -> Tensor:
    """An array as float32 on the device."""
    return torch.tensor(array, dtype=torch.float32, device=device)


def by_patient(
    predictions: pd.DataFrame,
    site_of: "pd.Series[Any]",
    score: Callable[[pd.DataFrame], dict[str, float]],
) -> pd.DataFrame:
    """Score each patient's slices: one row a patient and metric."""
    rows = [
        {"subject": subject, "site": site_of[subject], "metric": metric, "value": value}
        for subject, slices in predictions.groupby("subject", sort=True)
        for metric, value in score(slices).items()
    ]
    return pd.DataFrame(rows)
