"""Parts of a verdict that could not be measured, why, and which of them prevent acceptance."""

import pandas as pd

from tasks.common.gate_requirements import LEAST_HELD_OUT, LEAST_OF_LABEL, mask_known
from tasks.gate.measure_catalogue import FRECHET
from tasks.gate.memorisation import DETECTORS, Thresholds
from tasks.gate.set_measures import Measure, Sets
from tasks.measures.patient_subsampling import Groups
from tasks.params.gate import Gate

ABOUT_MASKS = (
    "tumor_size", "tumor_position", "tumor_solidity", "tumor_eccentricity", "mask_label",
    "mask_contrast", "mask_agreement", "tumor_copies",
)  # fmt: skip


def not_measured(
    sets: Sets,
    measures: dict[str, Measure],
    groups: Groups,
    thresholds: Thresholds,
    held_out: dict[str, int],
) -> dict[str, str]:
    """Return the reason for each label, copy detector and measure that is missing.

    Args:
        sets: what was compared.
        measures: of the sets.
        groups: the labels that were compared.
        thresholds: of the detectors of copies.
        held_out: how many validation slices each detector could be calibrated on.
    """
    found = missing_labels(sets, groups)
    for name in DETECTORS:
        if name not in thresholds.detectors:
            what = "tumours" if name == "tumor" else "slices"
            found[f"{name}_copies"] = (
                f"{held_out[name]} validation {what} to set its limits by, at least"
                f" {LEAST_HELD_OUT} are needed ({LEAST_HELD_OUT - held_out[name]} more):"
                f" copied {what} were not looked for; add validation patients"
            )
    return found | {
        name: one.not_measured for name, one in measures.items() if one.not_measured is not None
    }


def missing_labels(sets: Sets, groups: Groups) -> dict[str, str]:
    """Return which labels were left out of the comparisons of sets, each with the reason."""
    sides = {"synthetic": sets.synthetic, "training": sets.train, "validation": sets.val}
    labels = {name: one.table["label"].to_numpy() for name, one in sides.items()}
    if any((column < 0).all() for column in labels.values()):
        return {}  # a side without labels: all are compared as one
    found = {}
    for label in (0, 1):
        counts = {name: int((column == label).sum()) for name, column in labels.items()}
        if any(label in group for group in groups) or not any(counts.values()):
            continue
        scarce = [f"{n} {name}" for name, n in counts.items() if n < LEAST_OF_LABEL]
        found[f"label_{label}"] = (
            f"{', '.join(scarce)} slices {'with' if label else 'without'} tumour, at least"
            f" {LEAST_OF_LABEL} are needed: left out of all comparisons of sets"
        )
    return found


def blocking_parts(missing: dict[str, str], sets: Sets, config: Gate) -> dict[str, str]:
    """Return the missing parts that must be measured for the set to be accepted.

    These are the parts that `gate.required` lists, and those whose limit in `gate.limits` is null.
    Where the synthetic or the validation set has no masks at all, parts about masks do not count.
    """
    names = {FRECHET if name == "frechet" else name for name in config.required}
    names |= {
        FRECHET if name == "frechet" else name for name, bound in config.limits if bound is None
    }
    if not (brings_masks(sets.synthetic.table) and brings_masks(sets.val.table)):
        names -= set(ABOUT_MASKS)
    return {name: why for name, why in missing.items() if name in names}


def acceptance_hint(name: str, why: str, config: Gate) -> str:
    """Return which key requires a missing part, or which key to change to be accepted without it.

    Args:
        name: of the missing part.
        why: the reason it is missing.
        config: the limits.
    """
    part = "frechet" if name == FRECHET else name
    if "synthetic" in why:
        return f"gate.required lists {part}" if part in config.required else "its limit is null"
    if getattr(config.limits, part, 0) is None:
        return f"set gate.limits.{part} to a figure to accept without"
    return f"take {part} out of gate.required to accept without"


def brings_masks(table: pd.DataFrame) -> bool:
    """Check whether any slice of a table has a known mask."""
    return bool(mask_known(table).any())
