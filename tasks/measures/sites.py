"""Which site's pictures a slice looks like: does a generator imitate all sites or the largest?

Synthetic slices have no site, so a classifier of real training slices says which one each of them
looks like. Its error does not matter much: real slices are assigned by the same classifier, and
where sites cannot be told apart every share comes out alike.
"""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:  # its import takes a second, and many sets have no sites
    from sklearn.pipeline import Pipeline

Floats = NDArray[np.float64]

FEWEST_PATIENTS = 5  # of a site, to learn what its pictures look like
FOLDS = 5


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
        StandardScaler(), LogisticRegression(C=1.0, max_iter=1000, class_weight="balanced")
    )


def learn(features: Floats, table: pd.DataFrame) -> Sites | None:
    """Learn the sites of training slices; None where there are not two with enough patients."""
    if "site" not in table or "subject" not in table:
        return None
    patients = table.dropna(subset=["site"]).groupby("site")["subject"].nunique()
    names = sorted(map(str, patients.index[patients >= FEWEST_PATIENTS]))
    return Sites(features, table, names) if len(names) > 1 else None


def coverage(candidate: Floats, reference: Floats) -> float:
    """The smallest share of a site among `candidate` (N,S) over its share in `reference` (M,S).

    Rows of unknown sites (NaN) do not count. 1 when every site is as frequent as in the reference,
    near 0 when one is missing; NaN without rows.
    """
    sides = [side[np.isfinite(side).all(axis=1)] for side in (candidate, reference)]
    if not all(len(side) for side in sides):
        return float("nan")
    share, expected = (side.mean(axis=0) for side in sides)
    return float((share / np.maximum(expected, 1e-6)).min())
