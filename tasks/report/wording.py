"""Explain tasks, metrics, arms, claims and measures in plain words for the page."""

import math
from dataclasses import dataclass
from typing import Final

from tasks.schemas.review import Criterion

MINUS, UNKNOWN = "\N{MINUS SIGN}", "\N{EN DASH}"


@dataclass(frozen=True)
class GlossaryEntry:
    """A plain name, one sentence, and whether a larger figure is better (None: neither)."""

    name: str
    sentence: str
    larger_is_better: bool | None = None


TASKS: Final = {
    "classify": GlossaryEntry("Classification", "Does a slice show tumour or not?"),
    "segment": GlossaryEntry("Segmentation", "Where in the slice is the tumour?"),
}

METRICS: Final = {
    "auroc_patient": GlossaryEntry(
        "AUROC per patient",
        "How well patients with a tumour are ranked above the others, by their highest slice.",
        True,
    ),
    "accuracy": GlossaryEntry("Accuracy", "Share of slices called right.", True),
    "auroc": GlossaryEntry(
        "AUROC",
        "How well tumour slices are ranked above the others; 0.5 is chance, 1 is perfect.",
        True,
    ),
    "sensitivity": GlossaryEntry("Sensitivity", "Share of tumour slices that were found.", True),
    "specificity": GlossaryEntry("Specificity", "Share of tumour-free slices left alone.", True),
    "brier": GlossaryEntry(
        "Brier score", "How wrong the stated probabilities are; smaller is better.", False
    ),
    "ece": GlossaryEntry(
        "Calibration error",
        "How far stated probabilities lie from how often they come true; smaller is better.",
        False,
    ),
    "dice_volume": GlossaryEntry(
        "Dice",
        "Overlap of outlined and true tumour over a patient's whole volume; 1 is perfect.",
        True,
    ),
    "dice": GlossaryEntry(
        "Dice, chosen slices",
        "The same overlap over the slices that position matching kept; 1 is perfect.",
        True,
    ),
    "dice_slice": GlossaryEntry(
        "Dice per slice", "The same overlap in each tumour slice on its own; 1 is perfect.", True
    ),
    "hd95_mm": GlossaryEntry(
        "HD95 (mm)",
        "How far the outline strays from the true one (95th percentile); smaller is better.",
        False,
    ),
    "false_positive_mm2": GlossaryEntry(
        "False tumour (mm²)",
        "Area outlined in slices that hold no tumour; smaller is better.",
        False,
    ),
    "slice_auroc": GlossaryEntry(
        "AUROC of the segmenter",
        "How well a slice's highest probability tells tumour slices from others; 1 is perfect.",
        True,
    ),
}

PARTS: Final = {
    "real": "real",
    "classical": "augmented",
    "paper-augmented": "augmented as in the paper",
    "synthetic": "synthetic",
    "duplicated": "real once more",
    "copy-paste": "pasted tumours",
    "shuffled-masks": "shuffled masks",
    "pseudo-label": "scans outlined by a model",
    "paste-unlabelled": "tumours pasted into more scans",
    "implant": "tumours painted into more scans",
}

LIMIT_STATUS: Final = {
    "within": "✓ within", "uncertain": "≈ uncertain", "outside": "✗ outside", None: ""
}  # fmt: skip

CLAIMS: Final = {
    "helps": (
        "Adding synthetic slices made the models better on unseen patients than every way of"
        " training without them; the 95 % interval of each difference lies above zero."
    ),
    "harms": (
        "Adding synthetic slices made the models worse on unseen patients than every way of"
        " training without them; the 95 % interval of each difference lies below zero. Do not"
        " train this task with them."
    ),
    "no evidence": (
        "On these patients neither a gain nor a harm can be told from chance against every way of"
        " training without synthetic slices. More test patients would narrow the intervals."
    ),
    "not measured": (
        "The comparison could not be made: an arm is missing or learnt nothing, too few synthetic"
        " slices passed to train with, one training seed is left, or too few patients could be"
        " tested."
    ),
}

CLAIMS_IN_SHORT: Final = {
    "helps": "better than every way of training without synthetic slices.",
    "harms": "worse than every way of training without synthetic slices.",
    "no evidence": "neither a gain nor a harm can be told from chance.",
    "not measured": "the comparison could not be made.",
}

# The key is the start of a measure's name.
MEASURES: Final = {
    "FD(": GlossaryEntry(
        "Fréchet distance", "How far apart the two sets lie, as a network for pictures sees them."
    ),
    "FD∞(": GlossaryEntry(
        "Fréchet distance, endless", "The same, had there been any number of slices to compare."
    ),
    "FID": GlossaryEntry("FID", "The Fréchet distance as most publications give it, by Inception."),
    "KID(": GlossaryEntry("Kernel distance", "As the Fréchet distance, and fairer to small sets."),
    "precision": GlossaryEntry("Precision", "Share of synthetic slices that look like a real one."),
    "recall": GlossaryEntry(
        "Recall", "Share of real slices that lie within the synthetic variety."
    ),
    "density": GlossaryEntry("Density", "How closely real slices surround the synthetic ones."),
    "coverage": GlossaryEntry("Coverage", "Share of real slices with a synthetic one close by."),
    "diversity": GlossaryEntry(
        "Diversity", "How much slices differ among themselves; low: the same few over and over."
    ),
    "ms_ssim_diversity": GlossaryEntry(
        "Diversity of structure", "The same by MS-SSIM, which looks at coarse and fine structure."
    ),
    "nearest_ssim": GlossaryEntry(
        "Likeness to training slices",
        "Higher than real patients reach: copies. Lower: unlike anything real. More is not better.",
    ),
    "spectrum": GlossaryEntry("Sharpness", "Whether fine and coarse detail are in proportion."),
    "intensity": GlossaryEntry("Grey values", "Whether brightness is spread as in real slices."),
    "tumor_size": GlossaryEntry("Tumour size", "Whether tumours are as large as real ones."),
    "tumor_position": GlossaryEntry("Tumour position", "Whether tumours lie where real ones lie."),
    "tumor_solidity": GlossaryEntry(
        "Tumour outline", "Whether tumours are as compact or as ragged as real ones."
    ),
    "tumor_eccentricity": GlossaryEntry(
        "Tumour elongation", "Whether tumours are as round or as long as real ones."
    ),
    "mask_agreement": GlossaryEntry(
        "Mask and a segmenter",
        "How far a network that learnt on real tumours finds what the mask outlines.",
    ),
    "site_coverage": GlossaryEntry(
        "Sites", "The share of the least imitated site; low: one site's pictures are left out."
    ),
    "orientation": GlossaryEntry("Orientation", "Share of slices that stand upright."),
    "mask_label": GlossaryEntry(
        "Mask and label", "Share of slices with a mask where, and only where, there is a tumour."
    ),
    "mask_contrast": GlossaryEntry(
        "Mask and image", "How clearly the outlined tumour stands out from what is around it."
    ),
    # Parts of a verdict that are no measures of a set.
    "label_0": GlossaryEntry("Slices without tumour", "Compared with those of real patients."),
    "label_1": GlossaryEntry("Slices with tumour", "Compared with those of real patients."),
    "correlation_copies": GlossaryEntry(
        "Copies, by correlation", "Whether a training slice was copied as a whole."
    ),
    "ssim_copies": GlossaryEntry(
        "Copies, by structure", "Whether a training slice was copied (SSIM)."
    ),
    "features_copies": GlossaryEntry(
        "Copies, by features", "Whether a training slice was copied, as a network sees it."
    ),
    "tumor_copies": GlossaryEntry(
        "Copied tumours", "Whether a training patient's tumour was put into another head."
    ),
}

DETECTORS: Final = {
    "correlation": "the whole slice",
    "ssim": "its structure (SSIM)",
    "features": "its features",
    "tumor": "the tumour alone",
}

REJECTION_REASONS: Final = {
    "broken": "not a picture: empty, or values out of range",
    "memorised": "too close to a training slice",
    "upside_down": "upside-down",
    "outline": "implausible outline of the head",
    "spectrum": "blurred, noisy or chequered",
    "realism": "unlike any real slice",
    "mask": "the mask contradicts the label or leaves the head",
    "mask_contrast": "the mask is not where the image shows a tumour",
    "unjudged": "not judged: there is too little to judge the set by",
    "flagged": "accepted by the gate, kept out of the data set by a reader",
}

# What readers score from 1 to 5; the keys are those of `tasks/schemas/review.py`.
CRITERIA: Final[dict[Criterion, str]] = {
    "realism": "Realism",
    "anatomy": "Anatomy",
    "artefacts": "Freedom of artefacts",
    "clinical_relevance": "Clinical relevance",
    "diagnostic_utility": "Diagnostic utility",
}

MASKS: Final = "Share of generated slices whose mask disagrees with their label."
# Columns of the generator's history that start with the key: the chart's title, what it means.
CURVES: Final = {
    "loss_": ("Losses", "The two opponents' losses should neither vanish nor run away."),
    "std_z_": (
        "Diversity (real = 1)",
        "How much the slices differ from each other, as a share of real ones; near zero, the"
        " generator draws one picture only.",
    ),
    "ssim_": ("Likeness among slices", "SSIM of pairs of generated slices; near 1, all are alike."),
    "fd_ratio_": (
        "Distance to validation patients",
        "Fréchet distance, where real training slices are at 1; lower is closer to real.",
    ),
    "score_": (
        "Discriminator's scores",
        "Training far above validation slices: the discriminator knows its patients by heart.",
    ),
    "mask_missing": ("Masks against labels", MASKS),
    "mask_spurious": ("Masks against labels", MASKS),
}
SERIES: Final = {
    "loss_d": "discriminator",
    "loss_g": "generator",
    "score_train": "training slices",
    "score_val": "validation slices",
    "score_fake": "generated slices",
    "mask_missing": "tumour without mask",
    "mask_spurious": "mask without tumour",
}


def series_name(column: str) -> str:
    """Name a line of a chart."""
    if column.endswith("_none"):
        return "without tumour"
    return SERIES.get(column, "with tumour" if column.endswith("_tumor") else column)


def arm_name(name: str) -> str:
    """Return an arm in words, such as `real + augmented + synthetic`."""
    return " + ".join(PARTS.get(part, part) for part in name.split("+"))


def measure_entry(name: str) -> GlossaryEntry:
    """Look up a gate measure, or return its bare name where it has no entry."""
    fits = [start for start in MEASURES if name.startswith(start)]
    return MEASURES[max(fits, key=len)] if fits else GlossaryEntry(name, "")


def metric_entry(name: str) -> GlossaryEntry:
    """Look up a downstream metric, or return its bare name where it has no entry."""
    return METRICS.get(name, GlossaryEntry(name, ""))


def format_number(value: float | None) -> str:
    """Format three significant digits, with a true minus sign; a dash where unknown."""
    if value is None or math.isnan(value):
        return UNKNOWN
    return format_decimals(value, 0 if isinstance(value, int) else decimal_places(value))


def decimal_places(*figures: float) -> int:
    """Count the places after the point that three significant digits of the largest figure need."""
    largest = max(map(abs, figures))
    return 3 if largest < 1 else 2 if largest < 10 else 1 if largest < 100 else 0


def format_decimals(value: float, places: int) -> str:
    """Format a figure with its true minus sign; zero has none."""
    return f"{value:z.{places}f}".replace("-", MINUS)


def format_p_value(value: float | None) -> str:
    """Format a p value with three places; very small ones as a bound."""
    if value is None or math.isnan(value):
        return UNKNOWN
    return "< 0.001" if value < 0.001 else format_decimals(value, 3)


def format_signed(value: float | None) -> str:
    """Format as `format_number`, a gain with its plus sign."""
    return ("+" if value is not None and value > 0 else "") + format_number(value)


def format_interval(bounds: tuple[float | None, float | None] | None) -> str:
    """Format an interval as `low to high`."""
    if bounds is None or None in bounds:
        return UNKNOWN
    low, high = bounds[0] or 0.0, bounds[1] or 0.0
    places = decimal_places(low, high)
    while places < 5 and any(end and not round(end, places) for end in (low, high)):
        places += 1  # an end that is not zero must not read as zero
    return f"{format_decimals(low, places)} to {format_decimals(high, places)}"
