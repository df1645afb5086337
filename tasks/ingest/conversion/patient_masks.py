"""A patient's masks: read once, laid on each image, judged, and what became of each."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.ingest.conversion.readers import Mask, read_mask, resample_to_image
from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.core.scan_record import ScanRecord
from tasks.ingest.core.volume import Volume
from tasks.ingest.masks.plausibility import Scene, View, check_place, is_ignored, view_of
from tasks.params.ingest import Ingest

NO_TUMOUR = "mask-of-head"  # such a mask is left out; others of its image stay
NO_IMAGE = RejectionError("mask-without-image", "no image of its patient")
IGNORES = RejectionError("mask-ignores-image", "no image differs across the outline")


class PatientMasks:
    """Masks by their place in `masks`; each ends as used or with a refusal.

    One image that shows an outline is enough: that of an oedema does not show in a T1. So whether
    masks ignore their images is known after the last one. What is looked for is the outline of the
    whole tumour: between its regions there may be nothing to see.
    """

    def __init__(self, masks: Sequence[ScanRecord], params: Ingest) -> None:
        self.params = params
        self.readable: dict[int, Mask] = {}
        self.outlines: dict[int, Mask] = {}  # of the whole tumour
        self.refusals: dict[int, RejectionError] = {}
        self.used: set[int] = set()
        self._united: dict[str, list[int]] = {}  # by image
        self._views: dict[int, set[View]] = {}  # what images say of the unions with a mask in them
        for index, mask in enumerate(masks):
            try:
                self.readable[index] = read_mask(mask, params)
            except RejectionError as refusal:
                self.refusals[index] = refusal
            else:
                self.outlines[index] = self._read_outline(index, mask)

    def lay_on(
        self, image: str, volume: Volume, chosen: Sequence[int], *, flat: bool
    ) -> NDArray[np.uint8] | None:
        """The union of the chosen masks on an image's grid, (I,J,K) in {0,1}; None without any.

        `flat` is whether they are pictures: nothing says how those of two sizes lie on each other.
        Where one mask lies wrongly none is used, as the tumour would not be whole.
        """
        scene: Scene | None = None
        union: NDArray[np.uint8] | None = None
        united = []
        for index in chosen:
            if index not in self.readable:
                continue
            try:
                laid = lay(self.readable[index], volume, flat=flat)
                if self.params.check_masks and laid.any():
                    scene = scene or Scene.of(volume)
                    check_place(laid, scene)
            except RejectionError as refusal:
                if refusal.code != NO_TUMOUR:
                    self._refuse(chosen, refusal)
                    return None
                del self.readable[index]
                self.refusals[index] = refusal
                continue
            union = laid if union is None else union | laid
            united.append(index)
        if union is not None:
            if scene is not None:
                self._look(united, union, volume, scene)
            self._united[image] = united
            self.used.update(united)
        return union

    def ignored(self) -> list[str]:
        """The images whose masks' outlines no image shows; their masks are refused."""
        images = [
            image
            for image, united in self._united.items()
            if united and all(is_ignored(self._views.get(index, ())) for index in united)
        ]
        for image in images:
            self.used.difference_update(self._united[image])
            self._refuse(self._united[image], IGNORES)
        return images

    def unused(self) -> dict[int, RejectionError]:
        """Why masks were not used, by their place."""
        never = dict.fromkeys(self.readable, NO_IMAGE)
        return {k: v for k, v in (never | self.refusals).items() if k not in self.used}

    def _read_outline(self, index: int, mask: ScanRecord) -> Mask:
        """The whole tumour of a mask of which a region is asked for, where its labels tell it."""
        if self.params.mask_labels == "whole" or not self.params.check_masks:
            return self.readable[index]
        try:
            return read_mask(mask, self.params.model_copy(update={"mask_labels": "whole"}))
        except RejectionError:
            return self.readable[index]

    def _look(
        self, united: Sequence[int], union: NDArray[np.uint8], volume: Volume, scene: Scene
    ) -> None:
        """Note what an image says of the outline of some masks' whole tumour."""
        outline = union
        for index in united:
            if self.outlines[index] is not self.readable[index]:
                outline = outline | resample_to_image(self.outlines[index], volume)
        view = view_of(outline, scene)
        if view is not None:
            for index in united:
                self._views.setdefault(index, set()).add(view)

    def _refuse(self, indices: Sequence[int], refusal: RejectionError) -> None:
        """Refuse masks, unless they were before."""
        for index in indices:
            self.refusals.setdefault(index, refusal)


def lay(mask: Mask, image: Volume, *, flat: bool) -> NDArray[np.uint8]:
    """One mask on an image's grid."""
    if flat and isinstance(mask, Volume) and mask.data.shape[:2] != image.data.shape[:2]:
        found = f"{mask.data.shape[:2]} pixels for a picture of {image.data.shape[:2]}"
        raise RejectionError("mask-of-other-size", found)
    return resample_to_image(mask, image)
