"""Parse the search space: which keys of `params.yaml` are searched, over which values.

A key is followed by a list, `train_gan.batch=8,16,32`, or by a range,
`train_gan.learning_rate=1e-4..1e-2:log`, `train_gan.r1_gamma=0..2:step=0.5`. A YAML file
of such keys is a space too: `train_gan.batch: [8, 16, 32]`.
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
DEFAULT_SPACE = (
    "train_gan.learning_rate=2e-4..4e-3:log",
    "train_gan.discriminator_rate=2e-4..4e-3:log",
    "train_gan.r1_gamma=0.01..10:log",
    "train_gan.batch=8..32:step=8",
    "train_gan.width=8,16,32",
    "train_gan.diffaugment.cutout=0,0.25,0.5",
)


def read_space(words: Iterable[str], file: Path | None) -> Space:
    """Read the space from a file and from the command line; without both, return the default.

    Args:
        words: `KEY=VALUES` of the command line; they win over the file.
        file: A YAML file of keys and values.

    Raises:
        InputError: naming the key, what was found and what is allowed.
    """
    texts = dict(read_space_file(file)) if file is not None else {}
    for word in words or (() if file is not None else DEFAULT_SPACE):
        key, equals, values = word.partition("=")
        if not equals:
            raise InputError(f"--set {word}: expected KEY=VALUES, such as {DEFAULT_SPACE[0]}")
        texts[key] = values
    space = {key: parse_distribution(key, values) for key, values in texts.items()}
    if not space:
        raise InputError(f"{file} names no keys; expected lines such as train_gan.batch: [8, 16]")
    return space


def parse_fixed_values(words: Iterable[str]) -> Values:
    """Parse `KEY=VALUE` words into the values that hold for every trial."""
    values: Values = {}
    for word in words:
        key, equals, value = word.partition("=")
        found = parse_distribution(key, value) if equals else None
        if not isinstance(found, CategoricalDistribution) or len(found.choices) != 1:
            raise InputError(f"--fix {word}: expected KEY=VALUE, such as train_gan.steps=800")
        values[key] = found.choices[0]
    return values


def check_search_name(name: str) -> str:
    """Check that a search's name can name a folder and be part of an experiment's name."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,40}", name):
        raise InputError(f"--name {name!r}: expected letters, digits and hyphens")
    return name


def read_space_file(file: Path) -> Iterator[tuple[str, str]]:
    """Yield the keys of a space file, with their values in the command line's form."""
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


def parse_distribution(key: str, words: str) -> BaseDistribution:
    """Parse the values that one key may take.

    Raises:
        InputError: when the key is not searched, or some value is not allowed.
    """
    kind = key_type(key)
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
            ends = CategoricalDistribution([parse_scalar(word, kind) for word in words.split(",")])
    except ValueError as error:
        raise InputError(
            f"{key}={words}: {error}; expected a list such as 8,16 or a range such as"
            " 1e-4..1e-2:log or 8..32:step=8"
        ) from None
    for value in extreme_values(ends):
        if said := invalid_reason({key: value}, alone=True):
            raise InputError(said)
    return ends


def key_type(key: str) -> Any:
    """Return the type of a key of `train_gan`.

    Raises:
        InputError: for any other key, which would change the slices that trials are compared on.
    """
    section, *words = key.split(".")
    if section != SECTION or not words:
        raise InputError(
            f"{key} is not searched; expected a key of {SECTION}, such as {SECTION}.batch: other"
            " sections change the slices that trials are compared on"
        )
    model: Any = TrainGan
    for word in words:
        known = model.model_fields if is_group(model) else {}
        if word not in known:
            near = params.did_you_mean(word, tuple(known))
            raise InputError(f"unknown key {key}{near}; allowed: {', '.join(known) or 'nothing'}")
        model = known[word].annotation
    if is_group(model):
        raise InputError(
            f"{key} is a group; expected one of its keys: {', '.join(model.model_fields)}"
        )
    return model


def is_group(found: Any) -> bool:
    """Check whether an annotation is a group of keys."""
    return isinstance(found, type) and issubclass(found, BaseModel)


def parse_scalar(word: str, kind: Any) -> Any:
    """Parse one value of a list."""
    word = word.strip()
    if kind is int:
        return int(word)
    if kind is float:
        return float(word)
    value = yaml.safe_load(word)
    return value if isinstance(value, bool | str) else word


def extreme_values(found: BaseDistribution) -> list[Any]:
    """Return the values that have to be valid for all to be valid: a list, or a range's ends."""
    if isinstance(found, CategoricalDistribution):
        return list(found.choices)
    assert isinstance(found, IntDistribution | FloatDistribution)
    return [found.low, found.high]


def invalid_reason(values: Values, *, alone: bool = False) -> str:
    """Return why `params.yaml` with these values is not valid; "" when it is valid.

    Args:
        values: Dotted keys with the values to set.
        alone: Whether to ignore errors that only a combination of values causes.
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
    """Set values in a tree of sections; missing groups are added."""
    for key, value in values.items():
        *way, last = key.split(".")
        group = tree
        for word in way:
            group = group.setdefault(word, {})
        if last not in group and hasattr(group, "insert"):
            group.insert(
                min(1, len(group)), last, value
            )  # the comment that follows the section belongs to its last key
        else:
            group[last] = value


def current_values(space: Space) -> Values | None:
    """Return the current values of the searched keys; None where one lies outside the space."""
    current = TrainGan.model_validate(params.load_params()[SECTION])
    values: Values = {}
    for key, found in space.items():
        value: Any = current
        for word in key.split(".")[1:]:
            value = getattr(value, word)
        low, high = (
            min(extreme_values(found), key=sort_key),
            max(extreme_values(found), key=sort_key),
        )
        listed = isinstance(found, CategoricalDistribution)
        if not (value in extreme_values(found) if listed else low <= value <= high):
            return None
        values[key] = value
    return values


def sort_key(value: Any) -> Any:
    """Return a number itself, so that numbers sort by size, and 0 for any other value."""
    return value if isinstance(value, int | float) else 0


def grid_points(space: Space) -> list[Values]:
    """Return every combination; a range without steps gives its two ends and its middle."""
    axes = [[(key, value) for value in axis_values(found)] for key, found in space.items()]
    return [dict(point) for point in itertools.product(*axes)]


def axis_values(found: BaseDistribution) -> list[Any]:
    """Return the values of one axis of a grid."""
    if isinstance(found, CategoricalDistribution):
        return list(found.choices)
    assert isinstance(found, IntDistribution | FloatDistribution)
    whole = isinstance(found, IntDistribution)
    if found.step and not (whole and found.step == 1):
        steps = math.floor((found.high - found.low) / found.step + 1e-9)
        return [round_value(found.low + step * found.step) for step in range(steps + 1)]
    middle = math.sqrt(found.low * found.high) if found.log else (found.low + found.high) / 2
    points = [found.low, round(middle) if whole else round_value(middle), found.high]
    return sorted(set(points))


def round_value(value: Any) -> Any:
    """Round a fraction to three significant digits, so that what is tried is what is written."""
    return float(f"{value:.3g}") if isinstance(value, float) else value
