"""Read `params.yaml` as frozen models, one section a file, so that a stage depends on its own.

A run may set other values for some keys (`auglift run --set`). The flow names them in an
environment variable, so that the file itself never changes; DVC gets them by `flows.dvc_params`.
"""

import re
from collections.abc import Iterator
from copy import deepcopy
from functools import lru_cache
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from tasks.stage.errors import InputError
from tasks.stage.params_file import PARAMS, read_overrides, set_keys

MAX_TEXT_LENGTH = 1000
SECTIONS = (
    "data", "phantom", "ingest", "slices", "synthetic", "train_gan", "generate", "gate", "teacher",
    "implant", "pool", "downstream", "lift", "report", "release",
    "after_run",
)  # fmt: skip


class Section(BaseModel):
    """A section of `params.yaml`; `section` is its name there."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)
    section: ClassVar[str]


S = TypeVar("S", bound=Section)


def read_section(model: type[S]) -> S:
    """Read and check one section.

    Raises:
        InputError: naming the key, what was found and what is allowed.
    """
    tree = load_params()
    try:
        return model.model_validate(tree.get(model.section, {}))
    except ValidationError as error:
        # A mistyped key is both unknown and missing; the message shows the unknown one.
        errors = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        raise InputError(explain_error(model, errors[0])) from None


def read_key(key: str) -> Any:
    """Read one key of another stage's section, such as `slices.folds`, without checks.

    That stage ran before and has checked the key.
    """
    value: Any = load_params()
    for word in key.split("."):
        if not isinstance(value, dict) or word not in value:
            raise InputError(f"params.yaml: {key} is missing; add it (see tasks/params/)")
        value = value[word]
    return value


def load_params() -> dict[str, Any]:
    """Parse `params.yaml` as DVC does, set what the run overrides, check what concerns every stage.

    Raises:
        InputError: for invalid YAML, a duplicate key, an unknown section, or text with line breaks
            or other characters that cannot be seen.
    """
    tree = parse_yaml()
    if not isinstance(tree, dict):
        raise InputError("params.yaml: expected sections, found nothing")
    set_keys(tree, read_overrides())
    for name in tree:
        if name not in SECTIONS:
            raise InputError(
                f"params.yaml: unknown section {name!r}{did_you_mean(str(name), SECTIONS)};"
                f" allowed: {', '.join(SECTIONS)}"
            )
    for key, value in leaf_values(tree):
        if isinstance(value, str) and not (value.isprintable() and len(value) <= MAX_TEXT_LENGTH):
            raise InputError(
                f"params.yaml: {key} is {truncate(repr(value))}; one line of at most"
                f" {MAX_TEXT_LENGTH} characters that can be seen is allowed"
            )
    return tree


def parse_yaml() -> Any:
    """Parse `params.yaml` with the parser of DVC; others read `010` or `on` differently.

    Raises:
        InputError: naming the line, and a duplicate key.
    """
    try:
        return deepcopy(parse_text(PARAMS.read_text(encoding="utf-8-sig")))
    except FileNotFoundError:
        raise InputError("params.yaml is missing; run from the repository's root") from None
    except UnicodeDecodeError as error:
        raise InputError(f"params.yaml is not UTF-8: {error}; save it as UTF-8") from None
    except DuplicateKeyError as error:
        key = re.search(r'duplicate key "(.*?)" with', str(error.problem))
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise InputError(
            f"params.yaml: the key {key[1] if key else '?'!r} stands twice in one section, again"
            f" on line {line}; remove one of the two (DVC says only that the file is corrupted)"
        ) from None
    except MarkedYAMLError as error:
        reason = " ".join(f"{error.context or ''} {error.problem or ''}".split())
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise InputError(f"params.yaml is not valid YAML: line {line}: {reason}") from None
    except YAMLError as error:
        raise InputError(f"params.yaml is not valid YAML: {' '.join(str(error).split())}") from None


@lru_cache(maxsize=1)
def parse_text(text: str) -> Any:
    """Parse a text of YAML; every section is read from the same text, which takes 15 ms to parse.

    Raises:
        YAMLError: it is no YAML.
    """
    return YAML(typ="safe").load(text)


def leaf_values(tree: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of a tree of dictionaries and lists, with its dotted key."""
    if isinstance(tree, dict | list):
        for word, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from leaf_values(value, f"{key}.{word}".lstrip("."))
    else:
        yield key, tree


def explain_error(model: type[Section], error: ErrorDetails) -> str:
    """Explain an error of pydantic in one line: the key, what was found, what is allowed."""
    key = ".".join([model.section, *map(str, error["loc"])])
    if error["type"] == "extra_forbidden":
        fields = tuple(keys_at(model, error["loc"][:-1]))
        word = str(error["loc"][-1])
        allowed = ", ".join(fields) or "nothing"
        return f"params.yaml: unknown key {key}{did_you_mean(word, fields)}; allowed: {allowed}"
    if error["type"] == "missing":
        return f"params.yaml: {key} is missing; add it (tasks/params/{model.section}.py says how)"
    reason = error["msg"].removeprefix("Value error, ")
    return f"params.yaml: {key} is {truncate(repr(error['input']))}: {reason}"


def truncate(text: str, most: int = 80) -> str:
    """Return a text, cut to `most` characters."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def keys_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that a model allows at a location inside it."""
    current: type[BaseModel] = model
    for word in location:
        field = current.model_fields.get(str(word))
        inner = field.annotation if field is not None else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        current = inner
    return list(current.model_fields)


def did_you_mean(word: str, names: tuple[str, ...]) -> str:
    """Return a 'did you mean' where a word is close to one of the names, else ""."""
    from difflib import get_close_matches

    close = get_close_matches(word, names, n=1)
    return f", did you mean {close[0]!r}?" if close else ""
