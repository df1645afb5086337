"""Why a part of the verdict could not be measured: a cause, and the reason in words."""

from dataclasses import dataclass
from enum import Enum, auto

from tasks.common.gate_requirements import NULL_PATIENTS


class Cause(Enum):
    """What is lacking, whatever the counts in the reason."""

    FEW_SLICES_OF_LABEL = auto()
    FEW_HELD_OUT_SLICES = auto()
    FEW_HELD_OUT_TUMORS = auto()
    NO_OUTLINED_TUMOR = auto()
    NO_LABELLED_MASK = auto()
    NO_SEGMENTER = auto()
    NO_SITE_NAMES = auto()
    FEW_PATIENTS_OF_SITES = auto()
    SITE_WITHOUT_VALIDATION = auto()
    NO_FIGURE = auto()
    NO_BASELINE = auto()
    NO_NULL_RANGE = auto()
    REAL_MISSES_LIMIT = auto()
    NOT_JUDGED = auto()


@dataclass(frozen=True)
class NotMeasured:
    """Why a part of the verdict could not be measured; `lacking` names the sets at fault."""

    cause: Cause
    why: str
    lacking: tuple[str, ...] = ()

    def has_cause_of(self, other: "NotMeasured") -> bool:
        """Check whether the same sets lack the same as for another part."""
        return (self.cause, self.lacking) == (other.cause, other.lacking)


NO_NULL_RANGE = NotMeasured(
    Cause.NO_NULL_RANGE,
    f"no range of chance to bound it by, which takes at least {NULL_PATIENTS} training and"
    f" at least {NULL_PATIENTS} validation patients; give it a number in gate.limits",
)
