"""Attack the released slices: can who trained the generator be told from who did not?

Membership inference by distance, without the generator's help: a slice that lies nearer to
synthetic slices than its place among real slices explains is taken for a training slice. This is
DOMIAS (van Breugel 2023, arXiv 2302.12580), the ratio of the densities of synthetic and of real
slices, both by the nearest neighbour, and like the calibrated attack of GAN-Leaks (Chen 2020,
arXiv 1909.03935).

Members are the patients whose slices the generator was shown, also by their image alone;
non-members are validation patients, by slices of the same kinds. The reference of a slice is every
real slice of all other patients, members or not, so that both have the same chance: without a leak
the AUROC is 0.5, which is what guessing gives. Test patients take no part. The attack is on
patients: the score of one is the mean over the slices.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.gate.slice_features import SliceFeatures
from tasks.measures.auroc_interval import auroc_interval
from tasks.measures.features.feature_distances import nearest_rows
from tasks.measures.rank_auroc import auroc

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

LEAST_PATIENTS: Final = 2  # of each kind
SHOWN: Final = "shown_to_generator"  # column of real slices; of those of others: would have been
FLOOR: Final = 1e-3  # of the median distance: the logarithm of a perfect copy's distance is finite
METHOD: Final = (
    "DOMIAS (van Breugel 2023), nearest neighbours by {space}; mean over a patient's slices;"
    " interval by Newcombe 2006"
)


@dataclass(frozen=True)
class MembershipAttack:
    """The AUROC of an attack over `members` and `non_members` (patients), or why there is none."""

    auroc: float | None
    ci95: tuple[float, float] | None
    members: int
    non_members: int
    method: str
    not_measured: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the entry of `metrics.json`."""
        return {
            "auroc": None if self.auroc is None else round(self.auroc, 4),
            "ci95": None if self.ci95 is None else [round(end, 4) for end in self.ci95],
            "guessing": 0.5,
            "members": self.members,
            "non_members": self.non_members,
            "method": self.method,
            "not_measured": self.not_measured,
        }

    def in_words(self) -> str:
        """Say the figure in a line."""
        if self.auroc is None or self.ci95 is None:
            return f"not measured: {self.not_measured}"
        low, high = self.ci95
        return f"AUROC {self.auroc:.2f} ({low:.2f} to {high:.2f}), guessing gives 0.50"


def usable_slices(table: pd.DataFrame) -> Bools:
    """Return which slices (N,) an attack is made on: of patients, of the kinds that taught.

    The column `SHOWN` says which slices a generator is shown; without it all are.
    """
    usable = np.ones(len(table), dtype=bool)
    if SHOWN in table:
        usable = table[SHOWN].to_numpy(dtype=bool)
    if "marked_synthetic" in table:
        usable = usable & ~table["marked_synthetic"].to_numpy(dtype=bool)
    return usable


def attack_images(
    synthetic: SliceFeatures, train: SliceFeatures, val: SliceFeatures
) -> dict[str, MembershipAttack]:
    """Attack synthetic slices by the features of slices, and by their blurred pixels."""
    train, val = (side.select(usable_slices(side.table)) for side in (train, val))
    spaces: dict[str, Callable[[SliceFeatures], Floats]] = {
        "features": lambda slices: slices.features,
        "pixels": lambda slices: slices.coarse.astype(np.float64),
    }
    attacks = {}
    for space, rows_of in spaces.items():
        method = METHOD.format(space=space)
        if not (len(train.table) and len(val.table)):
            no_scores = np.full(len(train.table) + len(val.table), np.nan)
            attacks[f"images, by {space}"] = attack_patients(
                no_scores, train.table, val.table, method=method
            )
            continue
        real = np.concatenate([rows_of(train), rows_of(val)])  # (N,D)
        scale = np.maximum(real.std(axis=0), 1e-3) if space == "features" else 1.0
        real, generated = real / scale, rows_of(synthetic) / scale
        patients = patient_numbers(train.table, val.table)
        to_others = nearest_rows(real, real, keep=1, owners=(patients, patients))[1][:, 0]
        to_synthetic = nearest_rows(real, generated, keep=1)[1][:, 0]
        attacks[f"images, by {space}"] = attack_patients(
            density_ratio(to_synthetic, to_others), train.table, val.table, method=method
        )
    return attacks


def patient_numbers(train: pd.DataFrame, val: pd.DataFrame) -> NDArray[np.intp]:
    """Return numbers that stand for the patients of training and validation slices (N,)."""
    subjects = np.concatenate([train["subject"].to_numpy(str), val["subject"].to_numpy(str)])
    numbers: NDArray[np.intp] = np.unique(subjects, return_inverse=True)[1]
    return numbers


def density_ratio(to_synthetic: Floats, to_others: Floats) -> Floats:
    """Return log density of synthetic over that of real slices (N,), but for a factor.

    A density by the nearest neighbour falls with the distance's power of the dimension.
    """
    finite = np.isfinite(to_others)
    if not finite.any():
        return np.full(len(to_others), np.nan)
    floor = FLOOR * max(float(np.median(to_others[finite])), 1e-12)
    ratio: Floats = np.log(np.maximum(to_others, floor)) - np.log(np.maximum(to_synthetic, floor))
    return ratio


def attack_patients(
    scores: Floats, train: pd.DataFrame, val: pd.DataFrame, *, method: str
) -> MembershipAttack:
    """Measure how well scores of slices (N,), training first, tell members from non-members."""
    tables = (train, val)
    parts = np.split(scores, [len(train)])
    members, others = (
        pd.Series(part).groupby(table["subject"].to_numpy()).mean().to_numpy()
        for part, table in zip(parts, tables, strict=True)
    )
    n, m = len(members), len(others)
    if min(n, m) < LEAST_PATIENTS or not np.isfinite(scores).all():
        why = f"{n} training and {m} validation patients, {LEAST_PATIENTS} of each are needed"
        return MembershipAttack(None, None, n, m, method, why)
    area = auroc(members, others)
    return MembershipAttack(area, auroc_interval(area, n, m), n, m, method)
