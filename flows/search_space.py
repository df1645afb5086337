"""Which keys of `params.yaml` are searched, and over which values.

A key is followed by a list, `train_gan.batch=8,16,32`, or by a range,
`train_gan.learning_rate=1e-4..1e-2:log`, `train_gan.r1_gamma=0..2:step=0.5`. A file of the same
as YAML is a space too: `train_gan.batch: [8, 16, 32]`.
"""

import itertools
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import BaseModel, ValidationError

from tasks import params
from tasks.params.train_gan import TrainGan
from tasks.stage.errors import InputError

Space = dict[str, BaseDistribution]
Values = dict[str, Any]

SECTION = TrainGan.section
RANGE = re.compile(r"(?P<low>[^:]+?)\.\.(?P<high>[^:]+?)(?P<log>:log)?(?::step=(?P<step>[^:]+))?")
DEFAULT = (
    "train_gan.learning_rate=2e-4..4e-3:log",
    "train_gan.discriminator_rate=2e-4..4e-3:log",
    "train_gan.r1_gamma=0.01..10:log",
    "train_gan.batch=8..32:step=8",
    "train_gan.width=8,16,32",
    "train_gan.diffaugment.cutout=0,0.25,0.5",
)


def read(words: Iterable[str], file: Path | None) -> Space:
    """The space of a file and of the command line's words, which win; without both, the default.

    Raises:
        StageError: naming the key, what was found and what is allowed.
    """
    given = dict(entries(file)) if file is not None else {}
    for word in words or (() if file is not None else DEFAULT):
        key, equals, values = word.partition("=")
        if not equals:
            raise InputError(f"--set {word}: expected KEY=VALUES, such as {DEFAULT[0]}")
        given[key] = values
    space = {key: distribution(key, values) for key, values in given.items()}
    if not space:
        raise InputError(f"{file} names no keys; expected lines such as train_gan.batch: [8, 16]")
    return space


def fixed(words: Iterable[str]) -> Values:
    """Values that hold for every trial, from KEY=VALUE."""
    values: Values = {}
    for word in words:
        key, equals, value = word.partition("=")
        found = distribution(key, value) if equals else None
        if not isinstance(found, CategoricalDistribution) or len(found.choices) != 1:
            raise InputError(f"--fix {word}: expected KEY=VALUE, such as train_gan.steps=800")
        values[key] = found.choices[0]
    return values


def plain(name: str) -> str:
    """A name that can be a folder's and part of an experiment's."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,40}", name):
        raise InputError(f"--name {name!r}: expected letters, digits and hyphens")
    return name


def entries(file: Path) -> Iterator[tuple[str, str]]:
    """The keys of a space file, their values as the command line would have them."""
    try:
        tree = yaml.safe_load(file.read_text())
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}); correct --space") from None
    except yaml.YAMLError as error:
        raise InputError(f"{file} is not valid YAML: {error}") from None
    if not isinstance(tree, dict):
        raise InputError(f"{file}: expected keys with values, such as train_gan.batch: [8, 16]")
    for key, values in tree.items():
        words = values if isinstance(values, list) else [values]
        yield str(key), ",".join(map(str, words))


def distribution(key: str, words: str) -> BaseDistribution:
    """The values that one key may take.

    Raises:
        StageError: when the key is not searched, or some value is not allowed.
    """
    kind = scale_of(key)
    try:
        if found := RANGE.fullmatch(words):
            step = found["step"]
            if kind is int:
                low, high = int(found["low"]), int(found["high"])
                ends: BaseDistribution = IntDistribution(
                    low, high, log=bool(found["log"]), step=int(step or 1)
                )
            else:
                ends = FloatDistribution(
                    float(found["low"]),
                    float(found["high"]),
                    log=bool(found["log"]),
                    step=float(step) if step else None,
                )
        else:
            ends = CategoricalDistribution([scalar(word, kind) for word in words.split(",")])
    except ValueError as error:
        raise InputError(
            f"{key}={words}: {error}; expected a list such as 8,16 or a range such as"
            " 1e-4..1e-2:log or 8..32:step=8"
        ) from None
    for value in extreme_values(ends):
        if said := refusal({key: value}, alone=True):
            raise InputError(said)
    return ends


def scale_of(key: str) -> Any:
    """The type of a key of `train_gan`.

    Raises:
        StageError: when it is no such key: others would change the patients that are compared.
    """
    section, *words = key.split(".")
    if section != SECTION or not words:
        raise InputError(
            f"{key} is not searched; expected a key of {SECTION}, such as {SECTION}.batch: other"
            " sections change the slices that trials are compared on"
        )
    model: Any = TrainGan
    for word in words:
        known = model.model_fields if is_model(model) else {}
        if word not in known:
            near = params.did_you_mean(word, tuple(known))
            raise InputError(f"unknown key {key}{near}; allowed: {', '.join(known) or 'nothing'}")
        model = known[word].annotation
    if is_model(model):
        raise InputError(
            f"{key} is a group; expected one of its keys: {', '.join(model.model_fields)}"
        )
    return model


def is_model(found: Any) -> bool:
    """Whether an annotation is a group of keys."""
    return isinstance(found, type) and issubclass(found, BaseModel)


def scalar(word: str, kind: Any) -> Any:
    """One value of a list."""
    word = word.strip()
    if kind is int:
        return int(word)
    if kind is float:
        return float(word)
    value = yaml.safe_load(word)
    return value if isinstance(value, bool | str) else word


def extreme_values(found: BaseDistribution) -> list[Any]:
    """The values that show whether all are allowed."""
    if isinstance(found, CategoricalDistribution):
        return list(found.choices)
    assert isinstance(found, IntDistribution | FloatDistribution)
    return [found.low, found.high]


def refusal(values: Values, *, alone: bool = False) -> str:
    """Why `params.yaml` with these values is not valid; empty when it is.

    `alone` overlooks what only a combination makes wrong.
    """
    tree = params.load_params()
    set_values(tree, values)
    try:
        TrainGan.model_validate(tree[SECTION])
    except ValidationError as error:
        errors = [one for one in error.errors() if not (alone and not one["loc"])]
        if errors:
            first = errors[0]
            return params.explain_error(TrainGan, first) if first["loc"] else first["msg"]
    return ""


def set_values(tree: dict[str, Any], values: Values) -> None:
    """Set values of a tree of sections; groups that are missing are made."""
    for key, value in values.items():
        *way, last = key.split(".")
        group = tree
        for word in way:
            group = group.setdefault(word, {})
        if last not in group and hasattr(group, "insert"):
            group.insert(min(1, len(group)), last, value)  # behind the last hangs what follows it
        else:
            group[last] = value


def current(space: Space) -> Values | None:
    """The values of today, when the space holds them all."""
    today = TrainGan.model_validate(params.load_params()[SECTION])
    values: Values = {}
    for key, found in space.items():
        value: Any = today
        for word in key.split(".")[1:]:
            value = getattr(value, word)
        low, high = min(extreme_values(found), key=order), max(extreme_values(found), key=order)
        listed = isinstance(found, CategoricalDistribution)
        if not (value in extreme_values(found) if listed else low <= value <= high):
            return None
        values[key] = value
    return values


def order(value: Any) -> Any:
    """Numbers by size; words do not matter, they are never compared by it."""
    return value if isinstance(value, int | float) else 0


def grid(space: Space) -> list[Values]:
    """Every combination; a range without steps gives its two ends and its middle."""
    axes = [[(key, value) for value in along(found)] for key, found in space.items()]
    return [dict(point) for point in itertools.product(*axes)]


def along(found: BaseDistribution) -> list[Any]:
    """The values of one axis of a grid."""
    if isinstance(found, CategoricalDistribution):
        return list(found.choices)
    assert isinstance(found, IntDistribution | FloatDistribution)
    whole = isinstance(found, IntDistribution)
    if found.step and not (whole and found.step == 1):
        steps = math.floor((found.high - found.low) / found.step + 1e-9)
        return [rounded(found.low + step * found.step) for step in range(steps + 1)]
    middle = math.sqrt(found.low * found.high) if found.log else (found.low + found.high) / 2
    points = [found.low, round(middle) if whole else rounded(middle), found.high]
    return sorted(set(points))


def rounded(value: Any) -> Any:
    """Three significant digits of a fraction: what is tried is what is written down."""
    return float(f"{value:.3g}") if isinstance(value, float) else value
