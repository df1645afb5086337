from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.params import Section

RATING = "rating_"  # begins the names of readers' scores
Score = Literal[
    "realism", "spectrum", "outline", "mask_contrast",
    "rating_realism", "rating_anatomy", "rating_artefacts", "rating_clinical_relevance",
    "rating_diagnostic_utility",
]  # fmt: skip


class SliceFilter(BaseModel):
    """Which of the accepted slices may be added: a share of each label, ranked by a score.

    Attributes:
        score: a column of `data/gate/FOLD/samples.parquet`: how far a slice lies from training
            slices (`realism`), or its frequencies (`spectrum`), its head's outline (`outline`) or
            its tumour's contrast (`mask_contrast`) from theirs. The lowest are the best.
            `rating_...` is a mean score of the reader study (`data/review.json`), whose highest
            are the best; slices that nobody rated are not added.
        keep: the share that stays.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    score: Score
    keep: float = Field(gt=0, le=1)

    @property
    def by_readers(self) -> bool:
        """Whether readers gave the score."""
        return self.score.startswith(RATING)


class Pool(Section):
    """How many slices an arm adds to the real training slices."""

    section: ClassVar[str] = "pool"
    ratio: float = Field(gt=0, le=20)  # added slices a real training slice
    min_images: int = Field(ge=2)  # with fewer accepted slices an arm is marked `too few`
    filter: SliceFilter | None = None
    seed: int = Field(ge=0)
