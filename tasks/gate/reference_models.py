"""Models fitted to training slices (tumour segmenter, site classifier) and external features."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from tasks.common.slice_set import SliceSet, mask_known
from tasks.gate.slice_features import SliceFeatures
from tasks.measures.anatomy import mask_agreement, site_classifier
from tasks.measures.features.feature_extraction import Extractor, features, load_extractor
from tasks.params.gate import Gate

Floats = NDArray[np.float64]

# A segmenter with a lower Dice score on unseen patients is no evidence about masks.
LEAST_DICE = 0.2


@dataclass(frozen=True)
class ReferenceModels:
    """A tumour segmenter, a site classifier, and feature networks whose weights are given by path.

    The first two are None where the training slices do not suffice to train them.
    """

    segmenter: nn.Module | None
    sites: site_classifier.SiteClassifier | None
    extractors: tuple[Extractor, ...]

    def add_outputs(
        self, slice_features: SliceFeatures, slices: SliceSet, *, device: str
    ) -> SliceFeatures:
        """Add the models' outputs for slices that they were not trained on."""
        areas = slice_features.areas
        if self.segmenter is not None:
            areas = mask_agreement.mask_overlap(
                self.segmenter, slice_features.images, slices.masks, device=device
            )
            areas[~mask_known(slice_features.table)] = np.nan
        return replace(
            slice_features,
            areas=areas,
            sites=slice_features.sites
            if self.sites is None
            else self.sites.assign(site_features(slice_features)),
            external=self.external_features(slice_features, device=device),
        )

    def external_features(self, slice_features: SliceFeatures, *, device: str) -> dict[str, Floats]:
        """Compute the features of the external networks, by the name of each distance."""
        return {
            extractor.name: features(slice_features.images, extractor=extractor, device=device)
            for extractor in self.extractors
        }

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of the weights behind each distance."""
        every = (load_extractor(), *self.extractors)
        return {extractor.name: extractor.sha256 for extractor in every}


def load_external_networks(config: Gate, *, device: str) -> tuple[Extractor, ...]:
    """Load the feature networks whose weights `gate.inception` and `gate.radimagenet` name."""
    if not (config.inception or config.radimagenet):
        return ()
    from tasks.measures.features.external_feature_networks import (
        load_external_network,  # torchvision's import takes a second
    )

    paths: dict[Literal["inception", "radimagenet"], str | None] = {
        "inception": config.inception,
        "radimagenet": config.radimagenet,
    }
    return tuple(
        load_external_network(kind, Path(path), device=device)
        for kind, path in paths.items()
        if path
    )


def site_features(slice_features: SliceFeatures) -> Floats:
    """Return the inputs (N,D) of the site classifier: features and intensity histograms.

    Spectra are left out: a generator's own blur or noise would be taken for that of a site.
    """
    return np.concatenate([slice_features.features, slice_features.histograms], axis=1)


def fit_reference_models(
    train: SliceSet,
    val: SliceSet,
    seen: SliceFeatures,
    unseen: SliceFeatures,
    config: Gate,
    *,
    device: str,
) -> tuple[ReferenceModels, SliceFeatures, SliceFeatures]:
    """Train the models, and add their outputs to training and validation slices.

    Training slices get the site probabilities of folds that left their patients out. They get no
    areas, because the segmenter was trained on their masks.
    """
    steps, seed = config.segmenter_steps, config.seed
    # A tumour without an outline would be learnt as background.
    outlined = train if (known := mask_known(train.table)).all() else train.select(known)
    models = ReferenceModels(
        mask_agreement.train_segmenter(outlined, steps=steps, seed=seed, device=device)
        if steps
        else None,
        site_classifier.train_site_classifier(site_features(seen), seen.table, unseen.table),
        load_external_networks(config, device=device),
    )
    unseen_outputs = models.add_outputs(unseen, val, device=device)
    if not mask_agreement.set_dice(unseen_outputs.areas) >= LEAST_DICE:
        models = replace(models, segmenter=None)
        unseen_outputs = replace(unseen_outputs, areas=unseen.areas)
    if models.sites is not None:
        seen = replace(seen, sites=models.sites.train)
        # A site that was not learnt would be assigned to one of the others.
        foreign = ~unseen.table["site"].isin(models.sites.names).to_numpy() if (
            "site" in unseen.table
        ) else np.ones(len(val), dtype=bool)  # fmt: skip
        unseen_outputs.sites[foreign] = np.nan
    return (
        models,
        replace(seen, external=models.external_features(seen, device=device)),
        unseen_outputs,
    )
