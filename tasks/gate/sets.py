"""The set-level measures: synthetic against unseen patients, beside real against the same."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from tasks.gate.described import LEVELS, Described
from tasks.measures import features, kid, tumors
from tasks.measures.frechet import frechet_distance
from tasks.measures.intervals import Draw, draws, ratio_interval
from tasks.measures.prdc import prdc
from tasks.measures.spectrum import spectrum_distance
from tasks.params.gate import Gate
from tasks.stage import StageError

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Bound = tuple[float | None, float | None]

POINT_DRAWS = 20  # averaged into the figure: which images are drawn should not matter


@dataclass(frozen=True)
class Sets:
    """Synthetic slices, training patients and validation patients, described."""

    synthetic: Described
    train: Described
    val: Described


@dataclass(frozen=True)
class Measure:
    """A figure of the synthetic set (`value`) beside the same of real patients (`baseline`).

    `limit` bounds `ratio` = value / baseline: (lowest, highest), None where it is only reported.
    """

    value: float | None
    baseline: float | None
    ratio: float | None
    ci95: tuple[float, float] | None
    limit: Bound | None
    n: int
    method: str

    @property
    def holds(self) -> bool:
        """Whether the ratio is within the limit; a figure that could not be had breaks none."""
        if self.limit is None or self.ratio is None:
            return True
        low, high = self.limit
        return (low is None or self.ratio >= low) and (high is None or self.ratio <= high)

    def as_json(self) -> dict[str, Any]:
        """As `metrics.json` holds it."""
        return {
            "value": rounded(self.value),
            "baseline": rounded(self.baseline),
            "ratio": rounded(self.ratio),
            "ci95": None if self.ci95 is None else [rounded(end) for end in self.ci95],
            "limit": None if self.limit is None else list(self.limit),
            "n": self.n,
            "method": self.method,
        }


Figure = Callable[[Sets, Draw], tuple[float, float]]


def rounded(value: float | None) -> float | None:
    """Six significant digits: the rest is rounding of this machine."""
    return None if value is None or not np.isfinite(value) else float(f"{value:.6g}")


def measure(sets: Sets, config: Gate) -> dict[str, Measure]:
    """All measures, named as in `metrics.json`."""
    tables = (sets.synthetic.table, sets.train.table, sets.val.table)
    whole = usable(draws(*tables, count=POINT_DRAWS, share=1.0, seed=config.seed))
    halves = usable(draws(*tables, count=config.draws, share=0.5, seed=config.seed + 1))
    if not whole:
        raise StageError(
            "no two slices of one label on every side to compare: synthetic, training and"
            " validation; add patients or raise val_fraction"
        )
    return {
        name: evaluate(sets, figure, whole, halves, limit=limit, method=method)
        for name, (figure, limit, method) in catalogue(config).items()
    }


def usable(drawn: Iterable[Draw]) -> list[Draw]:
    """Draws that can be compared: of few patients, half may lack a label on one side."""
    return [draw for draw in drawn if len(draw.reference) >= 2]


def evaluate(
    sets: Sets,
    figure: Figure,
    whole: list[Draw],
    halves: list[Draw],
    *,
    limit: Bound | None,
    method: str,
) -> Measure:
    """The figure at equal n, and its interval from half-sized draws."""
    value, baseline = np.array([figure(sets, draw) for draw in whole]).mean(axis=0)
    ratio = value / baseline if baseline > 0 and np.isfinite(value / baseline) else None
    ci95 = None
    if ratio is not None and halves:
        pairs = np.array([figure(sets, draw) for draw in halves])
        with np.errstate(divide="ignore", invalid="ignore"):
            ci95 = ratio_interval(ratio, pairs[:, 0] / pairs[:, 1])
    finite = [None if not np.isfinite(x) else float(x) for x in (value, baseline)]
    return Measure(finite[0], finite[1], ratio, ci95, limit, len(whole[0].reference), method)


def catalogue(config: Gate) -> dict[str, tuple[Figure, Bound | None, str]]:
    """Each measure: how it is had, its limits, and how it is called in full."""
    limits = config.limits
    equal = "equal n of each label, by patient; reference: validation patients"
    return {
        f"FD({features.NAME})": (
            distance(lambda one: one.features, frechet_distance),
            (None, limits.frechet),
            f"Fréchet distance on ImageNet features; {equal}",
        ),
        f"KID({features.NAME})": (
            distance(lambda one: one.features, kid.kernel_distance),
            None,
            f"unbiased MMD², cubic kernel, ImageNet features; {equal}",
        ),
        "precision": (neighbourhood("precision"), None, f"k = 5 feature neighbours; {equal}"),
        "recall": (neighbourhood("recall"), None, f"k = 5 feature neighbours; {equal}"),
        "coverage": (
            neighbourhood("coverage"),
            None,
            f"share of real slices with a synthetic one among their 5 feature neighbours; {equal}",
        ),
        "diversity": (
            diversity,
            (limits.diversity, None),
            "mean 1 - correlation of blurred pairs of one label; real: of two patients",
        ),
        "nearest_ssim": (
            level(lambda one: one.table["nearest_train_ssim"].to_numpy()),
            limits.nearest_ssim,
            "SSIM (Wang's settings, within the body) with the nearest training slice under flips"
            " and shifts; real: validation slices",
        ),
        "orientation": (
            level(lambda one: one.table["upright"].to_numpy()),
            (limits.orientation, None),
            "share of slices nearer to a training slice as they are than upside-down",
        ),
        "spectrum": (
            distance(lambda one: one.spectra, spectrum_distance),
            (None, limits.spectrum),
            f"root mean square difference of log radial power; {equal}",
        ),
        "intensity": (
            distance(lambda one: one.histograms, histogram_distance),
            (None, limits.intensity),
            f"Wasserstein distance of intensities within the body; {equal}",
        ),
        "tumor_size": (
            distance(lambda one: one.tumors[:, :1], wasserstein),
            (None, limits.tumor_size),
            f"Wasserstein distance of tumour area as a share of the body; {equal}",
        ),
        "tumor_position": (
            distance(lambda one: one.tumors[:, 1:3], wasserstein),
            (None, limits.tumor_position),
            f"Wasserstein distance of tumour centres, mean of row and column; {equal}",
        ),
        "mask_label": (
            level(agreement),
            (limits.mask_label, None),
            "share of slices whose mask is empty or not as the label says",
        ),
        "mask_contrast": (
            level(contrast),
            (limits.mask_contrast, None),
            "mean |2 AUROC - 1| of the intensities in the mask against a ring around it",
        ),
    }


def distance(column: Callable[[Described], Floats], compare: Callable[[Floats, Floats], float]
             ) -> Figure:  # fmt: skip
    """Synthetic against validation, and training against validation."""

    def figure(sets: Sets, draw: Draw) -> tuple[float, float]:
        reference = column(sets.val)[draw.reference]
        return (
            compare(column(sets.synthetic)[draw.synthetic], reference),
            compare(column(sets.train)[draw.other], reference),
        )

    return figure


def level(column: Callable[[Described], Floats]) -> Figure:
    """The mean of synthetic slices, and that of validation slices."""

    def figure(sets: Sets, draw: Draw) -> tuple[float, float]:
        sides = (column(sets.synthetic)[draw.synthetic], column(sets.val)[draw.reference])
        known = [side[np.isfinite(side)] for side in sides]
        return mean(known[0]), mean(known[1])

    return figure


def mean(values: Floats) -> float:
    """The mean, NaN of nothing."""
    return float(values.mean()) if len(values) else float("nan")


def agreement(one: Described) -> Floats:
    """1 where the mask is as the label says, 0 where not, NaN without a label."""
    label = one.table["label"].to_numpy()
    marked = np.isfinite(one.tumors[:, 0])
    return np.where(label < 0, np.nan, (marked == (label == 1)).astype(float))


def contrast(one: Described) -> Floats:
    """How far mask and ring differ in intensity, in either direction, as real tumours do."""
    column = tumors.COLUMNS.index("contrast")
    return np.abs(2 * one.tumors[:, column] - 1)


def neighbourhood(name: str) -> Figure:
    """One of precision, recall, density, coverage."""

    def figure(sets: Sets, draw: Draw) -> tuple[float, float]:
        reference = sets.val.features[draw.reference]
        sides = (sets.synthetic.features[draw.synthetic], sets.train.features[draw.other])
        if len(reference) <= 5:
            return float("nan"), float("nan")
        synthetic, real = (float(getattr(prdc(reference, side), name)) for side in sides)
        return synthetic, real

    return figure


def diversity(sets: Sets, draw: Draw) -> tuple[float, float]:
    """Mean distance between slices of one label; real slices of different patients."""
    people = sets.val.table["subject"].to_numpy()[draw.reference]
    sides = []
    for one, rows, owners in (
        (sets.synthetic, draw.synthetic, np.arange(len(draw.synthetic))),
        (sets.val, draw.reference, people),
    ):
        label = one.table["label"].to_numpy()[rows]
        alike = (label[:, None] == label[None]) & (owners[:, None] != owners[None])
        likeness = one.coarse[rows] @ one.coarse[rows].T
        sides.append(mean((1 - likeness[alike]).astype(np.float64)))
    return sides[0], sides[1]


def histogram_distance(a: Floats, b: Floats) -> float:
    """Wasserstein distance of two mean histograms on [-1, 1]: the area between their sums."""
    gap = np.abs(np.cumsum(a.mean(0)) - np.cumsum(b.mean(0)))
    return float(gap.sum() * 2 / (LEVELS - 1))


def wasserstein(a: Floats, b: Floats) -> float:
    """Mean over the columns of the one-dimensional Wasserstein distances; NaN rows do not count."""
    a, b = (side[np.isfinite(side).all(axis=1)] for side in (a, b))
    if not len(a) or not len(b):
        return float("nan")
    return float(np.mean([wasserstein_distance(x, y) for x, y in zip(a.T, b.T, strict=True)]))
