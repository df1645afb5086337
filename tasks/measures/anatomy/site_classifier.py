"""Classify slices by site, to measure whether a generator imitates all sites or only the largest.

Synthetic slices have no site, so a classifier trained on real training slices assigns one. Its
errors hide a missing site. Unseen patients show how often it confuses which sites, so the true
shares of the sites can be solved for ("adjusted count", Forman 2008, Data Mining and Knowledge
Discovery 17(2), with probabilities in the place of counts). Where the classifier cannot
distinguish sites, the shares stay as expected and no site is reported as missing.
"""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import nnls

if TYPE_CHECKING:  # importing it takes a second, and many sets have no sites
    from sklearn.pipeline import Pipeline

Floats = NDArray[np.float64]

FEWEST_PATIENTS = 5  # of a site, at least, to train on it
FEWEST_UNSEEN = 4  # of a site, at least, to know how often it is taken for another
FOLDS = 5
PRIOR_WEIGHT = 0.02  # weight of the expected shares against the squared residuals


class SiteClassifier:
    """A classifier of sites, and its probabilities for the slices that it was trained on.

    `names` are the S sites with enough training patients. `train` (N,S) holds the probability of
    each site for the training slices, from folds that left their patients out.
    """

    def __init__(self, features: Floats, table: pd.DataFrame, names: list[str]) -> None:
        from sklearn.model_selection import GroupKFold, cross_val_predict

        known = table["site"].isin(names).to_numpy()
        sites = table["site"][known].astype(str)
        model = build_classifier()
        self.names = names
        self.train = np.full((len(table), len(names)), np.nan)
        self.train[known] = cross_val_predict(
            model, features[known], sites, groups=table["subject"][known], cv=GroupKFold(FOLDS),
            method="predict_proba",
        )  # fmt: skip
        self.model = model.fit(features[known], sites)

    def assign(self, features: Floats) -> Floats:
        """Return the probability (N,S) of each site."""
        probabilities: Floats = self.model.predict_proba(features)
        return probabilities


def build_classifier() -> "Pipeline":
    """Return a logistic regression on standardised features that weights all sites equally."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(
        StandardScaler(), LogisticRegression(C=0.1, max_iter=1000, class_weight="balanced")
    )


def train_site_classifier(
    features: Floats, table: pd.DataFrame, unseen: pd.DataFrame
) -> SiteClassifier | None:
    """Train a classifier of the sites that a generator can be held to.

    A smaller site is not held against it: the confusions of a site are not known from two or three
    patients, and a generator cannot learn a site from them.

    Args:
        features: (N,D) of training slices.
        table: of the training slices; `subject`, `site`.
        unseen: of the slices of other patients, from which the confusions are taken.

    Returns:
        None unless two sites have enough patients among both.
    """
    if not all({"site", "subject"} <= set(side) for side in (table, unseen)):
        return None
    trained, known = (
        side.dropna(subset=["site"]).groupby("site")["subject"].nunique()
        for side in (table, unseen)
    )
    names = sorted(
        str(site)
        for site in trained.index[trained >= FEWEST_PATIENTS]
        if known.get(site, 0) >= FEWEST_UNSEEN
    )
    return SiteClassifier(features, table, names) if len(names) > 1 else None


def site_shares(names: list[str], sites: pd.Series) -> Floats:
    """Return the share (S,) of each site among the slices whose site is in `names`."""
    counts = np.array([float((sites == name).sum()) for name in names])
    shares: Floats = counts / max(counts.sum(), 1)
    return shares


def confusion(probabilities: Floats, names: list[str], sites: pd.Series) -> Floats:
    """Return the mean probabilities (S,S) for slices of each true site, in rows.

    `probabilities` (N,S) are those of the slices. The row of a site without slices is NaN.
    """
    rows = [probabilities[(sites == name).to_numpy()] for name in names]
    return np.stack([row.mean(axis=0) if len(row) else np.full(len(names), np.nan) for row in rows])


def coverage(probabilities: Floats, confusions: Floats, expected: Floats) -> float:
    """Compute the smallest ratio of a site's share among slices to its expected share.

    It is 1 when every site is as frequent as expected, near 0 when one is missing.

    Args:
        probabilities: (N,S) of the slices; rows of unknown sites (NaN) do not count.
        confusions: (S,S) of `confusion`.
        expected: shares (S,); sites of which none is expected do not count.

    Returns:
        NaN without slices, or where a site's confusions are not known.
    """
    probabilities = probabilities[np.isfinite(probabilities).all(axis=1)]
    if not len(probabilities) or not np.isfinite(confusions).all():
        return float("nan")
    one, prior = np.ones(len(expected)), np.sqrt(PRIOR_WEIGHT)
    system = np.vstack([confusions.T, prior * np.diag(one), 10 * one])  # shares sum to 1
    target = np.concatenate([probabilities.mean(axis=0), prior * expected, [10]])
    shares, _ = nnls(system, target)
    return float((shares[expected > 0] / expected[expected > 0]).min())
