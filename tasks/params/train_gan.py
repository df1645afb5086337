"""The generator's training: a recipe, and whatever is said beside it."""

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.params import Section

# `small_data` is the default of every field below. A key written in params.yaml wins over its
# recipe.
RECIPES: dict[str, dict[str, Any]] = {
    "small_data": {},
    # The seed paper's: Radford's DCGAN with L1 and feature matching.
    "paper": {
        "learning_rate": 2e-4,
        "discriminator_rate": 2e-4,
        "beta1": 0.5,
        "beta2": 0.999,
        "discriminator_norm": "batch",
        "smooth_upsampling": False,
        "minibatch_stddev": False,
        "projection": False,
        "r1_gamma": 0.0,
        "decay": 0.0,
        "l1": 1.0,
        "feature_matching": 1.0,
        "ema_half_life": 0,
        "diffaugment": {"brightness": 0, "contrast": 0, "translation": 0, "cutout": 0},
        "soften": 1.0,
    },
    "lsgan": {
        "loss": "lsgan",
        "learning_rate": 2e-4,
        "discriminator_rate": 2e-4,
        "beta1": 0.5,
        "beta2": 0.999,
        "discriminator_norm": "batch",
        "r1_gamma": 0.0,
    },
    "wgan_gp": {
        "loss": "wgan",
        "learning_rate": 2e-4,
        "discriminator_rate": 2e-4,
        "r1_gamma": 0.0,
        "gradient_penalty": 10.0,
        "minibatch_stddev": False,
    },
    "hinge": {
        "loss": "hinge",
        "learning_rate": 2e-4,
        "discriminator_rate": 4e-4,
        "discriminator_norm": "spectral",
        "r1_gamma": 0.0,
    },
}


class Augmentation(BaseModel):
    """What both real and generated slices undergo before they are scored; 0 is off."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    brightness: float = Field(default=0.2, ge=0, le=2)
    contrast: float = Field(default=0.2, ge=0, lt=1)
    translation: float = Field(default=0.125, ge=0, le=0.5)  # share of the side
    cutout: float = Field(default=0.25, ge=0, lt=1)  # share of the side
    flip: bool = False  # left to right; up and down would make upside-down brains


class TrainGan(Section):
    """How `train_gan` trains a fold's generator."""

    section: ClassVar[str] = "train_gan"
    recipe: Literal["small_data", "paper", "lsgan", "wgan_gp", "hinge"] = "small_data"
    seed: int = Field(ge=0)
    threads: int = Field(ge=1, le=256)
    steps: int = Field(ge=1)
    batch: int = Field(default=16, ge=4)
    precision: Literal["fp32", "bf16", "auto"] = "fp32"  # auto: bf16 where the hardware has it

    latent: int = Field(default=64, ge=1)
    width: int = Field(default=16, ge=4, le=256)
    smooth_upsampling: bool = True  # no checkerboards
    excitation: bool = False
    discriminator_norm: Literal["none", "batch", "spectral"] = "none"
    minibatch_stddev: bool = True
    projection: bool = True

    loss: Literal["logistic", "hinge", "lsgan", "wgan"] = "logistic"
    r1_gamma: float = Field(default=0.1, ge=0)
    r1_every: int = Field(default=8, ge=1)
    gradient_penalty: float = Field(default=0.0, ge=0)
    l1: float = Field(default=0.0, ge=0)
    feature_matching: float = Field(default=0.0, ge=0)
    learning_rate: float = Field(default=1e-3, gt=0, le=0.1)
    discriminator_rate: float = Field(default=1e-3, gt=0, le=0.1)
    decay: float = Field(default=0.4, ge=0, le=1)  # last share of the steps: rates fall to 0
    beta1: float = Field(default=0.0, ge=0, lt=1)
    beta2: float = Field(default=0.99, ge=0, lt=1)

    diffaugment: Augmentation = Augmentation()
    soften: float = Field(default=0.9, gt=0, le=1)  # peak of softened masks; 1: crisp masks
    ema_half_life: int = Field(default=60, ge=0)  # steps; 0: the last weights
    patience: int = Field(default=0, ge=0)  # rows without a better one before it stops; 0: off
    max_minutes: float = Field(default=0, ge=0)  # 0: off; a run that it ends is not repeatable
    watch_every: int = Field(default=100, ge=1)  # steps between rows of history.csv
    sheet_every: int = Field(default=400, ge=1)  # steps between sample sheets

    @model_validator(mode="before")
    @classmethod
    def _follow_recipe(cls, given: Any) -> Any:
        if isinstance(given, dict):
            return RECIPES.get(str(given.get("recipe", "small_data")), {}) | given
        return given

    @model_validator(mode="after")
    def _is_consistent(self) -> "TrainGan":
        penalised = self.r1_gamma > 0 or self.gradient_penalty > 0
        if self.discriminator_norm == "batch" and penalised:
            raise ValueError(
                "discriminator_norm batch ties the slices of a batch together, and a gradient"
                " penalty is per slice: set r1_gamma and gradient_penalty to 0, or the norm to none"
            )
        if self.batch % 2:
            raise ValueError("batch must be even: half of it is tumour slices")
        return self
