"""`auglift.load_release` and `load_augmented`: a release as a dataset of MONAI and torch.

An item has the keys of the datalist that `auglift export-dataset --format monai-datalist` writes:

    image    (C,H,W) float32 in [-1, 1], air at -1
    label    (1,H,W) uint8, 1 where there is tumour; only with masks
    tumor    1 tumour, 0 none, -1 unknown
    origin   synthetic or real
    subject  the patient's pseudonym, or the name of a synthetic subject
    fold     to validate on; -1 of synthetic slices, which always train
    name     of the slice
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import Dataset
from numpy.typing import NDArray

from tasks.commands.export_dataset.folds import folds_by_patient
from tasks.commands.export_dataset.monai_datalist import TRAINS_ALWAYS
from tasks.commands.export_dataset.release_folder import (
    RefusedReleaseError,
    ReleaseFolder,
    Slice,
    read_release,
)
from tasks.common.stored_values import MAX_STORED_VALUE
from tasks.stage.errors import InputError

Transform = Callable[[dict[str, Any]], Any]


class ReleaseDataset(Dataset):  # type: ignore[misc]
    """Slices of a release; an item is read when it is asked for, and holds no open file.

    Attributes:
        slices: the slices, in the order of the items.
        modalities: what the channels show.
        pixel_mm: side of a pixel.
        description: what the data set is, in two sentences that must go with every copy.
        license: under which it was released.
        version: of the release.
    """

    def __init__(
        self,
        release: ReleaseFolder,
        slices: list[Slice],
        *,
        masks: bool,
        transform: Transform | None,
    ) -> None:
        self.slices = [each for each in slices if each.mask is not None or not masks]
        self.modalities = release.modalities
        self.pixel_mm = release.pixel_mm
        self.description = release.description
        self.license = release.license_words
        self.version: str = release.summary["version"]
        self._masks = masks
        real = [each for each in release.outlined if not each.synthetic]
        self._folds = folds_by_patient([each.subject for each in real])
        super().__init__(self.slices, transform)

    def _transform(self, index: int) -> Any:
        """Read an item and transform it; MONAI's `__getitem__` calls this."""
        item = self._read(self.slices[index])
        return item if self.transform is None else self.transform(item)

    def _read(self, each: Slice) -> dict[str, Any]:
        stored = np.stack([read_plane(path) for path in each.images]).astype(np.float32)
        item: dict[str, Any] = {
            "image": torch.from_numpy(stored * np.float32(2 / MAX_STORED_VALUE) - 1)
        }
        if self._masks:
            assert each.mask is not None
            outline = np.ascontiguousarray(read_plane(each.mask), dtype=np.uint8)
            item["label"] = torch.from_numpy(outline[None])
        fold = TRAINS_ALWAYS if each.synthetic else self._folds.get(each.subject, TRAINS_ALWAYS)
        return item | {
            "tumor": each.label,
            "origin": "synthetic" if each.synthetic else "real",
            "subject": each.subject,
            "fold": fold,
            "name": each.name,
        }


def read_plane(path: Path) -> NDArray[Any]:
    """Read a slice as (H,W): rows anterior to posterior, columns patient right to left."""
    image: Any = nib.load(path)
    return np.asarray(image.dataobj)[:, :, 0].T


def load_release(
    folder: str | Path, *, masks: bool = True, transform: Transform | None = None
) -> ReleaseDataset:
    """Load the synthetic slices of a release; its checksums are verified first.

    Args:
        folder: `data/release`, or what `auglift release fetch` wrote.
        masks: whether items have a `label`.
        transform: of MONAI, applied to each item.

    Raises:
        InputError: when it is no release, is not as it was handed over, or is a refusal.
    """
    release = read_checked(folder)
    synthetic = [each for each in release.slices if each.synthetic]
    return ReleaseDataset(release, synthetic, masks=masks, transform=transform)


def load_augmented(
    folder: str | Path, *, masks: bool = True, transform: Transform | None = None
) -> ReleaseDataset:
    """Load the real training slices of an augmented release beside its synthetic ones.

    It holds patients' data, pseudonymised and not anonymous. Validate on one `fold` from 0 and
    train on all others; evaluate on patients who are not in it, because the generator learnt from
    these.

    Args:
        folder: a release that was made with `release.contents: augmented`.
        masks: whether items have a `label`; slices whose outline is not known are then left out.
        transform: of MONAI, applied to each item.

    Raises:
        InputError: when it is no augmented release, is not as it was handed over, or is a refusal.
    """
    release = read_checked(folder)
    if not release.augmented:
        raise InputError(
            f"{folder} holds synthetic slices only; load it with load_release, or release again"
            " with release.contents: augmented"
        )
    return ReleaseDataset(release, release.slices, masks=masks, transform=transform)


def read_checked(folder: str | Path) -> ReleaseFolder:
    """Read a release; a refusal is wrong input, with its reasons."""
    try:
        return read_release(Path(folder))
    except RefusedReleaseError as error:
        raise InputError(str(error)) from None
