"""The section `gate`: the limits of its measures. `docs/judge.md` says what they let through."""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.common.reader_criterion import ReaderCriterion
from tasks.params import Section


class MeasureLimits(BaseModel):
    """Limits of each measure's ratio to its real-versus-real value; 1 is as good as real slices.

    `null`: the limit is the range that holds 95 % of the ratios between real patients.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    # The DCGANs of medigan reach 2 to 5.3 (by its own extractor): the limit is the worst of them.
    frechet: float | None = Field(default=5.3, gt=1)
    diversity: float | None = Field(default=0.4, ge=0, lt=1)
    ms_ssim_diversity: float | None = Field(default=0.4, ge=0, lt=1)
    orientation: float | None = Field(default=0.7, ge=0, lt=1)
    spectrum: float | None = Field(default=10.0, gt=1)
    intensity: float | None = Field(default=8.0, gt=1)
    # Unseen patients reach 3 in 1 of 100 cohorts; sets that hold a third of their tumours only,
    # by size, reach 1 to 7.
    tumor_size: float | None = Field(default=4.0, gt=1)
    tumor_position: float | None = Field(default=6.0, gt=1)
    tumor_solidity: float | None = Field(default=8.0, gt=1)
    tumor_eccentricity: float | None = Field(default=8.0, gt=1)
    # A share of images, and a contrast: a ratio of .8 means that a fifth of it is lost.
    mask_label: float | None = Field(default=0.8, ge=0, lt=1)
    mask_contrast: float | None = Field(default=0.85, ge=0, lt=1)
    # Shifted or exchanged masks reach a tenth of the agreement of real ones.
    mask_agreement: float | None = Field(default=0.6, ge=0, lt=1)
    # Generators of one site reach 0 to .58, fresh patients at least .78 (docs/judge.md).
    site_coverage: float | None = Field(default=0.65, ge=0, lt=1)
    # Two-sided: above the range slices are copies, below it they resemble no real slice.
    nearest_ssim: tuple[float, float] | None = (0.75, 1.2)


# Parts of a verdict that can be required; `frechet` is the distance on the bundled features.
VerdictPart = Literal[
    "label_0", "label_1", "tumor_copies",
    "frechet", "diversity", "ms_ssim_diversity", "nearest_ssim", "orientation", "spectrum",
    "intensity", "tumor_size", "tumor_position", "tumor_solidity", "tumor_eccentricity",
    "mask_label", "mask_contrast", "mask_agreement", "site_coverage",
]  # fmt: skip
REQUIRED: tuple[VerdictPart, ...] = (
    "label_1", "tumor_copies", "frechet", "diversity", "nearest_ssim", "orientation", "spectrum",
    "intensity", "tumor_size", "mask_label", "mask_contrast",
)  # fmt: skip


class Gate(Section):
    """How synthetic slices are evaluated."""

    section: ClassVar[str] = "gate"
    seed: int = Field(ge=0)
    threads: int = Field(ge=1, le=64)
    draws: int = Field(default=60, ge=20, le=10_000)  # subsamples for each interval
    max_shift: int = Field(default=4, ge=0, le=32)  # pixels; of the search for copies
    # An image may lie this many times as far out as the 99th percentile of held-out slices.
    tolerance: float = Field(default=2.0, ge=1, le=10)
    max_memorised: float = Field(default=0.05, ge=0, le=0.2)  # share of all images
    max_twins: float = Field(default=0.3, ge=0, le=1)  # share with a near-copy, above that of real
    min_accepted: float = Field(default=0.5, gt=0, le=1)  # share of all images
    # What must be measured before a set is accepted; other parts may be `not measured`.
    required: tuple[VerdictPart, ...] = REQUIRED
    segmenter_steps: int = Field(default=100, ge=0, le=100_000)  # 0: no segmenter is trained
    # Steps of the search for z in the membership attack on the generator; 0: it is left out.
    membership_steps: int = Field(default=40, ge=0, le=10_000)
    # Weight files for further distances besides the bundled one; null: not computed.
    inception: str | None = None
    radimagenet: str | None = None
    limits: MeasureLimits = MeasureLimits()
    readers: ReaderCriterion | None = Field(
        None, description="what the reader study (`auglift review`) must have shown; null: nothing"
    )
