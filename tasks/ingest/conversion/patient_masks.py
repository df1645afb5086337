"""A patient's masks: read once, brought onto each image's grid, and checked against the images."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.ingest.conversion.readers import Mask, read_mask, resample_to_image
from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.core.scan_record import ScanRecord
from tasks.ingest.core.volume import Volume
from tasks.ingest.masks.plausibility import (
    CheckedImage,
    OutlineVisibility,
    check_place,
    ignores_image,
    judge_outline,
)
from tasks.params.ingest import Ingest

NO_TUMOUR = "mask-of-head"  # such a mask is left out; others of its image stay
NO_IMAGE = RejectionError("mask-without-image", "no image of its patient")
IGNORES = RejectionError("mask-ignores-image", "no image differs across the outline")


class PatientMasks:
    """Masks by their index in `masks`; at the end each mask is either used or rejected.

    One image that shows an outline is enough: the outline of an oedema is not visible in a T1. So
    whether masks ignore their images is decided after the last image. The outline of the whole
    tumour is checked, because there may be no contrast between its regions.
    """

    def __init__(self, masks: Sequence[ScanRecord], settings: Ingest) -> None:
        self.settings = settings
        self.readable: dict[int, Mask] = {}
        self.outlines: dict[int, Mask] = {}  # of the whole tumour
        self.errors: dict[int, RejectionError] = {}
        self.synthetic: set[int] = set()  # marked as synthetic by a header, a JSON file or a name
        self.used: set[int] = set()
        self._used_on: dict[str, list[int]] = {}  # masks by image
        self._views: dict[int, set[OutlineVisibility]] = {}  # by mask, of the unions that hold it
        for index, mask in enumerate(masks):
            try:
                self.readable[index] = read_mask(mask, settings)
            except RejectionError as error:
                self.errors[index] = error
            else:
                read = self.readable[index]
                if mask.synthetic or (isinstance(read, Volume) and read.synthetic):
                    self.synthetic.add(index)
                self.outlines[index] = self._read_outline(index, mask)

    def union_on_image(
        self, image: str, volume: Volume, chosen: Sequence[int], *, is_2d: bool
    ) -> NDArray[np.uint8] | None:
        """Unite the chosen masks on an image's grid, (I,J,K) in {0,1}; None without any mask.

        `is_2d` is whether these are 2D images: nothing says how two of different size are aligned.
        If one mask is misplaced, none is used, because the tumour would be incomplete.
        """
        checked_image: CheckedImage | None = None
        union: NDArray[np.uint8] | None = None
        united = []
        for index in chosen:
            if index not in self.readable:
                continue
            try:
                on_grid = bring_onto_grid(self.readable[index], volume, is_2d=is_2d)
                if self.settings.check_masks and on_grid.any():
                    checked_image = checked_image or CheckedImage.of(volume)
                    check_place(on_grid, checked_image)
            except RejectionError as error:
                if error.code != NO_TUMOUR:
                    self._reject(chosen, error)
                    return None
                del self.readable[index]
                self.errors[index] = error
                continue
            union = on_grid if union is None else union | on_grid
            united.append(index)
        if union is not None:
            if checked_image is not None:
                self._check_outline(united, union, volume, checked_image)
            self._used_on[image] = united
            self.used.update(united)
        return union

    def reject_ignored(self) -> list[str]:
        """Reject the masks whose outline no image shows; return the images that had these masks."""
        images = [
            image
            for image, united in self._used_on.items()
            if united and all(ignores_image(self._views.get(index, ())) for index in united)
        ]
        for image in images:
            self.used.difference_update(self._used_on[image])
            self._reject(self._used_on[image], IGNORES)
        return images

    def reasons_unused(self) -> dict[int, RejectionError]:
        """Return why masks were not used, by their index."""
        without_image = dict.fromkeys(self.readable, NO_IMAGE)
        return {k: v for k, v in (without_image | self.errors).items() if k not in self.used}

    def _read_outline(self, index: int, mask: ScanRecord) -> Mask:
        """Read the whole tumour if only a region is asked for and the labels tell the whole."""
        if self.settings.mask_labels == "whole" or not self.settings.check_masks:
            return self.readable[index]
        try:
            return read_mask(mask, self.settings.model_copy(update={"mask_labels": "whole"}))
        except RejectionError:
            return self.readable[index]

    def _check_outline(
        self,
        united: Sequence[int],
        union: NDArray[np.uint8],
        volume: Volume,
        checked_image: CheckedImage,
    ) -> None:
        """Note how clearly an image shows the outline of the whole tumour of some masks."""
        outline = union
        for index in united:
            if self.outlines[index] is not self.readable[index]:
                outline = outline | resample_to_image(self.outlines[index], volume)
        view = judge_outline(outline, checked_image)
        if view is not None:
            for index in united:
                self._views.setdefault(index, set()).add(view)

    def _reject(self, indices: Sequence[int], error: RejectionError) -> None:
        """Reject masks, unless they are rejected already."""
        for index in indices:
            self.errors.setdefault(index, error)


def bring_onto_grid(mask: Mask, image: Volume, *, is_2d: bool) -> NDArray[np.uint8]:
    """Bring one mask onto an image's grid, (I,J,K) in {0,1}.

    Raises:
        RejectionError: `mask-of-other-size` for 2D images, else as `resample_to_image`.
    """
    if is_2d and isinstance(mask, Volume) and mask.data.shape[:2] != image.data.shape[:2]:
        sizes = f"{mask.data.shape[:2]} pixels for a picture of {image.data.shape[:2]}"
        raise RejectionError("mask-of-other-size", sizes)
    return resample_to_image(mask, image)
