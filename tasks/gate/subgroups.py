"""The Fréchet ratio for parts of the set: who is served badly by a generator that looks good.

Synthetic images have a label and a tumour size, but no site: for a site, all of them are compared
with that site's patients, so a generator that imitates the largest site only is far from the rest.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.gate.described import Described
from tasks.gate.sets import Sets, distance, rounded
from tasks.measures.frechet import frechet_distance
from tasks.measures.intervals import draws
from tasks.params.gate import Gate

Bools = NDArray[np.bool_]

DRAWS = 5
FEW_PATIENTS, FEW_SLICES = 5, 30  # below either, a figure says little
BEHIND = 2.0  # times the whole set's ratio: worth a warning


@dataclass(frozen=True)
class Subgroup:
    """The Fréchet ratio of one part; None where it could not be had."""

    ratio: float | None
    n: int
    patients: int
    warning: str | None

    def as_json(self) -> dict[str, Any]:
        """As `metrics.json` holds it."""
        return {
            "ratio": rounded(self.ratio),
            "n": self.n,
            "patients": self.patients,
            "warning": self.warning,
        }


def subgroups(sets: Sets, whole: float | None, config: Gate) -> dict[str, Subgroup]:
    """Each part's ratio beside the whole set's."""
    return {name: compare(rows, sets, whole, config.seed) for name, rows in parts(sets)}


def parts(sets: Sets) -> Iterator[tuple[str, tuple[Bools, Bools, Bools]]]:
    """Names and rows of synthetic, training and validation slices."""
    sides = (sets.synthetic, sets.train, sets.val)
    for label in sorted(set(sets.val.table["label"])):
        synthetic, train, val = (one.table["label"].to_numpy() == label for one in sides)
        yield f"label {label}", (synthetic, train, val)
    sizes = [one.tumors[:, 0] for one in sides]
    known = sizes[2][np.isfinite(sizes[2])]
    if len(known):
        edges = [-np.inf, *np.quantile(known, [1 / 3, 2 / 3]), np.inf]
        for index, word in enumerate(("small", "middle", "large")):
            synthetic, train, val = (
                (size > edges[index]) & (size <= edges[index + 1]) for size in sizes
            )
            yield f"tumour size {word}", (synthetic, train, val)
    if "site" in sets.val.table and "site" in sets.train.table:
        for site in sorted(set(sets.val.table["site"])):
            train, val = (one.table["site"].to_numpy() == site for one in sides[1:])
            yield f"site {site}", (np.ones(len(sets.synthetic.table), dtype=bool), train, val)


def compare(
    rows: tuple[Bools, Bools, Bools], sets: Sets, whole: float | None, seed: int
) -> Subgroup:
    """One part."""
    chosen = [
        only(one, keep)
        for one, keep in zip((sets.synthetic, sets.train, sets.val), rows, strict=True)
    ]
    part = Sets(*chosen)
    patients = min(one.table["subject"].nunique() for one in chosen[1:])
    least = min(len(one.table) for one in chosen)
    if patients < 2 or least < 10:
        return Subgroup(None, least, patients, f"too few to say: {least} slices")
    figure = distance(lambda one: one.features, frechet_distance)
    found = list(draws(*(one.table for one in chosen), count=DRAWS, share=1.0, seed=seed))
    n = len(found[0].reference)
    if n < 10:
        return Subgroup(None, n, patients, f"too few to say: {n} slices at equal labels")
    value, baseline = np.array([figure(part, draw) for draw in found]).mean(axis=0)
    ratio = float(value / baseline) if baseline > 0 else None
    warning = None
    if patients < FEW_PATIENTS or n < FEW_SLICES:
        warning = f"few: {patients} patients, {n} slices"
    elif ratio is not None and whole is not None and ratio > BEHIND * max(whole, 1):
        warning = f"served worse: {ratio:.1f} beside {whole:.1f} for all"
    return Subgroup(ratio, n, patients, warning)


def only(one: Described, keep: Bools) -> Described:
    """The rows of a description."""
    arrays = {
        name: getattr(one, name)[keep]
        for name in ("features", "spectra", "outlines", "tumors", "histograms", "coarse", "bodies")
    }
    return Described(table=one.table[keep].reset_index(drop=True), **arrays)
