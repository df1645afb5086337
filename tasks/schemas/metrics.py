"""`data/gate/FOLD/metrics.json`, as report and release read it; how both read such files."""

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.stage.errors import InputError

Interval = tuple[float | None, float | None]


class LenientRecord(BaseModel):
    """A file of another stage: needed keys are checked, further keys are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class GateMeasure(LenientRecord):
    """One measure of the gate: the synthetic figure beside the real-versus-real one.

    `ratio` is value over baseline; `limit` bounds it: (lowest, highest), null for an open end;
    `status` is null without a ratio or a limit.
    `null95` is the range of 95 % of the ratios of real patients to each other. `n` slices of
    `patients` are the real reference.
    """

    value: float | None = None
    value_ci95: Interval | None = None
    baseline: float | None = None
    ratio: float | None = None
    ci95: Interval | None = None
    null95: Interval | None = None
    limit: Interval | None = None
    status: Literal["within", "uncertain", "outside"] | None = None
    n: int | None = None
    patients: int | None = None
    method: str = ""

    @property
    def limit_in_words(self) -> str:
        """The limit of the ratio, such as `at most 5.3`."""
        low, high = self.limit or (None, None)
        if low is not None and high is not None:
            return f"{low:g} to {high:g}"
        if high is not None:
            return f"at most {high:g}"
        return "reported only" if low is None else f"at least {low:g}"


class SliceCounts(LenientRecord):
    """How many synthetic slices there are, were accepted, are copies, have a near-copy."""

    n: int
    accepted: int
    memorised: int
    twins: int | None = None


class SubgroupRatio(LenientRecord):
    """The Fréchet ratio of a label, a third of tumour sizes or a site, and any warning."""

    ratio: float | None = None
    n: int
    patients: int
    warning: str | None = None


class MembershipFigure(LenientRecord):
    """How well an attack tells training from validation patients: AUROC, beside guessing's .5.

    `members` trained, `non_members` validated; `not_measured` says why there is no figure.
    """

    auroc: float | None = None
    ci95: Interval | None = None
    guessing: float = 0.5
    members: int
    non_members: int
    method: str = ""
    not_measured: str | None = None


class GateMetrics(LenientRecord):
    """The verdict on one fold's synthetic slices; `reasons` in words, `bounds` on single slices.

    `weights` are the SHA-256 of the feature networks, by the name of their distance;
    `generator_sha256` that of the generator which made the slices, None where they came from a
    folder. `readers` are the reasons that come from the reader study, None without `gate.readers`.
    `releasable` is false where their maker says that they are for training only, for the reason
    `not_releasable`: slices that show heads of real patients.
    """

    verdict: Literal["accepted", "rejected"]
    reasons: list[str] = []
    not_measured: dict[str, str] = {}  # part of the verdict: why it could not be measured
    blocking: list[str] = []  # those parts whose cause rejects the set
    uncertain: dict[str, str] = {}  # measure: its ratio, within a standard error of its limit
    images: SliceCounts
    measures: dict[str, GateMeasure] = {}
    bounds: dict[str, float] = {}
    subgroups: dict[str, SubgroupRatio] = {}
    weights: dict[str, str] = {}
    membership: dict[str, MembershipFigure] = {}  # attacks on the images and on the generator
    generator_sha256: str | None = None
    readers: list[str] | None = None
    releasable: bool = True
    not_releasable: str | None = None

    @property
    def unbounded(self) -> dict[str, str]:
        """What no limit could be held against, and why: it is no reason for a rejection either.

        Figures that no limit is set for are not among it.
        """
        return {
            name: why
            for name, why in self.not_measured.items()
            if name not in self.blocking
            and (name not in self.measures or self.measures[name].limit is not None)
        }


M = TypeVar("M", bound=BaseModel)


def read_metrics(model: type[M], path: Path) -> M:
    """Read and check one file of metrics.

    Raises:
        InputError: naming the file, the key and its value.
    """
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise InputError(
            f"{path} is missing; run `dvc repro` so that its stage writes it"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{path}: {key}: {first['msg']}; run `dvc repro` again so that its stage rewrites it"
        ) from None
