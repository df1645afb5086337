"""Make montages of real and synthetic slices, and of the pairs that look most like copies."""

import base64
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from tasks.common.release_candidate import ReleaseCandidate
from tasks.common.slice_montage import evenly_spaced, slice_montage
from tasks.common.slice_set import SliceSet
from tasks.report import wording

LABELS: Final = {1: "with tumour", 0: "without tumour"}


@dataclass(frozen=True)
class PageImage:
    """An image of the page; `alt` describes it, `caption` explains it."""

    uri: str
    alt: str
    caption: str
    width: int
    height: int


@dataclass(frozen=True)
class RealBesideSynthetic:
    """Real and synthetic slices of one label; either may be missing."""

    title: str
    real: PageImage | None
    synthetic: PageImage | None


def real_beside_synthetic(
    real: SliceSet, candidate: ReleaseCandidate, *, label: int, tiles: int
) -> RealBesideSynthetic:
    """Show slices of one label, evenly spaced: real ones, and what would be released.

    Generated slices stand in only where no slice was accepted, and the caption says so.
    """
    of_label = np.flatnonzero(real.table["label"] == label)
    real_rows = evenly_spaced(of_label, tiles)
    real_image = None
    if len(real_rows):
        real_image = embed_image(
            slice_montage(
                real.images[real_rows, 0].astype(np.float32),
                real.masks[real_rows],
                marks=["REAL"] * tiles,
                columns=4,
            ),
            alt=f"{len(real_rows)} real slices {LABELS[label]}",
            caption=f"{len(real_rows)} of {len(of_label)} real slices {LABELS[label]}.",
        )
    generated_rows = np.flatnonzero(candidate.samples["label"] == label)
    accepted_rows = generated_rows[candidate.samples["accepted"].to_numpy()[generated_rows]]
    synthetic_rows = evenly_spaced(accepted_rows if len(accepted_rows) else generated_rows, tiles)
    synthetic_image = None
    if len(synthetic_rows):
        state = "accepted" if len(accepted_rows) else "generated (none was accepted)"
        synthetic_image = embed_image(
            synthetic_montage(candidate, synthetic_rows),
            alt=f"{len(synthetic_rows)} synthetic slices {LABELS[label]}",
            caption=f"{len(synthetic_rows)} of {len(accepted_rows) or len(generated_rows)} {state}"
            f" synthetic slices {LABELS[label]} ({name_rows(candidate.samples, synthetic_rows)}).",
        )
    return RealBesideSynthetic(f"Slices {LABELS[label]}", real_image, synthetic_image)


def rejected_montages(candidate: ReleaseCandidate, *, tiles: int) -> list[PageImage]:
    """Make a montage of some rejected slices for each reason."""
    reasons = candidate.samples["reason"].where(~candidate.samples["accepted"])
    montages = []
    for reason in sorted(reasons.dropna().unique()):
        members = np.flatnonzero(reasons == reason)
        shown = evenly_spaced(members, tiles)
        montages.append(
            embed_image(
                synthetic_montage(candidate, shown),
                alt=f"{len(shown)} refused synthetic slices: {reason}",
                caption=f"{len(members)} refused: {wording.REJECTION_REASONS.get(reason, reason)}.",
            )
        )
    return montages


def closest_pairs(
    real: SliceSet, candidate: ReleaseCandidate, *, copies: bool, count: int
) -> list[PageImage]:
    """Show the slices most like a training slice, each beside it: rejected as copies, or accepted.

    Where none was accepted, all that were not called copies stand in for the accepted. Empty
    where the gate names no training slice (`suspect_row`).
    """
    samples = candidate.samples
    if not {"suspect_row", "suspect_by", "suspect_ratio", "suspicion"} <= set(samples):
        return []
    is_copy = samples["reason"] == "memorised"
    accepted = samples["accepted"] if samples["accepted"].any() else ~is_copy
    candidates = samples[is_copy if copies else accepted]
    panels = []
    # By the ratio: smooth slices are near to everything, also to patients outside training.
    closest = candidates.sort_values(["suspicion", "row"], kind="stable")
    for place, sample in closest.head(count).iterrows():
        here, there = int(str(place)), int(sample["suspect_row"])
        detector = wording.DETECTORS.get(str(sample["suspect_by"]), str(sample["suspect_by"]))
        ratio = wording.format_number(float(sample["suspect_ratio"]))
        images = np.stack([candidate.images[here, 0], real.images[there, 0]])
        masks = np.stack([candidate.masks[here], real.masks[there]])
        patient = real.table["subject"].iloc[there]
        panels.append(
            embed_image(
                slice_montage(images, masks, marks=["SYNTHETIC", "REAL"], columns=2),
                alt=f"synthetic slice {sample['row']} beside training slice {there}",
                caption=f"By {detector}, ratio {ratio}. Synthetic slice {sample['row']} of"
                f" fold {sample['fold']}; training slice {there} of {patient}.",
            )
        )
    return panels


def synthetic_montage(candidate: ReleaseCandidate, rows: NDArray[np.intp]) -> Image.Image:
    """Make a montage of synthetic slices, every tile marked."""
    marks = ["SYNTHETIC"] * len(rows)
    return slice_montage(candidate.images[rows, 0], candidate.masks[rows], marks=marks, columns=4)


def name_rows(samples: pd.DataFrame, rows: NDArray[np.intp]) -> str:
    """Name the rows and folds that are shown, so that a slice can be looked up."""
    chosen = samples.iloc[rows]
    return "; ".join(
        f"fold {fold}, rows {', '.join(map(str, group['row']))}"
        for fold, group in chosen.groupby("fold", sort=False)
    )


def embed_image(image: Image.Image, *, alt: str, caption: str) -> PageImage:
    """Encode an image as PNG into the page."""
    buffer = BytesIO()
    image.save(buffer, format="PNG")
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return PageImage(uri, alt, caption, *image.size)
