"""Real slices as the discriminator sees them: image and softened mask in one stack."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from tasks.common.slice_set import SliceSet
from tasks.stage.errors import InputError
from tasks.train_gan.conditions import scales, standardised

JITTER = 0.1  # standard deviations of a condition
OUTLINE_PX = 1.5  # from the outline to a mask's full depth; at a straight edge a 3 x 3 mean's ramp
NAMES = {0: "slices without tumour", 1: "tumour slices"}


@dataclass(frozen=True)
class Partition:
    """The labelled slices of one partition on the device.

    `x` (N,C+1,H,W) in [-1, 1]; `labels` (N,); `rows` the positions of labels 0 and 1;
    `conditions` (N,k) standardised, or None where k is 0.
    """

    x: Tensor
    labels: Tensor
    rows: tuple[Tensor, Tensor]
    patients: int
    conditions: Tensor | None = None

    def of(self, label: int) -> Tensor:
        """The slices (n,C+1,H,W) of one label."""
        return self.x[self.rows[label]]

    @property
    def masked(self) -> bool:
        """Whether any tumour slice came with a mask; a class folder's come with none."""
        return bool((self.of(1)[:, -1] > 0).any())


@dataclass(frozen=True)
class TrainingData:
    """What one fold trains on and is watched on.

    `scale` (k,2): the mean and deviation by which the conditions were standardised.
    """

    train: Partition
    val: Partition
    scale: Tensor | None = None

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor | None]:
        """Draw a batch, half of it tumour slices, with replacement.

        Returns:
            (size,C+1,H,W) in [-1, 1], labels (size,): 0, 1, 0, 1, ... so that every group of the
            minibatch standard deviation holds the labels in one proportion; conditions (size,k),
            jittered so that no number stands for one slice.
        """
        device = self.train.x.device
        chosen = torch.empty(size, dtype=torch.int64, device=device)
        for label in (0, 1):
            rows = self.train.rows[label]
            share = torch.rand(size // 2, generator=generator, device=device)
            chosen[label::2] = rows[(share * len(rows)).long().clamp(max=len(rows) - 1)]
        x, labels, conditions = self.train.x[chosen], self.train.labels[chosen], None
        if self.train.conditions is not None:
            conditions = self.train.conditions[chosen]
            ease = torch.randn(conditions.shape, generator=generator, device=device)
            conditions = conditions + JITTER * ease
        return x, labels, conditions


def to_device(
    train: SliceSet,
    val: SliceSet,
    *,
    soften: float,
    device: torch.device,
    conditions: Sequence[str] = (),
) -> TrainingData:
    """Put the labelled slices on the device.

    Raises:
        StageError: when the training slices of a label are none, or all the same.
    """
    scale = scales(train.table, conditions) if conditions else None
    trained, held = (
        partition(side, soften=soften, device=device, conditions=conditions, scale=scale)
        for side in (train, val)
    )
    examples = TrainingData(trained, held, scale)
    for label, name in NAMES.items():
        x = examples.train.of(label)
        if not len(x) or (x[:, :-1] == x[:1, :-1]).all():
            found = f"{len(x)} equal {name}" if len(x) else f"no {name}"
            raise InputError(
                f"{found} among the {len(examples.train.labels)} labelled training slices of"
                f" {examples.train.patients} patients; the generator needs different ones of both"
                " labels: add patients to data.batches, or make slices.val_fraction and"
                " slices.test_fraction smaller"
            )
    return examples


def partition(
    slices: SliceSet,
    *,
    soften: float,
    device: torch.device,
    conditions: Sequence[str] = (),
    scale: Tensor | None = None,
) -> Partition:
    """Labelled slices as tensors; unlabelled ones (-1) are left out.

    Raises:
        StageError: when an image holds NaN or infinity, which would look like a divergence.
    """
    known = slices.select((slices.table["label"] >= 0).to_numpy())
    if broken := int((~np.isfinite(known.images)).any((1, 2, 3)).sum()):
        raise InputError(
            f"{broken} of {len(known)} slices in data/slices/images.npy hold values that are no"
            " numbers; `slices` writes none: run `dvc repro --force slices`"
        )
    masks = soft_masks(known.masks, peak=soften)
    x = torch.cat([torch.from_numpy(known.images), masks], 1)  # (N,C+1,H,W)
    labels = torch.tensor(known.table["label"].to_numpy(np.int64))
    none, tumor = (torch.nonzero(labels == label)[:, 0].to(device) for label in (0, 1))
    patients = int(known.table["subject"].nunique())
    shown = None
    if scale is not None:
        shown = standardised(known.table, conditions, scale).to(device)
    return Partition(x.to(device), labels.to(device), (none, tumor), patients, shown)


def soft_masks(masks: NDArray[np.uint8], *, peak: float) -> Tensor:
    """0/1 masks (N,H,W) -> (N,1,H,W) in [-peak, peak], above 0 in each pixel of a mask, else below.

    A generator's tanh never reaches the crisp -1 and 1 of a drawn mask: the discriminator would
    score that and nothing else. The signed Euclidean distance to the outline, cut off at
    OUTLINE_PX, blurs it as a tanh does, and its zero level is the outline itself: a mean of
    neighbours would be cut at 0 to a smaller mask wherever the outline is convex. With a peak of 1
    the masks stay crisp.
    """
    if peak == 1:
        return torch.from_numpy(2 * masks[:, None].astype(np.float32) - 1)
    soft = np.full(masks.shape, -1, np.float32)
    for row in np.flatnonzero(masks.any((1, 2))):
        inside = masks[row] > 0
        if inside.all():
            soft[row] = 1
            continue
        # Distances run between pixel centres; the outline lies half a pixel before the other side.
        distance = np.where(
            inside,
            ndimage.distance_transform_edt(inside) - 0.5,
            0.5 - ndimage.distance_transform_edt(~inside),
        )
        soft[row] = (distance / OUTLINE_PX).clip(-1, 1)
    return torch.from_numpy(soft[:, None] * peak)
