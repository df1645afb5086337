"""Features of each slice, computed once before slices and sets are compared."""

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tasks.common.slice_set import SliceSet
from tasks.measures.anatomy import body_mask, power_spectrum, tumor_shape
from tasks.measures.features.feature_extraction import features
from tasks.measures.similarity.image_transforms import blur_and_normalise, downsample

Floats = NDArray[np.float64]

LEVELS = 64  # of the intensity histogram


@dataclass(frozen=True)
class SliceFeatures:
    """N slices: `table` (label, for real slices also subject), and features of each row.

    `images` (N,C,H,W) without invalid pixels; `features` (N,D); `spectra` (N,15); `outlines`
    (N,5); `tumors` (N,7), NaN where there is no mask; `histograms` (N,64), each a distribution
    over the body; `coarse` (N,K) blurred, mean 0, norm 1; `bodies` (N,H,W). From the reference
    models: `areas` (N,2) for the Dice score of the segmenter's output; `sites` (N,S)
    probabilities; `external` features (N,D) by the name of their distance.
    """

    table: pd.DataFrame
    images: NDArray[np.float32]
    features: Floats
    spectra: Floats
    outlines: Floats
    tumors: Floats
    histograms: Floats
    coarse: NDArray[np.float32]
    bodies: NDArray[np.bool_]
    areas: Floats
    sites: Floats
    external: dict[str, Floats] = field(default_factory=dict)

    def select(self, keep: NDArray[np.bool_]) -> "SliceFeatures":
        """Return the features of the rows where `keep` (N,) is true."""
        arrays = {
            attribute.name: getattr(self, attribute.name)[keep]
            for attribute in fields(self)
            if attribute.name not in ("table", "external")
        }
        return SliceFeatures(
            table=self.table[keep].reset_index(drop=True),
            external={name: rows[keep] for name, rows in self.external.items()},
            **arrays,
        )

    def joined_for_search(self, other: "SliceFeatures") -> "SliceFeatures":
        """Return these slices and others with what both have; outputs of models are left out."""
        arrays: dict[str, Any] = {
            attribute.name: np.concatenate(
                [getattr(self, attribute.name), getattr(other, attribute.name)]
            )
            for attribute in fields(self)
            if attribute.name not in ("table", "areas", "sites", "external")
        }
        n = len(self.table) + len(other.table)
        return SliceFeatures(
            table=pd.concat([self.table, other.table], ignore_index=True),
            areas=np.full((n, 2), np.nan),
            sites=np.full((n, 0), np.nan),
            **arrays,
        )


def compute_slice_features(slices: SliceSet, *, device: str) -> SliceFeatures:
    """Compute features of slices; invalid pixels count as air here, `slice_checks` reports them."""
    images = np.nan_to_num(slices.images, nan=-1, posinf=1, neginf=-1).clip(-1, 1)
    bodies = body_mask.body_masks(images)
    with threadpool_limits(1, user_api="blas"):  # many small products
        coarse = downsample(blur_and_normalise(images)).reshape(len(images), -1)
    return SliceFeatures(
        table=slices.table,
        images=images,
        features=features(images, device=device),
        spectra=power_spectrum.radial_log_power(images),
        outlines=body_mask.outline_shape(bodies),
        tumors=tumor_shape.tumor_shapes(images, slices.masks, bodies),
        histograms=histograms(images, bodies),
        coarse=coarse,
        bodies=bodies,
        areas=np.full((len(images), 2), np.nan),
        sites=np.full((len(images), 0), np.nan),
    )


def histograms(images: NDArray[np.float32], bodies: NDArray[np.bool_]) -> Floats:
    """Compute the distribution (N,64) of intensities in [-1, 1] over the body, mean channel."""
    level = ((images.mean(axis=1) + 1) / 2 * (LEVELS - 1)).round().astype(int)
    rows = [
        np.bincount(values[body], minlength=LEVELS)[:LEVELS] / max(body.sum(), 1)
        for values, body in zip(level, bodies, strict=True)
    ]
    return np.stack(rows).astype(np.float64)
