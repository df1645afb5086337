"""The numbers, besides the label, that a generator can be asked for: tumour area and position.

An area enters as its logarithm, because tumours differ by factors; a slice without tumour has the
mean area's place, 0. Both are standardised by the training slices.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

COLUMN = {"area": "tumor_area_mm2", "position": "position_mm"}


def scales(table: pd.DataFrame, names: Sequence[str]) -> Tensor:
    """Mean and standard deviation (k,2) of each condition over labelled slices that have it."""
    return torch.stack([scale(raw_condition(table, name)) for name in names])


def scale(values: NDArray[np.float64]) -> Tensor:
    """Mean and deviation (2,) of the known values; a deviation of 0 becomes 1."""
    known = values[np.isfinite(values)]
    if not len(known):
        return torch.tensor([0.0, 1.0])
    return torch.tensor([known.mean(), known.std() or 1.0], dtype=torch.float32)


def standardised(table: pd.DataFrame, names: Sequence[str], scale: Tensor) -> Tensor:
    """Conditions (N,k) of slices; what a slice does not have is 0."""
    columns = [
        (torch.tensor(raw_condition(table, name)).float() - mean) / deviation
        for name, (mean, deviation) in zip(names, scale, strict=True)
    ]
    return torch.stack(columns, 1).nan_to_num(0.0)


def raw_condition(table: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """One condition (N,) before it is standardised; NaN where a slice has none."""
    values = table[COLUMN[name]].to_numpy(np.float64)
    if name == "position":
        return values
    known = (table["label"].to_numpy() == 1) & (values > 0)
    return np.log(np.where(known, values, np.nan))


def distribution(conditions: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (2,k) and a root of the covariance (2,k,k) of each label's conditions (N,k).

    Two small tables instead of the training slices' own numbers: those would leave with the
    generator.
    """
    k = conditions.shape[1]
    means, roots = torch.zeros(2, k), torch.zeros(2, k, k)
    for label in (0, 1):
        some = conditions[labels == label].double().cpu()
        if len(some) < 2:
            continue
        covariance = torch.cov(some.T).reshape(k, k) + 1e-6 * torch.eye(k, dtype=torch.float64)
        means[label], roots[label] = some.mean(0), torch.linalg.cholesky(covariance)
    return means, roots
