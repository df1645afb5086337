"""Define what a reader answers on one slice, and the kinds of artefacts that readers may name."""

import base64
import binascii
from typing import Annotated, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.schemas.review import ArtefactKind, Criterion, Origin
from tasks.stage.errors import InputError
from tasks.stage.item_names import check_item_name

MAX_COMMENT_LENGTH: Final = 2000

# The question of each criterion, and what 1 and 5 mean; 5 is always the best.
CRITERION_TEXTS: Final[dict[Criterion, tuple[str, str, str]]] = {
    "realism": ("Realism", "clearly artificial", "like a patient's scan"),
    "anatomy": ("Anatomy", "impossible", "correct"),
    "artefacts": ("Artefacts", "severe", "none"),
    "clinical_relevance": ("Clinical relevance", "never seen in practice", "typical"),
    "diagnostic_utility": ("Diagnostic utility", "useless", "fully usable"),
}

Score = Annotated[int, Field(ge=1, le=5)]


class Answer(BaseModel):
    """A reader's answer on one slice, as the page sends it; a draft until `done`.

    `outline` is the reader's tumour outline, (H,W) bytes of 0 and 1 in base64.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    decision: Origin | None = None
    scores: dict[Criterion, Score] = {}
    artefact_kinds: list[ArtefactKind] = []
    flagged: bool = False
    comment: str = Field("", max_length=MAX_COMMENT_LENGTH)
    outline: str | None = None
    outline_from: Literal["blank", "mask"] | None = None
    seconds: float = Field(0.0, ge=0, le=1e6)
    done: bool = False

    @model_validator(mode="after")
    def check_decision(self) -> Self:
        """Check that an answer that is done says real or synthetic."""
        if self.done and self.decision is None:
            raise ValueError("an answer needs a decision: real or synthetic")
        return self


def decode_outline(text: str, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Decode an outline to a mask (H,W) of 0 and 1.

    Raises:
        ValueError: when it is no mask of that size.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("the outline is not base64") from None
    height, width = size
    if len(data) != height * width or set(data) - {0, 1}:
        raise ValueError(f"the outline is no mask of {height} x {width} zeros and ones")
    return np.frombuffer(data, dtype=np.uint8).reshape(size)


def check_reader_name(name: str) -> str:
    """Check that a reader's name is a plain word; return it.

    Raises:
        InputError: saying what a name may be.
    """
    try:
        return check_item_name(name)
    except ValueError as error:
        raise InputError(f"reader {name!r}: {error}; take initials or a pseudonym") from None
