"""Show a discriminator images of all training slices, outlined or not.

semanticGAN (arXiv 2104.05833) has two discriminators: one sees images with masks, the other images
alone. Slices without outlines teach the second one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.common.slice_set import SliceSet
from tasks.stage.errors import InputError

UNKNOWN = -1  # label


@dataclass(frozen=True)
class SlicesWithoutOutlines:
    """The training slices without outlines on the device.

    `x` (N,C+1,H,W) in [-1, 1], the mask channel empty; `unlabelled` and `tumors` the positions of
    slices of unknown label and of tumour slices that nobody outlined. `unlabelled_shares` (2,): at
    a position of the batch with label 0 or 1, how probable one of the former takes the place of an
    outlined slice; `tumor_share`: how probable one of the latter does where the label is 1.
    `subjects`: whose they are.
    """

    x: Tensor
    unlabelled: Tensor
    tumors: Tensor
    unlabelled_shares: Tensor
    tumor_share: float
    subjects: frozenset[str]

    def random_batch(
        self, outlined: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Put slices without outlines in the place of some of a batch of outlined ones.

        A tumour slice takes only the place of one, and an unknown label is unknown for the
        generated slice at this position too. So neither a label nor that it is known tells real
        slices from generated ones.

        Args:
            outlined: (B,C+1,H,W).
            labels: (B,) in {0, 1}.
            generator: of the random numbers.

        Returns:
            (B,C+1,H,W), of which the mask means nothing, and labels (B,), -1 where unknown.
        """
        u = torch.rand(4, len(labels), generator=generator, device=labels.device)
        x, shown = outlined, labels
        if len(self.tumors):
            x = replaced(x, self.random_slices(self.tumors, u[0]), u[1] < self.tumor_share * labels)
        if len(self.unlabelled):
            taken = u[3] < self.unlabelled_shares[labels]
            x = replaced(x, self.random_slices(self.unlabelled, u[2]), taken)
            shown = torch.where(taken, UNKNOWN, labels)
        return x, shown

    def random_slices(self, rows: Tensor, u: Tensor) -> Tensor:
        """Return the slices (B,C+1,H,W) that uniform numbers (B,) choose."""
        return self.x[rows[(u * len(rows)).long().clamp(max=len(rows) - 1)]]


def replaced(x: Tensor, other: Tensor, where: Tensor) -> Tensor:
    """Return x (B,...) with the slices of `other` at some positions (B,)."""
    return torch.where(where[:, None, None, None], other, x)


def slices_without_outlines(
    slices: SliceSet, outlined_labels: Tensor, device: torch.device
) -> SlicesWithoutOutlines:
    """Put slices without outlines on the device.

    Half of a batch shows tumours. Of slices with unknown labels as many are expected to show one as
    of the outlined slices, so the more frequent label gives its place to them more often: the
    generated slices beside them then show tumours as often as they do.

    Args:
        slices: training slices with label -1, or with label 1 and no outline.
        outlined_labels: (M,) labels of the outlined training slices; both occur.
        device: of the tensors.

    Raises:
        InputError: when an image holds NaN or infinity.
    """
    images = torch.from_numpy(slices.images)
    if not_finite := int((~images.isfinite()).any((1, 2, 3)).sum()) if len(images) else 0:
        raise InputError(
            f"{not_finite} of {len(images)} slices without outlines in data/slices/images.npy hold"
            " values that are no numbers; `slices` writes none: run `dvc repro --force slices`"
        )
    labels = torch.tensor(slices.table["label"].to_numpy().copy())
    unlabelled, tumors = (torch.nonzero(labels == value)[:, 0] for value in (UNKNOWN, 1))
    counts = torch.bincount(outlined_labels.cpu(), minlength=2)
    share = len(unlabelled) / (len(slices) + len(outlined_labels))
    return SlicesWithoutOutlines(
        torch.cat([images, torch.full_like(images[:, :1], -1)], 1).to(device),
        unlabelled.to(device),
        tumors.to(device),
        (share * counts / counts.max()).float().to(device),
        len(tumors) / (len(tumors) + int(counts[1])),
        frozenset(slices.table["subject"].astype(str)),
    )
