"""What the page says in plain words: of tasks, metrics, arms, claims and measures."""

import math
from dataclasses import dataclass
from typing import Final

MINUS, UNKNOWN = "\N{MINUS SIGN}", "\N{EN DASH}"


@dataclass(frozen=True)
class Meaning:
    """A name for people, one sentence, and whether a larger figure is better (None: neither)."""

    name: str
    sentence: str
    larger_is_better: bool | None = None


TASKS: Final = {
    "classify": Meaning("Classification", "Does a slice show tumour or not?"),
    "segment": Meaning("Segmentation", "Where in the slice is the tumour?"),
}

METRICS: Final = {
    "accuracy": Meaning("Accuracy", "Share of slices called right.", True),
    "auroc": Meaning(
        "AUROC",
        "How well tumour slices are ranked above the others; 0.5 is chance, 1 is perfect.",
        True,
    ),
    "sensitivity": Meaning("Sensitivity", "Share of tumour slices that were found.", True),
    "specificity": Meaning("Specificity", "Share of tumour-free slices left alone.", True),
    "dice": Meaning("Dice", "Overlap of outlined and true tumour; 1 is perfect.", True),
    "hd95_mm": Meaning(
        "HD95 (mm)",
        "How far the outline strays from the true one (95th percentile); smaller is better.",
        False,
    ),
}

ARMS: Final = {
    "real": "real slices only",
    "real+classical": "real, classically augmented",
    "real+synthetic": "real + synthetic",
    "real+classical+synthetic": "real, augmented, + synthetic",
    "synthetic": "synthetic slices only",
}

CLAIMS: Final = {
    "helps": (
        "helps",
        "Adding synthetic slices made the models better on patients that neither the generator"
        " nor the models had seen, and the 95 % interval of the gain excludes zero.",
    ),
    "harms": (
        "harms",
        "Adding synthetic slices made the models worse on unseen patients, and the 95 % interval"
        " of the loss excludes zero. Do not train this task with them.",
    ),
    "no evidence": (
        "no evidence",
        "The 95 % interval of the change holds zero: on these patients neither a gain nor a harm"
        " can be told from chance. More test patients would narrow the interval.",
    ),
    "not measured": (
        "not measured",
        "The comparison could not be made: an arm is missing, or too few synthetic slices passed"
        " to train with.",
    ),
}

# Found by the longest name that a measure's own name starts with or holds.
MEASURES: Final = {
    "fd": Meaning("Fréchet distance", "How far apart the two sets lie as seen by a network."),
    "frechet": Meaning("Fréchet distance", "How far apart the two sets lie as seen by a network."),
    "kid": Meaning("Kernel distance", "As the Fréchet distance, and fairer to small sets."),
    "ssim": Meaning(
        "Structural similarity", "Likeness of slices pixel by pixel; more is not better."
    ),
    "diversity": Meaning(
        "Diversity", "How different the slices are among themselves; low means repetition."
    ),
    "spectrum": Meaning("Sharpness spectrum", "Whether fine and coarse detail are in proportion."),
    "memoris": Meaning("Copies", "Slices that repeat a training patient's slice."),
    "mask": Meaning("Tumour masks", "Whether the outlined tumours resemble real ones."),
    "tumor": Meaning("Tumour size", "Whether the tumours are as large as real ones."),
    "histogram": Meaning("Grey values", "Whether brightness is distributed as in real slices."),
    "intensity": Meaning("Grey values", "Whether brightness is distributed as in real slices."),
    "precision": Meaning("Precision", "Share of synthetic slices that look like some real one."),
    "recall": Meaning("Recall", "Share of real slices that some synthetic one looks like."),
    "density": Meaning("Density", "How closely real slices surround the synthetic ones."),
    "coverage": Meaning("Coverage", "Share of real slices with a synthetic one close by."),
    "brain": Meaning("Brain area", "Whether the brain's outline is as large as in real slices."),
}

REASONS: Final = {
    "memorised": "too close to a training slice",
}

COLUMNS: Final = {
    "loss": "Loss",
    "std": "Spread over z: how much the slices differ from each other (near zero: all alike)",
}


def measure(name: str) -> Meaning:
    """The meaning of a gate measure, or its bare name where none is known."""
    fits = [word for word in MEASURES if word in name.lower()]
    if not fits:
        return Meaning(name, "")
    return MEASURES[max(fits, key=lambda word: (name.lower().startswith(word), len(word)))]


def metric(name: str) -> Meaning:
    """The meaning of a downstream metric, or its bare name where none is known."""
    return METRICS.get(name, Meaning(name, ""))


def number(value: object) -> str:
    """Two or three digits that matter, with a true minus sign; a dash for what is not known."""
    if value is None:
        return UNKNOWN
    if isinstance(value, dict):
        return ", ".join(f"{word} {number(figure)}" for word, figure in value.items())
    if not isinstance(value, int | float) or isinstance(value, bool):
        return str(value)
    if math.isnan(value):
        return UNKNOWN
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:.0f}".replace("-", MINUS)
    digits = 3 if abs(value) < 1 else 2 if abs(value) < 10 else 1
    return f"{value:.{digits}f}".replace("-", MINUS)


def signed(value: float | None) -> str:
    """As `number`, a gain with its plus sign."""
    return ("+" if value is not None and value > 0 else "") + number(value)


def interval(bounds: tuple[float | None, float | None] | None) -> str:
    """An interval as `low to high`."""
    if bounds is None or None in bounds:
        return UNKNOWN
    return f"{number(bounds[0])} to {number(bounds[1])}"


def limit(value: object) -> str:
    """A limit of the gate: one figure is an upper limit, two are a range."""
    if isinstance(value, dict):
        return number(value)
    if isinstance(value, list | tuple) and len(value) == 2:
        low, high = value
        if low is None:
            return f"at most {number(high)}"
        return f"at least {number(low)}" if high is None else f"{number(low)} to {number(high)}"
    return "reported only" if value is None else f"at most {number(value)}"
