"""Parts of a verdict that could not be measured, why, and which of them prevent acceptance."""

import pandas as pd

from tasks.common.gate_requirements import LEAST_HELD_OUT, LEAST_OF_LABEL
from tasks.common.slice_set import mask_known
from tasks.gate.measure import Measure
from tasks.gate.measure_catalogue import FRECHET
from tasks.gate.memorisation import DETECTORS, Thresholds
from tasks.gate.set_measures import Sets
from tasks.gate.unmeasured_causes import Cause, NotMeasured
from tasks.measures.patient_subsampling import Groups
from tasks.params.gate import Gate

ABOUT_MASKS = (
    "tumor_size", "tumor_position", "tumor_solidity", "tumor_eccentricity", "mask_label",
    "mask_contrast", "mask_agreement", "tumor_copies",
)  # fmt: skip


def find_unmeasured(
    sets: Sets,
    measures: dict[str, Measure],
    groups: Groups,
    thresholds: Thresholds,
    held_out: dict[str, int],
) -> dict[str, NotMeasured]:
    """Return the reason for each label, copy detector and measure that is missing.

    Args:
        sets: what was compared.
        measures: of the sets.
        groups: the labels that were compared.
        thresholds: of the detectors of copies.
        held_out: how many validation slices each detector could be calibrated on.
    """
    missing = missing_labels(sets, groups)
    for detector in DETECTORS:
        if detector not in thresholds.detectors:
            of_tumors = detector == "tumor"
            kind = "tumours" if of_tumors else "slices"
            missing[f"{detector}_copies"] = NotMeasured(
                Cause.FEW_HELD_OUT_TUMORS if of_tumors else Cause.FEW_HELD_OUT_SLICES,
                f"{held_out[detector]} validation {kind} to set its limits by, at least"
                f" {LEAST_HELD_OUT} are needed ({LEAST_HELD_OUT - held_out[detector]} more):"
                f" copied {kind} were not looked for; add validation patients",
            )
    return missing | {
        name: measure.not_measured
        for name, measure in measures.items()
        if measure.not_measured is not None
    }


def missing_labels(sets: Sets, groups: Groups) -> dict[str, NotMeasured]:
    """Return which labels were left out of the comparisons of sets, each with the reason."""
    labels = {name: features.table["label"].to_numpy() for name, features in sets.by_name().items()}
    if any((column < 0).all() for column in labels.values()):
        return {}  # a set without labels: all slices are compared as one
    missing = {}
    for label in (0, 1):
        counts = {name: int((column == label).sum()) for name, column in labels.items()}
        if any(label in group for group in groups) or not any(counts.values()):
            continue
        scarce = {name: n for name, n in counts.items() if n < LEAST_OF_LABEL}
        missing[f"label_{label}"] = NotMeasured(
            Cause.FEW_SLICES_OF_LABEL,
            f"{', '.join(f'{n} {name}' for name, n in scarce.items())} slices"
            f" {'with' if label else 'without'} tumour, at least {LEAST_OF_LABEL} are needed:"
            " left out of all comparisons of sets",
            lacking=tuple(scarce),
        )
    return missing


def blocking_parts(missing: dict[str, NotMeasured], sets: Sets, config: Gate) -> list[str]:
    """Return the missing parts that must be measured for the set to be accepted, in their order.

    These are the parts that `gate.required` lists, and those whose limit in `gate.limits` is null.
    Where the synthetic or the validation set has no masks at all, parts about masks do not count.
    """
    required = {FRECHET if part == "frechet" else part for part in config.required}
    required |= {
        FRECHET if part == "frechet" else part for part, limit in config.limits if limit is None
    }
    if not (has_known_masks(sets.synthetic.table) and has_known_masks(sets.val.table)):
        required -= set(ABOUT_MASKS)
    return [part for part in missing if part in required]


def acceptance_hint(name: str, missing: NotMeasured, config: Gate) -> str:
    """Return which key requires a missing part, or which key to change to be accepted without it.

    A set that lacks something itself is not accepted without it, so no key is named to change.

    Args:
        name: of the missing part.
        missing: why it is missing.
        config: the limits.
    """
    part = "frechet" if name == FRECHET else name
    if "synthetic" in missing.lacking:
        return f"gate.required lists {part}" if part in config.required else "its limit is null"
    if getattr(config.limits, part, 0) is None:
        return f"set gate.limits.{part} to a figure to accept without"
    return f"take {part} out of gate.required to accept without"


def has_known_masks(table: pd.DataFrame) -> bool:
    """Check whether any slice of a table has a known mask."""
    return bool(mask_known(table).any())
