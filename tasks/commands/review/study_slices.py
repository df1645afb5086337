"""Choose the slices of a reader study: as many real as synthetic ones, of the same labels.

Real slices are of validation patients, whom the generator never trained on: beside its training
slices, a generator that copies them would look as real as they do. Test patients are never shown.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.common.reader_ratings import slice_sha256
from tasks.common.release_candidate import read_candidate
from tasks.common.slice_set import SliceSet, read_slices
from tasks.common.stored_values import to_stored_values
from tasks.schemas.review import ORIGINS, Origin
from tasks.stage.errors import InputError

MIN_PER_ORIGIN = 2


@dataclass(frozen=True)
class StudySlice:
    """One slice of a study.

    Attributes:
        row: in `data/slices`, in `data/synthetic/FOLD`, or among the slices of a trial's generator.
        cluster: the patient, or the slice itself where it is synthetic.
        trial: of a search, whose generator made the slice; None otherwise.
    """

    origin: Origin
    row: int
    label: int
    cluster: str
    sha256: str
    trial: int | None = None


@dataclass(frozen=True)
class SlicePool:
    """The slices that a study of a fold may show.

    `values` (N,C,H,W) uint16 in 0..4095 and `masks` (N,H,W) uint8 in {0,1}: real and synthetic
    slices in one array, of one type and one quantisation. `slices` describes them in that order.
    `digest` identifies the release candidate.
    """

    values: NDArray[np.uint16]
    masks: NDArray[np.uint8]
    slices: list[StudySlice]
    digest: str

    def select(self, chosen: list[StudySlice]) -> "SlicePool":
        """Return the pixels of the given slices, in their order.

        Raises:
            InputError: when a slice's pixels are no longer what they were.
        """
        place = {
            (each.origin, each.trial, each.row): number for number, each in enumerate(self.slices)
        }
        rows = [place.get((each.origin, each.trial, each.row), -1) for each in chosen]
        changed = sum(
            row < 0 or self.slices[row].sha256 != each.sha256
            for row, each in zip(rows, chosen, strict=True)
        )
        if changed:
            raise InputError(
                f"{changed} of the {len(chosen)} slices of this study are no longer what readers"
                " saw, because data/slices, data/synthetic or data/gate was made again;"
                " `auglift review export` keeps the answers, `auglift review --new` begins a new"
                " study"
            )
        return SlicePool(self.values[rows], self.masks[rows], chosen, self.digest)


def read_slice_pool(fold: str) -> SlicePool:
    """Read the accepted synthetic slices of a fold and the slices of its validation patients.

    Raises:
        InputError: a file is missing or damaged.
    """
    candidate = read_candidate([fold])
    real = read_real_slices(fold)
    accepted = np.flatnonzero(candidate.samples["accepted"])
    images, masks = candidate.images[accepted], candidate.masks[accepted]
    samples = candidate.samples.iloc[accepted]
    synthetic = [
        StudySlice("synthetic", int(row), int(label), f"synthetic {row}", slice_sha256(image, mask))
        for row, label, image, mask in zip(
            samples["row"], samples["label"], images, masks, strict=True
        )
    ]
    return join_origins(real, images, masks, synthetic, candidate.fold_digests[fold])


def read_real_slices(fold: str) -> SliceSet:
    """Read the slices of a fold's validation patients.

    Those whose tumour was never outlined are left out: without the outline they would stand out.
    """
    real = read_slices(fold, "val")
    known = real.table["label"] >= 0
    if "mask_known" in real.table:
        known &= real.table["mask_known"].astype(bool)
    return real.select(np.flatnonzero(known.to_numpy()))


def join_origins(
    real: SliceSet,
    images: NDArray[np.float32],
    masks: NDArray[np.uint8],
    synthetic: list[StudySlice],
    digest: str,
) -> SlicePool:
    """Join real and synthetic slices in one array, the real ones first."""
    real_masks = (real.masks > 0).astype(np.uint8)
    described = [
        StudySlice("real", int(row), int(label), f"patient {subject}", slice_sha256(image, mask))
        for row, label, subject, image, mask in zip(
            real.table["row"], real.table["label"], real.table["subject"],
            real.images, real_masks, strict=True,
        )
    ]  # fmt: skip
    return SlicePool(
        to_stored_values(np.concatenate([real.images, images])),
        np.concatenate([real_masks, masks]),
        [*described, *synthetic],
        digest,
    )


def choose_slices(pool: SlicePool, *, count: int, seed: int) -> list[StudySlice]:
    """Choose up to `count` slices: of each label as many real as synthetic ones.

    Half of them have a tumour, where there are enough; real ones come from as many patients as
    there are. The order says nothing: each reader gets a random one.

    Raises:
        InputError: when there are not two slices of each origin.
    """
    rng = np.random.default_rng(seed)
    table = pd.DataFrame([vars(each) for each in pool.slices])
    groups = {
        (origin, label): spread_over_clusters(
            table[(table["origin"] == origin) & (table["label"] == label)], rng
        )
        for origin in ORIGINS
        for label in (0, 1)
    }
    available = {
        label: min(len(groups[o, label]) for o in ("real", "synthetic")) for label in (0, 1)
    }
    of_origin = count // 2
    with_tumor = min(of_origin - of_origin // 2, available[1])
    without = min(of_origin - with_tumor, available[0])
    with_tumor = min(of_origin - without, available[1])
    if with_tumor + without < MIN_PER_ORIGIN:
        counts = {
            origin: int((table["origin"] == origin).sum()) for origin in ("real", "synthetic")
        }
        raise InputError(
            f"a study needs {MIN_PER_ORIGIN} real and {MIN_PER_ORIGIN} synthetic slices of the same"
            f" labels; there are {counts['real']} of validation patients and"
            f" {counts['synthetic']} that the gate accepted: add patients or raise generate.count"
        )
    chosen = [
        row
        for (_, label), rows in groups.items()
        for row in rows[: with_tumor if label == 1 else without]
    ]
    return [pool.slices[row] for row in sorted(chosen)]


def spread_over_clusters(group: pd.DataFrame, rng: np.random.Generator) -> list[int]:
    """Order rows at random so that every cluster comes once before any comes twice."""
    shuffled = group.iloc[rng.permutation(len(group))]
    turn = shuffled.groupby("cluster").cumcount()
    return [int(row) for row in shuffled.index[np.argsort(turn.to_numpy(), kind="stable")]]
