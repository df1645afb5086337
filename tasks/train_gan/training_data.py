"""Put real slices on the device, each image in one stack with its softened mask."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.dcgan import SITE
from tasks.common.generator_slices import teach_with_masks
from tasks.common.slice_set import SliceSet
from tasks.common.soft_mask import soft_mask
from tasks.stage.errors import InputError
from tasks.train_gan.conditions import condition_names, condition_scales, standardise_conditions
from tasks.train_gan.slices_without_outlines import SlicesWithoutOutlines, slices_without_outlines

JITTER = 0.1  # standard deviations of a condition
LABEL_NAMES = {0: "slices without tumour", 1: "tumour slices"}


@dataclass(frozen=True)
class LabelledSlices:
    """The labelled slices of one partition on the device.

    `x` (N,C+1,H,W) in [-1, 1]; `labels` (N,); `rows_by_label` the positions of labels 0 and 1;
    `conditions` (N,k) standardised, or None where k is 0.
    """

    x: Tensor
    labels: Tensor
    rows_by_label: tuple[Tensor, Tensor]
    subjects: frozenset[str]
    conditions: Tensor | None = None

    def with_label(self, label: int) -> Tensor:
        """Return the slices (n,C+1,H,W) of one label."""
        return self.x[self.rows_by_label[label]]

    @property
    def masked(self) -> bool:
        """Whether any tumour slice came with a mask; those of a class folder come without."""
        return bool((self.with_label(1)[:, -1] > 0).any())


@dataclass(frozen=True)
class TrainingData:
    """The training and validation slices of one fold.

    `condition_names` (k) and `condition_scale` (k,2): mean and standard deviation by which the
    conditions were standardised. `without_outlines`: the training slices that are seen without a
    mask, None where there are none. `patient_count`: whose images the generator sees.
    """

    train: LabelledSlices
    val: LabelledSlices
    condition_scale: Tensor | None = None
    condition_names: tuple[str, ...] = ()
    without_outlines: SlicesWithoutOutlines | None = None

    @property
    def patient_count(self) -> int:
        """The patients of all training slices, with masks or without."""
        others = self.without_outlines.subjects if self.without_outlines else frozenset()
        return len(self.train.subjects | others)

    def random_batch(
        self, size: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Sample a batch with replacement, half of it tumour slices.

        Returns:
            (size,C+1,H,W) in [-1, 1]; labels (size,): 0, 1, 0, 1, ... so that every group of the
            minibatch standard deviation holds both labels in the same proportion; conditions
            (size,k) with jitter of all but the site, so that no value identifies one slice.
        """
        device = self.train.x.device
        chosen = torch.empty(size, dtype=torch.int64, device=device)
        for label in (0, 1):
            rows = self.train.rows_by_label[label]
            share = torch.rand(size // 2, generator=generator, device=device)
            chosen[label::2] = rows[(share * len(rows)).long().clamp(max=len(rows) - 1)]
        x, labels, conditions = self.train.x[chosen], self.train.labels[chosen], None
        if self.train.conditions is not None:
            conditions = self.train.conditions[chosen].clone()
            measured = sum(not name.startswith(SITE) for name in self.condition_names)
            jitter = torch.randn((size, measured), generator=generator, device=device)
            conditions[:, :measured] += JITTER * jitter
        return x, labels, conditions


def to_device(
    train: SliceSet,
    val: SliceSet,
    *,
    mask_peak: float,
    device: torch.device,
    conditions: Sequence[str] = (),
    without_outlines: bool = False,
) -> TrainingData:
    """Put the slices of a fold on the device.

    Args:
        train, val: its training and validation slices.
        mask_peak: of softened masks (`soft_masks`).
        device: where they are put.
        conditions: area, position, site.
        without_outlines: whether training slices without outlines are taken too.

    Raises:
        InputError: when the training slices of a label are none, or all the same.
    """
    with_masks = teach_with_masks(train.table)
    outlined, others = train.select(with_masks), train.select(~with_masks)
    names = condition_names(conditions, outlined.table)
    scale = condition_scales(outlined.table, names) if names else None
    train_slices, val_slices = (
        labelled_slices(slices, mask_peak=mask_peak, device=device, conditions=names, scale=scale)
        for slices in (outlined, val)
    )
    examples = TrainingData(train_slices, val_slices, scale, names)
    check_both_labels(examples)
    if without_outlines and len(others):
        images = slices_without_outlines(others, train_slices.labels, device)
        examples = replace(examples, without_outlines=images)
    return examples


def check_both_labels(examples: TrainingData) -> None:
    """Check that there are different training slices of both labels.

    Raises:
        InputError: when those of a label are none, or all the same.
    """
    for label, name in LABEL_NAMES.items():
        x = examples.train.with_label(label)
        if not len(x) or (x[:, :-1] == x[:1, :-1]).all():
            fault = f"{len(x)} equal {name}" if len(x) else f"no {name}"
            raise InputError(
                f"{fault} among the {len(examples.train.labels)} labelled training slices of"
                f" {len(examples.train.subjects)} patients; the generator needs different ones"
                " of both labels: add patients to data.batches, or make slices.val_fraction and"
                " slices.test_fraction smaller"
            )


def labelled_slices(
    slices: SliceSet,
    *,
    mask_peak: float,
    device: torch.device,
    conditions: Sequence[str] = (),
    scale: Tensor | None = None,
) -> LabelledSlices:
    """Stack labelled slices and masks as tensors; unlabelled slices (-1) are left out.

    Raises:
        InputError: when an image holds NaN or infinity, which would look like a divergence.
    """
    labelled = slices.select((slices.table["label"] >= 0).to_numpy())
    if not_finite := int((~np.isfinite(labelled.images)).any((1, 2, 3)).sum()):
        raise InputError(
            f"{not_finite} of {len(labelled)} slices in data/slices/images.npy hold values that are"
            " no numbers; `slices` writes none: run `dvc repro --force slices`"
        )
    masks = soft_masks(labelled.masks, peak=mask_peak)
    x = torch.cat([torch.from_numpy(labelled.images), masks], 1)  # (N,C+1,H,W)
    labels = torch.tensor(labelled.table["label"].to_numpy(np.int64))
    none, tumor = (torch.nonzero(labels == label)[:, 0].to(device) for label in (0, 1))
    subjects = frozenset(labelled.table["subject"].astype(str))
    standardised = None
    if scale is not None:
        standardised = standardise_conditions(labelled.table, conditions, scale).to(device)
    return LabelledSlices(x.to(device), labels.to(device), (none, tumor), subjects, standardised)


def soft_masks(masks: NDArray[np.uint8], *, peak: float) -> Tensor:
    """Convert 0/1 masks (N,H,W) to (N,1,H,W) in [-peak, peak], above 0 inside a mask.

    With a peak of 1 the masks stay crisp.
    """
    if peak == 1:
        return torch.from_numpy(2 * masks[:, None].astype(np.float32) - 1)
    soft = np.empty(masks.shape, np.float32)
    for row, mask in enumerate(masks > 0):
        soft[row] = soft_mask(mask)
    return torch.from_numpy(soft[:, None] * peak)
