"""Prepare the conditions of a generator besides the label: tumour area, slice position, site.

An area enters as its logarithm, because tumours differ by factors. A slice without tumour gets 0,
which stands for the mean area. Area and position are standardised by the training slices. A site
enters as a 1 at its place among the sites; a slice of another site has none.
"""

import sys
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.dcgan import SITE

LEAST_SITE_PATIENTS = (
    2  # outlined; a request for the site of one would be a request for the patient
)
CONDITION_COLUMN = {"area": "tumor_area_mm2", "position": "position_mm"}


def condition_names(conditions: Sequence[str], table: pd.DataFrame) -> tuple[str, ...]:
    """Return the name of each number: area and position as asked for, then one for each site.

    Where no site has enough patients, site is no condition, and one line says so.

    Args:
        conditions: area, position, site.
        table: of the outlined training slices.
    """
    measured = [name for name in conditions if name != "site"]
    if "site" not in conditions:
        return tuple(measured)
    patients = pd.Series(dtype="int64")
    if "site" in table:
        named = table[table["site"].notna() & (table["site"] != "")]
        patients = named.groupby("site")["subject"].nunique()
    sites = sorted(str(site) for site, count in patients.items() if count >= LEAST_SITE_PATIENTS)
    if not sites:
        print(
            f"train_gan: the site is no condition: none of the {len(patients)} sites of the"
            f" outlined training slices has {LEAST_SITE_PATIENTS} patients",
            file=sys.stderr,
        )
    return (*measured, *(SITE + site for site in sites))


def condition_scales(table: pd.DataFrame, names: Sequence[str]) -> Tensor:
    """Return mean and deviation (k,2) of each condition over labelled slices that have it.

    The generator is never shown the others, so that their positions tell nothing of its own.
    """
    labelled = table[table["label"] >= 0]
    return torch.stack(
        [
            torch.tensor([0.0, 1.0])
            if name.startswith(SITE)
            else mean_and_deviation(raw_condition(labelled, name))
            for name in names
        ]
    )


def mean_and_deviation(values: NDArray[np.float64]) -> Tensor:
    """Return mean and standard deviation (2,) of the finite values; a deviation of 0 becomes 1."""
    known = values[np.isfinite(values)]
    if not len(known):
        return torch.tensor([0.0, 1.0])
    return torch.tensor([known.mean(), known.std() or 1.0], dtype=torch.float32)


def standardise_conditions(table: pd.DataFrame, names: Sequence[str], scale: Tensor) -> Tensor:
    """Return the standardised conditions (N,k) of slices; a missing condition becomes 0."""
    columns = [
        (torch.tensor(raw_condition(table, name)).float() - mean) / deviation
        for name, (mean, deviation) in zip(names, scale, strict=True)
    ]
    return torch.stack(columns, 1).nan_to_num(0.0)


def raw_condition(table: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """Return one condition (N,) before standardisation; NaN where a slice has none."""
    if name.startswith(SITE):
        if "site" not in table:
            return np.zeros(len(table))
        return (table["site"] == name.removeprefix(SITE)).to_numpy().astype(np.float64)
    values = table[CONDITION_COLUMN[name]].to_numpy(np.float64)
    if name == "position":
        return values
    known = (table["label"].to_numpy() == 1) & (values > 0)
    return np.log(np.where(known, values, np.nan))


def condition_distribution(conditions: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean (2,k) and root of the covariance (2,k,k) of each label's conditions (N,k).

    The generator carries these two small tables instead of the training slices' own values, so that
    no patient's values leave with it.
    """
    k = conditions.shape[1]
    means, roots = torch.zeros(2, k), torch.zeros(2, k, k)
    for label in (0, 1):
        of_label = conditions[labels == label].double().cpu()
        if len(of_label) < 2:
            continue
        covariance = torch.cov(of_label.T).reshape(k, k) + 1e-6 * torch.eye(k, dtype=torch.float64)
        means[label], roots[label] = of_label.mean(0), torch.linalg.cholesky(covariance)
    return means, roots


def generator_buffers(
    names: Sequence[str], conditions: Tensor, labels: Tensor, scale: Tensor
) -> dict[str, Tensor]:
    """Return the small tables from which a generator draws conditions, by their names in it.

    Args:
        names: k of `condition_names`.
        conditions: (N,k) of the training slices.
        labels: (N,) of these.
        scale: (k,2) of `condition_scales`.
    """
    measured = sum(not name.startswith(SITE) for name in names)
    buffers = {}
    if measured:
        mean, root = condition_distribution(conditions[:, :measured], labels)
        buffers = {
            "condition_mean": mean, "condition_root": root, "condition_scale": scale[:measured],
        }  # fmt: skip
    if measured < len(names):
        sites = conditions[:, measured:].cpu()
        shares = [sites[labels.cpu() == label].mean(0) for label in (0, 1)]
        buffers["site_shares"] = torch.stack(shares)
    return buffers
