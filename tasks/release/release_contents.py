"""Collect the slices of a release in one set: accepted synthetic slices, and real training slices.

The table's `origin` is `synthetic` or `real`. Real slices are only those of patients that train in
one fold: a patient who validates or tests there is never among what is to be trained on. Slices
that were synthetic at their source (`ingest.allow_synthetic`) are neither: no patient's, and not
judged by the gate. They are left out.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.common.flagged_slices import exclude_flagged
from tasks.common.release_candidate import ReleaseCandidate, read_candidate
from tasks.common.slice_set import Partition, SliceSet, read_slice_set, read_slices
from tasks.params.release import Release
from tasks.schemas.review import read_review
from tasks.stage.errors import InputError

SLICES: Final = Path("data/slices")
SYNTHETIC, REAL = "synthetic", "real"


@dataclass(frozen=True)
class ReleaseContents:
    """The N slices of a release, the synthetic ones first.

    `images` (N,C,H,W) float32 in [-1,1]; `masks` (N,H,W) uint8 in {0,1}. `table` N rows: `name`
    (stem of the slice's files), `subject`, `session`, `origin`, `partition` (always `train`),
    `label` (1 tumour, 0 none, -1 unknown), `mask_known`, `tumor_area_mm2`, and of synthetic slices
    `fold`, `seed`, `source_row`.
    """

    images: NDArray[np.float32]
    masks: NDArray[np.uint8]
    table: pd.DataFrame

    def of_origin(self, origin: str) -> "ReleaseContents":
        """Return the slices of one origin."""
        rows = (self.table["origin"] == origin).to_numpy()
        table = self.table[rows].reset_index(drop=True)
        return ReleaseContents(self.images[rows], self.masks[rows], table)

    def __add__(self, other: "ReleaseContents") -> "ReleaseContents":
        return ReleaseContents(
            np.concatenate([self.images, other.images]),
            np.concatenate([self.masks, other.masks]),
            pd.concat([self.table, other.table], ignore_index=True),
        )


def choose_candidate(settings: Release, folds: list[str]) -> tuple[ReleaseCandidate, str]:
    """Read what would be released, and the digest that an approval names.

    An augmented release takes one fold: generators of other folds have learnt from patients who
    test in it. What readers flagged (`data/review.json`) is left out.
    """
    review = read_review()
    if settings.contents == "augmented":
        fold = settings.choose_fold(folds)
        candidate = exclude_flagged(read_candidate([fold]), review)
        return candidate, augmented_digest(candidate, fold)
    candidate = exclude_flagged(read_candidate(folds), review)
    return candidate, candidate.digest


def accepted_slices(candidate: ReleaseCandidate, *, pixel_mm: float) -> ReleaseContents:
    """Take the slices that the gate accepted: each is a synthetic subject of its own."""
    rows = np.flatnonzero(candidate.samples["accepted"])
    samples, masks = candidate.samples.iloc[rows], candidate.masks[rows]
    names = [f"sub-syn{number:05d}" for number in range(1, len(rows) + 1)]
    table = pd.DataFrame(
        {
            "name": names,
            "subject": names,
            "session": "",
            "origin": SYNTHETIC,
            "partition": "train",
            "label": samples["label"].to_numpy(),
            "mask_known": (samples["label"] == 0).to_numpy() | masks.any(axis=(1, 2)),
            "tumor_area_mm2": (masks.sum(axis=(1, 2)) * pixel_mm**2).round(1),
            "fold": samples["fold"].to_numpy(),
            # Whole numbers also beside real slices, which have none.
            "seed": samples["seed"].astype("Int64").array,
            "source_row": samples["row"].astype("Int64").array,
        }
    )
    return ReleaseContents(candidate.images[rows], masks, table)


def training_slices(fold: str) -> ReleaseContents:
    """Read the real slices of the patients that train in a fold, named by their pseudonyms.

    Raises:
        InputError: a patient, or the pixels of a slice, are in another partition as well.
    """
    slices = read_slices(fold, "train")
    check_no_held_out_pixels(slices, fold)
    slices = slices.select(~synthetic_at_source(slices.table))
    table = slices.table
    session = table["session"].fillna("") if "session" in table else pd.Series("", table.index)
    known = table["mask_known"] if "mask_known" in table else pd.Series(True, index=table.index)
    # A slice that is known to show no tumour has an empty mask.
    outlined = known.astype(bool) | (table["label"] == 0)
    number = table.groupby([table["subject"], session]).cumcount() + 1
    stems = table["subject"] + session.where(session == "", "_" + session)
    return ReleaseContents(
        slices.images,
        slices.masks,
        pd.DataFrame(
            {
                "name": [f"{stem}_chunk-{n:03d}" for stem, n in zip(stems, number, strict=True)],
                "subject": table["subject"],
                "session": session,
                "origin": REAL,
                "partition": "train",
                "label": table["label"],
                "mask_known": outlined,
                "tumor_area_mm2": table["tumor_area_mm2"].round(1).where(outlined),
            }
        ),
    )


def synthetic_at_source(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which slices (N,) were marked as synthetic when they were ingested."""
    if "marked_synthetic" not in table:
        return np.zeros(len(table), dtype=bool)
    return table["marked_synthetic"].to_numpy(dtype=bool)


def count_synthetic_at_source(fold: str) -> int:
    """Count the training slices of a fold that were synthetic at their source."""
    return int(synthetic_at_source(read_slices(fold, "train").table).sum())


def check_no_held_out_pixels(training: SliceSet, fold: str) -> None:
    """Reject training slices whose pixels a validation or test patient has too.

    Raises:
        InputError: naming both (pseudonymous) patients.
    """
    owner = dict(zip(slice_digests(training), training.table["subject"], strict=True))
    held_out_partitions: tuple[Partition, ...] = ("val", "test")
    for partition in held_out_partitions:
        held_out = read_slices(fold, partition)
        for digest, subject in zip(slice_digests(held_out), held_out.table["subject"], strict=True):
            if digest in owner:
                raise InputError(
                    f"fold {fold}: {owner[digest]} trains and {subject} is in {partition!r}, and a"
                    " slice of both has the same pixels: they are one patient; join them in"
                    " files.csv, then run `dvc repro`"
                )


def slice_digests(slices: SliceSet) -> list[bytes]:
    """Compute a digest of each slice's pixels; of a slice without contrast a unique one."""
    return [
        hashlib.sha256(image.tobytes()).digest() if np.ptp(image) else f"flat {row}".encode()
        for row, image in enumerate(slices.images)
    ]


def read_patients(fold: str) -> pd.DataFrame:
    """Tabulate every real patient (`subject`) with the partition in a fold and its slices."""
    table = read_slice_set(SLICES, "slices.parquet").table
    table = table[~synthetic_at_source(table)]
    grouped = table.groupby("subject", sort=True)
    return pd.DataFrame(
        {
            "partition": grouped[f"partition_{fold}"].agg(
                lambda values: next((v for v in values if v != "unused"), "unused")
            ),
            "slices": grouped.size(),
            "tumor_slices": grouped["label"].agg(lambda labels: int((labels == 1).sum())),
            "unlabelled_slices": grouped["label"].agg(lambda labels: int((labels == -1).sum())),
        }
    ).reset_index()


def augmented_digest(candidate: ReleaseCandidate, fold: str) -> str:
    """Derive the digest of an augmented release, so that no approval of synthetic slices holds."""
    digest = hashlib.sha256(f"augmented {fold} {candidate.digest}".encode())
    for name in ("images.npy", "masks.npy", "slices.parquet"):
        digest.update(hashlib.sha256((SLICES / name).read_bytes()).digest())
    return digest.hexdigest()
