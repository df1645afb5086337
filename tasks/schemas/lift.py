"""`data/lift.json`: every arm's figures, its lift, and the claim."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Claim = Literal["helps", "harms", "no evidence", "not measured"]
Status = Literal[
    "ok",
    "seed failed",  # a requested seed failed, no spare one replaces it: the figures rest on fewer
    "not converged",  # the figures include networks that learnt nothing
    "too few",
    "not applicable",  # the arm adds slices of scans without outlines, and all are outlined
    "too few patients",
    "not run",
    "not defined",
]
CONVERGED: tuple[Status, ...] = ("ok", "seed failed")  # with lifts and claims
Interval = tuple[float, float]


class StrictRecord(BaseModel):
    """A frozen record that allows no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ArmFigure(StrictRecord):
    """One metric of one arm; null where it could not be measured.

    One seed has no intervals, and an arm that is not converged has no lift.

    Attributes:
        mean: over runs, of the metric over all test patients.
        ci95: its 95 % interval over test patients and training runs, for this arm alone.
        lift_over_real: the arm's mean less that of `real`, in the metric's own unit, so that
            a negative one is the better for `hd95_mm`, `false_positive_mm2` and `brier`.
        lift_ci95: simultaneous over all arms' contrasts with `real` of this metric.
        p_adjusted: over the same contrasts; at most .05 exactly where `lift_ci95` excludes 0.
        n_patients: test patients that the metric rests on; for AUROC the smaller number of those
            with tumour slices and of those with others.
    """

    mean: float | None = None
    ci95: Interval | None = None
    lift_over_real: float | None = None
    lift_ci95: Interval | None = None
    p_adjusted: float | None = None
    n_patients: int = 0
    status: Status = "ok"


class Contrast(StrictRecord):
    """A difference that the claim rests on: a synthetic arm less one without synthetic slices.

    Attributes:
        ci95: simultaneous over the arms with real and synthetic slices. A claim requires it of
            every reference, which needs no further adjustment (intersection-union).
        p_adjusted: over the same arms; at most .05 exactly where `ci95` excludes 0.
        detectable: the smallest lift that these patients and runs would have shown in four of
            five studies like this one: no evidence means only that a lift was not larger.
        sign_flip_p: exact test that patients' differences are as often up as down, unadjusted;
            null where patients have no value of their own (AUROC).
    """

    arm: str
    reference: str
    lift: float
    ci95: Interval
    p_adjusted: float
    detectable: float | None = None
    sign_flip_p: float | None = None


class TrainingSummary(StrictRecord):
    """The end of an arm's training runs, measured on validation patients.

    Attributes:
        validation: mean over runs of the validation metric that chose the weights (AUROC, or Dice
            over the slices of `data/slices`). The ratio, the strategy and the filter are chosen
            by it, since test patients are evaluated once.
        rise: what the last fifth of the steps still gained of it.
        flat: whether that is next to nothing; else more steps might have helped.
        failed_seeds: those with which the network learnt nothing, also where they are left out.
    """

    validation: float
    rise: float | None = None
    flat: bool | None = None
    failed_seeds: list[int] = []


# Keys: kind of group, group, arm. Figures are of the primary metric.
Subgroups = dict[str, dict[str, dict[str, ArmFigure]]]


class Lift(StrictRecord):
    """All of `data/lift.json`; `notes` are what a reader of its figures should know.

    `reasons` belong to each task's claim: why it is `not measured`, or what a claim leaves open.
    """

    claim: dict[str, Claim]
    reasons: dict[str, list[str]] = {}
    tasks: dict[str, dict[str, dict[str, ArmFigure]]]
    primary: dict[str, str]
    contrasts: dict[str, list[Contrast]]
    n_patients: int
    n_seeds: int
    method: str
    subgroups: dict[str, Subgroups] = {}
    trained: dict[str, dict[str, TrainingSummary]] = {}
    notes: list[str] = []
