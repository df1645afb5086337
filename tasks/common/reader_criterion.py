"""Hold what readers answered against a criterion of the gate or of the release."""

from pydantic import BaseModel, ConfigDict, Field

from tasks.schemas.review import ReviewFigures


class ReaderCriterion(BaseModel):
    """What the reader study must have shown of each fold.

    Attributes:
        min_readers: how many readers must have answered, in every fold.
        max_accuracy: at most this accurately may readers tell synthetic from real slices; the
            upper end of the 95 % interval over all readers is compared. 0.5 is guessing.
        min_realism: the least mean score of realism (1 to 5) of the synthetic slices.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    min_readers: int = Field(1, ge=1)
    max_accuracy: float | None = Field(None, gt=0.5, le=1)
    min_realism: float | None = Field(None, ge=1, le=5)


def unmet_criteria(
    criterion: ReaderCriterion, figures: ReviewFigures | None, key: str
) -> list[str]:
    """List in words what one fold's study lacks; empty where it satisfies the criterion.

    Args:
        criterion: what it must have shown.
        figures: of the study; None where nobody has rated these slices.
        key: of `params.yaml` that sets the criterion.
    """
    if figures is None or not figures.readers:
        return [
            f"nobody has rated these slices, and {key} asks for it: run `auglift review`,"
            " then `auglift review export`"
        ]
    reasons = []
    if len(figures.readers) < criterion.min_readers:
        reasons.append(
            f"{len(figures.readers)} took part ({key}.min_readers: {criterion.min_readers})"
        )
    accuracy = figures.together.accuracy
    if criterion.max_accuracy is not None and accuracy.ci95 is not None:
        low, high = accuracy.ci95
        if high > criterion.max_accuracy:
            reasons.append(
                f"they told synthetic from real slices with accuracy {accuracy.value:.2f} (95 %"
                f" interval {low:.2f} to {high:.2f}; {key}.max_accuracy:"
                f" {criterion.max_accuracy:g})"
            )
    if criterion.min_realism is not None:
        scores = figures.origins["synthetic"].mean_scores if figures.origins else {}
        realism = scores.get("realism")
        if realism is None or realism < criterion.min_realism:
            found = "was not rated" if realism is None else f"is {realism:.1f} on average"
            reasons.append(
                f"realism of synthetic slices {found} ({key}.min_realism:"
                f" {criterion.min_realism:g})"
            )
    return reasons
