"""Recognise which MR contrast a series or file shows, and by what evidence.

A name or a description decides. Where neither names a contrast, the sequence parameters of a spin
or gradient echo decide (times in ms, bounds wide enough for 1 to 3 tesla).
"""

import re
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class SequenceTiming:
    """Repetition, echo and inversion times in ms where known, and whether an agent was injected."""

    TR: float | None = None
    TE: float | None = None
    TI: float | None = None
    contrast_agent: bool = False


Modality = Literal["T1", "T1c", "T2", "FLAIR", "other"]

T1 = r"(?:t1(?:w|n)?(?![a-z0-9])|t1[-_ ]|mp.?rage|bravo|fspgr)"
# "post" may also be a posterior fossa or the time after an operation.
POST = (
    r"post(?:[\W_]*(?:contrast|con|gad\w*|gd|km))?(?![a-z0-9])"
    r"(?![\W_]*(?:op|fossa|surg|trauma|chemo|radi|rt|tx))"
)
AGENT = (
    rf"(?:{POST}|(?:ce|gd|gad\w*|km|contrast|kontrast\w*)(?![a-z0-9])"
    r"|c\+|\+\s?(?:c|gd|km)(?![a-z]))"
)
WITHOUT_AGENT = re.compile(
    r"(?<![a-z0-9])(?:without|w/o|wo|pre|ohne|non?)[\W_]*"
    r"(?:contrast|kontrast\w*|gad\w*|gd|km|ce)?(?![a-z0-9])"
)
NAME_PATTERNS: list[tuple[Modality, str]] = [
    ("other", r"t2_?star|t2\*|swi|dwi|adc|dti|bold|perf|asl|tof|angio|mra|pd(?![a-z])"),
    ("T1c", r"ct1(?![a-z0-9])|t1.?c(?:e)?(?![a-z])(?![\W_]*spine)|t1(?:gd|gad|km|post)(?![a-z])"),
    ("T1c", rf"{T1}.*(?<![a-z0-9]){AGENT}"),
    # The initials of a patient may come first, so fewer words count as an agent here.
    ("T1c", rf"(?:ce-[\w-]+_|ce[\W_]?|c\+.*|acq-post.*){T1}|(?:\bgd\b|gado|\+c|\b{POST}\b).*{T1}"),
    ("T1", r"t1[\W_]*flair"),  # T1-weighted in spite of its name
    ("FLAIR", r"flair|t2f(?![a-z])|dark.?fluid"),
    ("T1", T1),
    ("T2", r"t2(w)?(?![a-z0-9])|t2[-_ ]"),
]


def contrast_from_name(name: str) -> Modality | None:
    """Return the contrast in a file's name or a series' description; None where there is none."""
    lowered = WITHOUT_AGENT.sub(" ", name.lower())
    for modality, pattern in NAME_PATTERNS:
        if re.search(rf"(?<![a-z0-9])(?:{pattern})", lowered):
            return modality
    return None


def contrast_from_timing(timing: SequenceTiming) -> Modality | None:
    """Return the contrast that repetition, echo and inversion times imply; None where none."""
    TR, TE, TI = timing.TR, timing.TE, timing.TI
    if TE is None or TR is None:
        return None
    if TI and TI >= 1500 and TE >= 60:
        return "FLAIR"
    if TE < 30 and (TR < 1000 or (TI and TI < 1500)):
        return "T1c" if timing.contrast_agent else "T1"
    if TE >= 60 and TR >= 2000 and not TI:
        return "T2"
    return None


def recognise_contrast(description: str, timing: SequenceTiming) -> tuple[Modality, str]:
    """Return the contrast and its evidence: `description`, `sequence TR=… TE=… TI=…` or `none`.

    The description's first line belongs to the series. The next lines, which may belong to the
    whole examination, count only where the first names no contrast. A T1 with a contrast agent in
    the header is T1c.
    """
    lines = description.splitlines()
    named = contrast_from_name(lines[0]) if lines else None
    named = named or contrast_from_name(" ".join(lines))
    if named == "T1" and timing.contrast_agent:
        return "T1c", "description and contrast agent"
    if named is not None:
        return named, "description"
    implied = contrast_from_timing(timing)
    if implied is not None:
        times = " ".join(
            f"{name}={value:.0f}"
            for name, value in (("TR", timing.TR), ("TE", timing.TE), ("TI", timing.TI))
            if value
        )
        agent = " and contrast agent" if implied == "T1c" else ""
        return implied, f"sequence {times}{agent}"
    return "other", "none"
