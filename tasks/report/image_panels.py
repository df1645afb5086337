"""Sheets of real and synthetic slices, and the pairs that look most like copies."""

import base64
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from tasks.common.release_candidate import Candidate
from tasks.common.slice_montage import evenly_spaced, slice_montage
from tasks.common.slice_set import SliceSet
from tasks.report import wording

LABELS: Final = {1: "with tumour", 0: "without tumour"}


@dataclass(frozen=True)
class Picture:
    """A picture of the page; `alt` says what it shows, `caption` what it means."""

    uri: str
    alt: str
    caption: str
    width: int
    height: int


@dataclass(frozen=True)
class SideBySide:
    """Real and synthetic slices of one label; either may be missing."""

    title: str
    real: Picture | None
    synthetic: Picture | None


def side_by_side(real: SliceSet, candidate: Candidate, *, label: int, tiles: int) -> SideBySide:
    """Slices of one label, evenly spaced through the set: real ones, and what would be released.

    Only where no slice was accepted, generated ones stand in, and the caption says so.
    """
    of_label = np.flatnonzero(real.table["label"] == label)
    chosen = evenly_spaced(of_label, tiles)
    truth = None
    if len(chosen):
        truth = picture(
            slice_montage(
                real.images[chosen, 0], real.masks[chosen], marks=["REAL"] * tiles, columns=4
            ),
            alt=f"{len(chosen)} real slices {LABELS[label]}",
            caption=f"{len(chosen)} of {len(of_label)} real slices {LABELS[label]}.",
        )
    made = np.flatnonzero(candidate.samples["label"] == label)
    passed = made[candidate.samples["accepted"].to_numpy()[made]]
    shown = evenly_spaced(passed if len(passed) else made, tiles)
    invented = None
    if len(shown):
        state = "accepted" if len(passed) else "generated (none was accepted)"
        invented = picture(
            synthetic_sheet(candidate, shown),
            alt=f"{len(shown)} synthetic slices {LABELS[label]}",
            caption=f"{len(shown)} of {len(passed) or len(made)} {state} synthetic slices"
            f" {LABELS[label]} ({places(candidate.samples, shown)}).",
        )
    return SideBySide(f"Slices {LABELS[label]}", truth, invented)


def refused(candidate: Candidate, *, tiles: int) -> list[Picture]:
    """For each reason that single slices were refused for, a sheet of some of them."""
    reasons = candidate.samples["reason"].where(~candidate.samples["accepted"])
    pictures = []
    for reason in sorted(reasons.dropna().unique()):
        members = np.flatnonzero(reasons == reason)
        shown = evenly_spaced(members, tiles)
        pictures.append(
            picture(
                synthetic_sheet(candidate, shown),
                alt=f"{len(shown)} refused synthetic slices: {reason}",
                caption=f"{len(members)} refused: {wording.REASONS.get(reason, reason)}.",
            )
        )
    return pictures


def pairs(real: SliceSet, candidate: Candidate, *, copies: bool, count: int) -> list[Picture]:
    """The slices most like a training slice, each beside it: refused as copies, or accepted.

    Where none was accepted, all that were not called copies stand in for the accepted. Empty
    where the gate names no training slice (`suspect_row`).
    """
    samples = candidate.samples
    if not {"suspect_row", "suspect_by", "suspect_ratio", "suspicion"} <= set(samples):
        return []
    called = samples["reason"] == "memorised"
    passed = samples["accepted"] if samples["accepted"].any() else ~called
    known = samples[called if copies else passed]
    found = []
    # By the ratio: smooth slices are near to everything, also to patients nobody trained on.
    closest = known.sort_values(["suspicion", "row"], kind="stable")
    for place, sample in closest.head(count).iterrows():
        here, there = int(str(place)), int(sample["suspect_row"])
        by = wording.DETECTORS.get(str(sample["suspect_by"]), str(sample["suspect_by"]))
        ratio = wording.number(float(sample["suspect_ratio"]))
        images = np.stack([candidate.images[here, 0], real.images[there, 0]])
        masks = np.stack([candidate.masks[here], real.masks[there]])
        patient = real.table["subject"].iloc[there]
        found.append(
            picture(
                slice_montage(images, masks, marks=["SYNTHETIC", "REAL"], columns=2),
                alt=f"synthetic slice {sample['row']} beside training slice {there}",
                caption=f"By {by}, ratio {ratio}. Synthetic slice {sample['row']} of"
                f" fold {sample['fold']}; training slice {there} of {patient}.",
            )
        )
    return found


def synthetic_sheet(candidate: Candidate, rows: NDArray[np.intp]) -> Image.Image:
    """A sheet of synthetic slices, every tile of it marked."""
    marks = ["SYNTHETIC"] * len(rows)
    return slice_montage(candidate.images[rows, 0], candidate.masks[rows], marks=marks, columns=4)


def places(samples: pd.DataFrame, rows: NDArray[np.intp]) -> str:
    """Which rows of which folds are shown, so that a slice can be found again."""
    chosen = samples.iloc[rows]
    return "; ".join(
        f"fold {fold}, rows {', '.join(map(str, group['row']))}"
        for fold, group in chosen.groupby("fold", sort=False)
    )


def picture(image: Image.Image, *, alt: str, caption: str) -> Picture:
    """Pack an image into the page."""
    buffer = BytesIO()
    image.save(buffer, format="PNG")
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return Picture(uri, alt, caption, *image.size)
