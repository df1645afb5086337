"""The section `train_gan`: a recipe, and the keys that override it."""

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.params import Section

# `small_data` is the default of every field below. A key in params.yaml overrides the recipe.
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
    # Sauer 2021: the discriminator reads the features of a frozen network trained on ImageNet.
    "projected": {
        "loss": "hinge",
        "learning_rate": 5e-4,
        "discriminator_rate": 5e-4,
        "pretrained_features": True,
        "discriminator_norm": "spectral",
        "minibatch_stddev": False,
        "r1_gamma": 0.0,
    },
}
Condition = Literal["area", "position", "site"]


class DiffAugmentStrengths(BaseModel):
    """Augmentation of real and generated slices before the discriminator scores them; 0 is off."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    brightness: float = Field(default=0.2, ge=0, le=2)
    contrast: float = Field(default=0.2, ge=0, lt=1)
    translation: float = Field(default=0.125, ge=0, le=0.5)  # share of the side
    cutout: float = Field(default=0.25, ge=0, lt=1)  # share of the side
    flip: bool = False  # left to right
    upside_down: bool = False  # recipe `paper` only: generated brains may be upside down too


class TrainGan(Section):
    """How `train_gan` trains a fold's generator."""

    section: ClassVar[str] = "train_gan"
    recipe: Literal["small_data", "paper", "lsgan", "wgan_gp", "hinge", "projected"] = "small_data"
    seed: int = Field(ge=0)
    threads: int = Field(ge=1, le=256)  # of each process
    processes: int = Field(default=1, ge=1, le=64)  # each trains on its share of every batch
    steps: int = Field(ge=1)
    batch: int = Field(default=16, ge=4)
    precision: Literal["fp32", "bf16", "auto"] = "auto"  # auto: bf16 where the hardware supports it

    latent: int = Field(default=64, ge=1)
    width: int = Field(default=16, ge=4, le=256)
    smooth_upsampling: bool = True  # no checkerboards
    excitation: bool = False
    discriminator_norm: Literal["none", "batch", "spectral"] = "none"
    minibatch_stddev: bool = True
    projection: bool = True  # the label enters by an inner product; otherwise as extra channels
    pretrained_features: bool = False  # the discriminator reads features of EfficientNet-Lite0
    conditions: tuple[Condition, ...] = ()  # besides the label: tumour area, position, site
    # Of a second discriminator, which sees images of all training slices, also of those without
    # outlines; 0: these teach nothing.
    unlabelled_weight: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    start_from: str = ""  # networks.safetensors of an earlier training, such as on the phantom
    start_sha256: str = ""  # of that file

    loss: Literal["logistic", "hinge", "lsgan", "wgan"] = "logistic"
    r1_gamma: float = Field(default=0.1, ge=0)
    r1_every: int = Field(default=8, ge=1)
    gradient_penalty: float = Field(default=0.0, ge=0)
    l1: float = Field(default=0.0, ge=0)
    feature_matching: float = Field(default=0.0, ge=0)
    learning_rate: float = Field(default=1e-3, gt=0, le=0.1)
    discriminator_rate: float = Field(default=1e-3, gt=0, le=0.1)
    decay: float = Field(
        default=0.4, ge=0, le=1
    )  # in this last share of the steps, learning rates fall to 0
    beta1: float = Field(default=0.0, ge=0, lt=1)
    beta2: float = Field(default=0.99, ge=0, lt=1)

    diffaugment: DiffAugmentStrengths = DiffAugmentStrengths()
    ada_target: float = Field(default=0.0, ge=0, lt=1)  # 0: augment always (Karras 2020: 0.6)
    ada_images: int = Field(
        default=8000, ge=1
    )  # images shown while the probability rises from 0 to 1
    soften: float = Field(default=0.9, gt=0, le=1)  # peak of softened masks; 1: crisp masks
    ema_half_life: int = Field(default=60, ge=0)  # steps; 0: the last weights
    patience: int = Field(
        default=0, ge=0
    )  # rows of history.csv without improvement before it stops; 0: off
    settled: int = Field(default=0, ge=0)  # rows with unchanged losses before it stops; 0: off
    max_minutes: float = Field(
        default=0, ge=0
    )  # 0: off; a training that it ends is not reproducible
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
        if self.processes > 1:
            self._batch_can_be_shared()
        self._loss_is_consistent()
        self._discriminator_is_consistent()
        if self.diffaugment.upside_down and self.recipe != "paper":
            raise ValueError(
                "diffaugment.upside_down teaches the generator upside-down brains, which leak into"
                " the synthetic slices: set it to false, or the recipe to paper"
            )
        if len(set(self.conditions)) < len(self.conditions):
            raise ValueError("conditions must differ from each other")
        if len(self.conditions) >= self.latent:
            raise ValueError("latent must be longer than conditions, which take its last places")
        if bool(self.start_from) != bool(self.start_sha256):
            raise ValueError(
                "start_from and start_sha256 belong together: a path may come to hold other"
                " weights; `sha256sum FILE` prints what start_sha256 must be"
            )
        return self

    def _batch_can_be_shared(self) -> None:
        # The minibatch standard deviation needs whole groups of four slices in each process.
        share = self.processes * (4 if self.minibatch_stddev else 1)
        if self.batch % share:
            raise ValueError(f"batch must be a multiple of {share} for {self.processes} processes")

    def _loss_is_consistent(self) -> None:
        if self.loss == "wgan" and not self.gradient_penalty:
            raise ValueError("loss wgan needs a gradient_penalty, such as 10")
        if self.loss == "wgan" and self.discriminator_norm == "batch":
            raise ValueError("loss wgan scores slice by slice: set discriminator_norm to none")
        if self.ada_target and self.loss not in ("logistic", "hinge"):
            raise ValueError(
                f"ada_target goes by the sign of the scores, which means nothing with loss"
                f" {self.loss}: set it to 0, or the loss to logistic or hinge"
            )

    def _discriminator_is_consistent(self) -> None:
        if not self.pretrained_features:
            return
        if self.r1_gamma or self.gradient_penalty or self.discriminator_norm == "batch":
            raise ValueError(
                "pretrained_features takes no gradient penalty and no batch norm: set r1_gamma and"
                " gradient_penalty to 0 and discriminator_norm to spectral, as recipe projected"
            )
        if self.minibatch_stddev or not self.projection:
            raise ValueError(
                "pretrained_features has no minibatch_stddev and always scores labels by"
                " projection: set them to false and true, as recipe projected"
            )
