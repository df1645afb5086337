"""`data/lift.json` and `data/lift.csv`: every arm's figures, its lift, and what may be claimed."""

from typing import Literal

import pandera.pandas as pa
from pandera.typing import Series
from pydantic import BaseModel, ConfigDict

Claim = Literal["helps", "harms", "no evidence", "not measured"]
Status = Literal[
    "ok",
    "seed failed",  # of those asked for, and no spare one stands in: fewer are behind the figures
    "not converged",  # networks that learnt nothing are behind the figures
    "too few",
    "too few patients",
    "not run",
    "not defined",
]
SOUND: tuple[Status, ...] = ("ok", "seed failed")  # with lifts and claims
Interval = tuple[float, float]


class Record(BaseModel):
    """Frozen, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ArmFigure(Record):
    """One metric of one arm; null where nothing could be measured.

    One seed has no intervals, and an arm that is not converged has no lift.

    Attributes:
        mean: over runs, of the metric over all test patients.
        ci95: its 95 % interval over test patients and training runs, for this arm alone.
        lift_over_real: the arm's mean less that of `real`, in the metric's own unit, so that
            a negative one is the better for `hd95_mm`, `false_positive_mm2` and `brier`.
        lift_ci95: simultaneous over all arms' contrasts with `real` of this metric.
        p_adjusted: over the same contrasts; at most .05 just where `lift_ci95` excludes 0.
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


class Contrast(Record):
    """A difference that the claim rests on: a synthetic arm less one without synthetic slices.

    Attributes:
        ci95: simultaneous over the arms with real and synthetic slices. A claim asks it of every
            reference, which needs no further adjustment (intersection-union).
        p_adjusted: over the same arms; at most .05 just where `ci95` excludes 0.
        detectable: the smallest lift that these patients and runs would have shown in four of
            five studies like this one: a null says no more than that a lift was not larger.
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


class Trained(Record):
    """How an arm's networks ended, as validation patients saw it.

    Attributes:
        validation: mean over runs of the judgement that chose the weights (AUROC, or Dice over
            the slices of `data/slices`): what the ratio, the strategy and the filter are chosen
            by, since test patients are looked at once.
        rise: what the last fifth of the steps still gained of it.
        flat: whether that is next to nothing; else the arm would have liked more steps.
        failed_seeds: those with which the network learnt nothing, also where they are left out.
    """

    validation: float
    rise: float | None = None
    flat: bool | None = None
    failed_seeds: list[int] = []


# Kind of group, group, arm; of the primary metric.
Subgroups = dict[str, dict[str, dict[str, ArmFigure]]]


class Lift(Record):
    """All of `data/lift.json`; `notes` say what the reader of its figures should know.

    `reasons` belong to each task's claim: why it is `not measured`, or what a claim that is given
    leaves open.
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
    trained: dict[str, dict[str, Trained]] = {}
    notes: list[str] = []


class LiftRows(pa.DataFrameModel):
    """`data/lift.csv`: the same figures, one row a task, metric and arm."""

    task: Series[str]
    metric: Series[str]
    arm: Series[str]
    mean: Series[float] = pa.Field(nullable=True)
    low: Series[float] = pa.Field(nullable=True)
    high: Series[float] = pa.Field(nullable=True)
    lift: Series[float] = pa.Field(nullable=True)
    lift_low: Series[float] = pa.Field(nullable=True)
    lift_high: Series[float] = pa.Field(nullable=True)
    p_adjusted: Series[float] = pa.Field(nullable=True, ge=0, le=1)
    n_patients: Series[int] = pa.Field(ge=0)
    status: Series[str]
