"""`data/review.json`: what readers answered in the reader study, and the figures made of it.

Readers rate without knowing which slices are real. `auglift review export` writes the file; pool,
report and release read it.
"""

from pathlib import Path
from typing import Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.stage.errors import InputError

REVIEW: Final = Path("data/review.json")
Criterion = Literal[
    "realism", "anatomy", "artefacts", "clinical_relevance", "diagnostic_utility"
]  # fmt: skip
CRITERIA: Final[tuple[Criterion, ...]] = get_args(Criterion)
Origin = Literal["real", "synthetic"]
ORIGINS: Final[tuple[Origin, ...]] = get_args(Origin)
Interval = tuple[float, float]
ArtefactKind = Literal[
    "checkerboard", "blur", "repeated_texture", "noise", "ringing_or_ghost", "asymmetry",
    "missing_structure", "extra_structure", "tumor_edge", "outline_mismatch", "other",
]  # fmt: skip
ARTEFACT_KINDS: Final[dict[ArtefactKind, str]] = {
    "checkerboard": "Checkerboard",
    "blur": "Blur",
    "repeated_texture": "Repeated texture",
    "noise": "Wrong noise",
    "ringing_or_ghost": "Ringing, ghost",
    "asymmetry": "False asymmetry",
    "missing_structure": "Missing structure",
    "extra_structure": "Extra structure",
    "tumor_edge": "Tumour edge",
    "outline_mismatch": "Outline is off",
    "other": "Other",
}


class Record(BaseModel):
    """A frozen part of the file; unknown keys are errors, because people may edit it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Rating(Record):
    """One reader's answer on one slice.

    Attributes:
        row: of the slice in `data/slices` (real) or in `data/synthetic/FOLD`.
        slice_sha256: of the slice's pixels and mask: an answer holds for these and no others.
        scores: 1 (worst) to 5 (best) of each criterion that the reader rated.
        flagged: the reader wants the slice kept out of a release.
        outline_from: what the reader's outline began with: nothing, or the mask that was shown.
        outline_dice: overlap of the reader's outline with the mask.
        seconds: for which the slice was on the reader's screen.
    """

    reader: str
    origin: Origin
    row: int = Field(ge=0)
    label: Literal[0, 1]
    slice_sha256: str
    decision: Origin
    scores: dict[Criterion, int] = {}
    artefact_kinds: list[ArtefactKind] = []
    flagged: bool = False
    comment: str = ""
    outline_from: Literal["blank", "mask"] | None = None
    outline_dice: float | None = None
    seconds: float = 0.0


class Share(Record):
    """A share of answers with its 95 % interval; None where there is no answer."""

    value: float | None
    ci95: Interval | None
    n: int


class Accuracy(Record):
    """How well real and synthetic slices were told apart; `synthetic` is the positive class."""

    accuracy: Share
    sensitivity: Share
    specificity: Share


class ReaderPair(Record):
    """Cohen's kappa of two readers' decisions, on the slices that both answered."""

    readers: tuple[str, str]
    kappa: float | None
    n: int


class OriginFigures(Record):
    """Figures of the real or of the synthetic slices.

    Attributes:
        mean_scores: of each criterion, over answers.
        artefact_kinds: how many slices at least one reader saw each kind in.
        outlines: how many outlines readers drew without the mask as their start, and the median
            Dice of these with the mask.
    """

    slices: int
    mean_scores: dict[Criterion, float] = {}
    artefact_kinds: dict[ArtefactKind, int] = {}
    outlines: int = 0
    outline_dice: float | None = None
    corrected: int = 0
    corrected_dice: float | None = None


class ReviewFigures(Record):
    """The figures of one fold's study.

    Attributes:
        readers: each reader's accuracy, with exact (Clopper-Pearson) intervals.
        together: all answers, with intervals that allow for answers on the same slice and on
            slices of the same patient being alike (Korn and Graubard 1998).
        fleiss_kappa: of the decisions, on the slices that every reader answered.
        score_kappa: quadratically weighted Cohen's kappa of each criterion, mean over pairs.
    """

    readers: dict[str, Accuracy]
    together: Accuracy
    fleiss_kappa: float | None = None
    fleiss_slices: int = 0
    pairs: list[ReaderPair] = []
    score_kappa: dict[Criterion, float] = {}
    origins: dict[Origin, OriginFigures] = {}
    flagged: int = 0


class FoldReview(Record):
    """One fold's study: `digest` of the candidate that readers saw, figures, and all answers."""

    digest: str
    figures: ReviewFigures
    ratings: list[Rating]


class Review(Record):
    """The whole file; without a study `folds` is empty."""

    folds: dict[str, FoldReview] = {}


def read_review() -> Review:
    """Read `data/review.json`.

    Raises:
        InputError: naming the key, when it is missing or damaged.
    """
    try:
        return Review.model_validate_json(REVIEW.read_bytes())
    except FileNotFoundError:
        raise InputError(
            f'{REVIEW} is missing; restore it from git, write {{"folds": {{}}}}, or run'
            " `auglift review export`"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        raise InputError(
            f"{REVIEW}: {key}: {first['msg']}; run `auglift review export`, which writes it"
        ) from None
