from typing import Annotated, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    model_validator,
)  # fmt: skip

from tasks.common.arms import Arm
from tasks.params import Section, read_key
from tasks.stage.errors import InputError

Task = Literal["classify", "segment"]


def check_arm(name: str) -> str:
    """Check an arm's name; the error is its parser's."""
    return Arm.parse(name).name


def check_distinct(values: list[str] | list[int]) -> list[str] | list[int]:
    """Reject a list with duplicates."""
    if len(set(values)) != len(values):
        raise ValueError("each value may stand once only")
    return values


class TaskTraining(BaseModel):
    """How one task's networks are trained: the same in all arms.

    Attributes:
        steps: optimiser steps; the one-cycle schedule needs at least 8.
        batch: slices a step; a multiple of 4 (real and added, with and without tumour).
        learning_rate: peak of the one-cycle schedule.
        ema: decay of the moving average of the weights, which is the network that is tested.
        evaluations: how often the averaged weights are evaluated on validation patients, evenly
            over the steps; they are not chosen by it.
        strategy: `mixed` batches are half real and half added; `pretrain` takes the first half
            of the steps on added slices alone and the second on real ones. Arms with one source
            are the same under both.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    steps: int = Field(default=250, ge=8)
    batch: int = Field(default=16, ge=4, multiple_of=4)
    learning_rate: float = Field(default=3e-3, gt=0, le=1)
    ema: float = Field(default=0.99, ge=0, lt=1)
    evaluations: int = Field(default=5, ge=1)
    strategy: Literal["mixed", "pretrain"] = "mixed"


class ClassifyTraining(TaskTraining):
    """How classifiers are trained.

    Attributes:
        network: `efficientnet` fine-tunes EfficientNet-Lite0 of ImageNet (weights come with a
            package); `resnet` trains a small residual network from random weights.
    """

    network: Literal["efficientnet", "resnet"] = "efficientnet"


class SegmentTraining(TaskTraining):
    """How segmenters are trained and tested.

    Attributes:
        width: channels of the U-Net's first level; each of the next three has twice as many.
        components: `largest` keeps the largest connected part of a volume's predicted tumour,
            as is common where patients have one tumour (Buda 2019, arXiv 1906.03720); `all` is
            for tumours in several places.
    """

    width: int = Field(default=8, ge=4)
    components: Literal["largest", "all"] = "largest"


class Downstream(Section):
    """Arms, seeds and schedules of the comparison.

    Attributes:
        reruns: spare seeds, those after the largest of `seeds`. Every arm trains them, so that
            one can stand in, in all arms alike, for a seed with which some arm did not learn.
        permutations: how often the arm `random-labels` permutes its labels; fewer than 20 cannot
            tell chance from a leak.
        precision: of products; `bf16` is bfloat16, `auto` is bf16 where the hardware has it.
    """

    section: ClassVar[str] = "downstream"
    tasks: Annotated[list[Task], AfterValidator(check_distinct)] = Field(min_length=1)
    arms: Annotated[
        list[Annotated[str, AfterValidator(check_arm)]], AfterValidator(check_distinct)
    ] = Field(min_length=1)
    seeds: Annotated[list[NonNegativeInt], AfterValidator(check_distinct)] = Field(min_length=1)
    reruns: int = Field(default=0, ge=0)
    permutations: int = Field(default=20, ge=20)
    threads: int = Field(default=1, ge=1)
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    classify: ClassifyTraining = ClassifyTraining()
    segment: SegmentTraining = SegmentTraining()

    @model_validator(mode="after")
    def _credits_no_other_source(self) -> "Downstream":
        for arm in map(Arm.parse, self.arms):
            for twin, why in arm.twins():
                if twin not in self.arms:
                    raise ValueError(
                        f"arm {arm.name!r} could owe its gain to {why}: list {twin!r} too"
                    )
        return self

    @property
    def all_seeds(self) -> list[int]:
        """The seeds and the spare seeds."""
        return [*self.seeds, *range(max(self.seeds) + 1, max(self.seeds) + 1 + self.reruns)]


def read_arms() -> list[Arm]:
    """Read `downstream.arms` of `params.yaml`.

    Raises:
        InputError: an arm is unknown or listed twice.
    """
    names: list[str] = read_key("downstream.arms")
    try:
        if not isinstance(names, list) or len(set(names)) < len(names):
            raise ValueError("a list in which each arm stands once is expected")
        return [Arm.parse(str(name)) for name in names]
    except (ValueError, TypeError) as error:
        raise InputError(f"params.yaml: downstream.arms is {names!r}: {error}") from None
