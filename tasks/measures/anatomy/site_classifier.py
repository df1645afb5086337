"""Which site's pictures a slice looks like: does a generator imitate all sites or the largest?

Synthetic slices have no site, so a classifier of real training slices says which one each of them
looks like. It errs, and its errors hide a missing site; but how often it takes which site for
which is known from unseen patients, so that the sites' shares can be solved for ("adjusted count",
Forman 2008, Data Mining and Knowledge Discovery 17(2), with probabilities for counts). Where sites
cannot be told apart, the shares stay as expected, and nobody is accused.
"""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import nnls

if TYPE_CHECKING:  # its import takes a second, and many sets have no sites
    from sklearn.pipeline import Pipeline

Floats = NDArray[np.float64]

FEWEST_PATIENTS = 5  # of a site, to learn what its pictures look like
FOLDS = 5
PULL = 0.02  # towards the expected shares; in the squares of shares that are not explained


class Sites:
    """A classifier of sites, and what it says of the slices that it was trained on.

    `names` are the sites with enough training patients; `train` (N,S) the probability of each for
    the training slices, from folds that left their patients out.
    """

    def __init__(self, features: Floats, table: pd.DataFrame, names: list[str]) -> None:
        from sklearn.model_selection import GroupKFold, cross_val_predict

        known = table["site"].isin(names).to_numpy()
        sites = table["site"][known].astype(str)
        model = classifier()
        self.names = names
        self.train = np.full((len(table), len(names)), np.nan)
        self.train[known] = cross_val_predict(
            model, features[known], sites, groups=table["subject"][known], cv=GroupKFold(FOLDS),
            method="predict_proba",
        )  # fmt: skip
        self.model = model.fit(features[known], sites)

    def assign(self, features: Floats) -> Floats:
        """The probability (N,S) of each site."""
        found: Floats = self.model.predict_proba(features)
        return found


def classifier() -> "Pipeline":
    """Logistic regression on standardised features; each site counts as much as any other."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(
        StandardScaler(), LogisticRegression(C=0.1, max_iter=1000, class_weight="balanced")
    )


def train_site_classifier(features: Floats, table: pd.DataFrame) -> Sites | None:
    """Learn the sites of training slices; None where there are not two with enough patients."""
    if "site" not in table or "subject" not in table:
        return None
    patients = table.dropna(subset=["site"]).groupby("site")["subject"].nunique()
    names = sorted(map(str, patients.index[patients >= FEWEST_PATIENTS]))
    return Sites(features, table, names) if len(names) > 1 else None


def frequencies(names: list[str], sites: pd.Series) -> Floats:
    """The share (S,) of each site among the slices whose site is one of these."""
    counts = np.array([float((sites == name).sum()) for name in names])
    shares: Floats = counts / max(counts.sum(), 1)
    return shares


def confusion(found: Floats, names: list[str], sites: pd.Series) -> Floats:
    """What the classifier says (S,S) of slices of each site, in rows, from `found` (N,S).

    NaN in the row of a site that has no slices.
    """
    rows = [found[(sites == name).to_numpy()] for name in names]
    return np.stack([row.mean(axis=0) if len(row) else np.full(len(names), np.nan) for row in rows])


def coverage(found: Floats, errors: Floats, expected: Floats) -> float:
    """The smallest share of a site among slices, over the share expected of it.

    1 when every site is as frequent as expected, near 0 when one is missing.

    Args:
        found: probabilities (N,S) of the slices; rows of unknown sites (NaN) do not count.
        errors: of `confusion`.
        expected: shares (S,); sites of which none is expected do not count.

    Returns:
        NaN without slices, or where a site's errors are not known.
    """
    found = found[np.isfinite(found).all(axis=1)]
    if not len(found) or not np.isfinite(errors).all():
        return float("nan")
    one = np.ones(len(expected))
    system = np.vstack([errors.T, np.sqrt(PULL) * np.diag(one), 10 * one])  # they sum to 1
    target = np.concatenate([found.mean(axis=0), np.sqrt(PULL) * expected, [10]])
    shares, _ = nnls(system, target)
    return float((shares[expected > 0] / expected[expected > 0]).min())
