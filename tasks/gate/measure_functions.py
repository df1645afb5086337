"""Functions that compute one subsample's figures, of synthetic slices and of real slices."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from tasks.common.gate_requirements import count_outlined_tumors
from tasks.common.slice_set import mask_known
from tasks.gate.set_measures import Figure, Missing, Sets
from tasks.gate.slice_features import LEVELS, SliceFeatures
from tasks.gate.unmeasured_causes import Cause, NotMeasured
from tasks.measures.anatomy import mask_agreement, site_classifier, tumor_shape
from tasks.measures.features.frechet import at_infinity, frechet_distance
from tasks.measures.features.prdc import prdc
from tasks.measures.patient_subsampling import Subsample, thin_subsample
from tasks.measures.similarity import ms_ssim

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Column = Callable[[SliceFeatures], Floats]

PRDC_NEIGHBOURS = 5  # feature neighbours
MOST_IN_PAIRS = 30  # slices of a label, in pairs for MS-SSIM
SHARES = (0.75, 0.75, 0.5, 0.5)  # of a subsample's patients, for the line through 1/n


def distance_to_validation(column: Column, compare: Callable[[Floats, Floats], float]) -> Figure:
    """Return a figure: distance of synthetic, and of training, slices to validation slices."""

    def figure(sets: Sets, draw: Subsample) -> tuple[Floats, Floats]:
        reference = column(sets.val)[draw.reference]
        synthetic = compare(column(sets.synthetic)[draw.synthetic], reference)
        real = compare(column(sets.train)[draw.other], reference)
        return np.array([synthetic]), np.array([real])

    return figure


def extrapolated_frechet(column: Column) -> Figure:
    """Return a figure: the Fréchet distance at infinite n, from subsets of the patients."""
    plain = distance_to_validation(column, frechet_distance)

    def figure(sets: Sets, draw: Subsample) -> tuple[Floats, Floats]:
        tables = (sets.synthetic.table, sets.train.table, sets.val.table)
        parts = [draw] + [
            thin_subsample(draw, tables, share=share, seed=index)
            for index, share in enumerate(SHARES)
        ]
        parts = [part for part in parts if len(part.reference) > 2]
        sizes = np.array([len(part.reference) for part in parts], dtype=np.float64)
        if len(set(sizes.tolist())) < 2:
            return np.array([np.nan]), np.array([np.nan])
        pairs = np.array([plain(sets, part) for part in parts])[:, :, 0]  # (parts, 2)
        synthetic, real = (at_infinity(sizes, side) for side in pairs.T)
        return np.array([synthetic]), np.array([real])

    return figure


def mean_figure(column: Column) -> Figure:
    """Return a figure: the mean over synthetic slices, and that over validation slices."""

    def figure(sets: Sets, draw: Subsample) -> tuple[Floats, Floats]:
        columns = (column(sets.synthetic)[draw.synthetic], column(sets.val)[draw.reference])
        synthetic, real = (
            np.array([mean_or_nan(values[np.isfinite(values)])]) for values in columns
        )
        return synthetic, real

    return figure


def mean_or_nan(values: Floats) -> float:
    """Return the mean; NaN when there are no values."""
    return float(values.mean()) if len(values) else float("nan")


def external_features(name: str) -> Column:
    """Select the features of an external network by the name of its distance."""
    return lambda slices: slices.external[name]


def column_of(*names: str) -> Column:
    """Select columns of the tumour figures by name."""
    chosen = [tumor_shape.COLUMNS.index(name) for name in names]
    return lambda slices: slices.tumors[:, chosen]


def missing_tumour_figures(*names: str) -> Missing:
    """Return a check that names the sets without any tumour that has these figures."""
    column = column_of(*names)

    def missing(sets: Sets) -> NotMeasured | None:
        lacking = [
            name
            for name, features in sets.by_name().items()
            if not np.isfinite(column(features)).all(axis=1).any()
        ]
        return sets_at_fault(Cause.NO_OUTLINED_TUMOR, "no outlined tumour", lacking)

    return missing


def missing_masks(sets: Sets) -> NotMeasured | None:
    """Name the sets without any slice that has a label and a known mask; None when all have one."""
    compared = {"synthetic": sets.synthetic, "validation": sets.val}
    lacking = [
        name
        for name, features in compared.items()
        if not np.isfinite(mask_matches_label(features)).any()
    ]
    return sets_at_fault(Cause.NO_LABELLED_MASK, "no labelled slice with a mask", lacking)


def sets_at_fault(cause: Cause, fault: str, names: list[str]) -> NotMeasured | None:
    """Return what the named sets lack; None when none of them lacks it."""
    if not names:
        return None
    return NotMeasured(cause, f"{fault} on the side of: {', '.join(names)}", tuple(names))


def missing_segmenter(sets: Sets) -> NotMeasured | None:
    """Return why there is no agreement with the segmenter; None when there is."""
    if np.isfinite(sets.val.areas).any():
        return missing_masks(sets)
    return NotMeasured(
        Cause.NO_SEGMENTER,
        "no segmenter that finds a fifth of the validation patients' tumours could be trained;"
        f" there are {count_outlined_tumors(sets.train.table)} outlined training tumours"
        " (gate.segmenter_steps is how long it trains, 0 for none)",
    )


def missing_sites(sets: Sets) -> NotMeasured:
    """Return why the coverage of sites could not be measured."""
    if "site" not in sets.train.table or "site" not in sets.val.table:
        return NotMeasured(Cause.NO_SITE_NAMES, "no sites are named")
    if not sets.train.sites.shape[1]:
        return NotMeasured(
            Cause.FEW_PATIENTS_OF_SITES,
            f"no two sites with at least {site_classifier.FEWEST_PATIENTS} training and at least"
            f" {site_classifier.FEWEST_UNSEEN} validation patients each",
        )
    return NotMeasured(
        Cause.SITE_WITHOUT_VALIDATION,
        "some site has no validation slices, so that the classifier's errors are not known",
    )


def mask_matches_label(slices: SliceFeatures) -> Floats:
    """Return per slice (N,) 1 if the mask matches the label, else 0; NaN if either is unknown."""
    label = slices.table["label"].to_numpy()
    marked = np.isfinite(slices.tumors[:, 0])
    known = (label >= 0) & mask_known(slices.table)
    return np.where(known, (marked == (label == 1)).astype(float), np.nan)


def mask_contrast(slices: SliceFeatures) -> Floats:
    """Return per slice (N,) how far mask and ring differ in intensity, |2 AUROC - 1| in [0, 1]."""
    return np.abs(2 * slices.tumors[:, tumor_shape.COLUMNS.index("contrast")] - 1)


def segmenter_agreement(sets: Sets, draw: Subsample) -> tuple[Floats, Floats]:
    """Compute the Dice score of the masks with the segmenter's output."""
    synthetic = mask_agreement.set_dice(sets.synthetic.areas[draw.synthetic])
    real = mask_agreement.set_dice(sets.val.areas[draw.reference])
    return np.array([synthetic]), np.array([real])


def site_coverage(sets: Sets, draw: Subsample) -> tuple[Floats, Floats]:
    """Compute how well the least imitated site is covered.

    The expected shares are those of the training slices; for real slices, their own.
    """
    train, val = sets.train, sets.val
    learnt = np.flatnonzero(np.isfinite(train.sites).all(axis=1))
    names = sorted(set(train.table["site"].iloc[learnt])) if train.sites.shape[1] else []
    if not names or len(names) < train.sites.shape[1]:
        return np.array([np.nan]), np.array([np.nan])
    true_sites = val.table["site"].iloc[draw.reference]
    confusions = site_classifier.confusion(val.sites[draw.reference], names, true_sites)
    figures = []
    for slices, rows in ((sets.synthetic, draw.synthetic), (train, draw.other)):
        is_real = slices is train or slices is val
        sites = slices.table["site"].iloc[rows] if is_real else train.table["site"]
        expected = site_classifier.site_shares(names, sites)
        figure = site_classifier.coverage(slices.sites[rows], confusions, expected)
        figures.append(np.array([figure]))
    return figures[0], figures[1]


def neighbour_figures(sets: Sets, draw: Subsample) -> tuple[Floats, Floats]:
    """Compute precision, recall, density and coverage; NaN with at most 5 reference slices."""
    reference = sets.val.features[draw.reference]
    if len(reference) <= PRDC_NEIGHBOURS:
        return np.full(4, np.nan), np.full(4, np.nan)
    compared = (sets.synthetic.features[draw.synthetic], sets.train.features[draw.other])
    synthetic, real = (
        np.array([scores.precision, scores.recall, scores.density, scores.coverage])
        for scores in (prdc(reference, rows, k=PRDC_NEIGHBOURS) for rows in compared)
    )
    return synthetic, real


def diversity(sets: Sets, draw: Subsample) -> tuple[Floats, Floats]:
    """Compute the mean of 1 - correlation between slices of one label and of different patients."""
    figures = []
    for slices, rows in ((sets.synthetic, draw.synthetic), (sets.val, draw.reference)):
        label, owners = slices.table["label"].to_numpy()[rows], patient_ids(slices)[rows]
        alike = (label[:, None] == label[None]) & (owners[:, None] != owners[None])
        correlations = slices.coarse[rows] @ slices.coarse[rows].T
        figures.append(np.array([mean_or_nan((1 - correlations[alike]).astype(np.float64))]))
    return figures[0], figures[1]


def ms_ssim_diversity(sets: Sets, draw: Subsample) -> tuple[Floats, Floats]:
    """Compute the mean of 1 - MS-SSIM over pairs of one label (Odena 2017, section 4.2)."""
    figures = []
    for slices, rows in ((sets.synthetic, draw.synthetic), (sets.val, draw.reference)):
        chosen, pairs = random_pairs(slices, rows, seed=draw.seed)
        similarity = ms_ssim.ms_ssim(slices.images[chosen], pairs)
        figures.append(np.array([mean_or_nan(1 - similarity.astype(np.float64))]))
    return figures[0], figures[1]


def random_pairs(slices: SliceFeatures, rows: Ints, *, seed: int) -> tuple[Ints, Ints]:
    """Choose at most 30 rows of each label, and pairs (P,2) of them that share a label.

    Each slice is paired with the next one in a random order, unless both are of one patient.
    """
    rng = np.random.default_rng(seed)
    label, owners = slices.table["label"].to_numpy(), patient_ids(slices)
    chosen, pairs, start = [], [], 0
    for value in sorted(set(label[rows].tolist())):
        group = rng.permutation(rows[label[rows] == value])[:MOST_IN_PAIRS]
        places = start + np.arange(len(group))
        pairs.append(np.stack([places, np.roll(places, -1)], axis=1))
        chosen.append(group)
        start += len(group)
    chosen_rows, all_pairs = np.concatenate(chosen), np.concatenate(pairs)
    first, second = chosen_rows[all_pairs].T
    return chosen_rows, all_pairs[owners[first] != owners[second]]


def patient_ids(slices: SliceFeatures) -> NDArray[np.object_]:
    """Return the patient of each slice; a synthetic slice has none and counts as its own."""
    if "subject" in slices.table:
        return slices.table["subject"].to_numpy(dtype=object)
    return np.arange(len(slices.table)).astype(object)


def histogram_distance(a: Floats, b: Floats) -> float:
    """Compute the Wasserstein distance of two mean histograms on [-1, 1].

    It is the area between their cumulative sums.
    """
    gap = np.abs(np.cumsum(a.mean(0)) - np.cumsum(b.mean(0)))
    return float(gap.sum() * 2 / (LEVELS - 1))


def wasserstein(a: Floats, b: Floats) -> float:
    """Compute the mean of the columns' one-dimensional Wasserstein distances, without NaN rows."""
    a, b = (rows[np.isfinite(rows).all(axis=1)] for rows in (a, b))
    if not len(a) or not len(b):
        return float("nan")
    return float(np.mean([wasserstein_distance(x, y) for x, y in zip(a.T, b.T, strict=True)]))
