"""Override keys of `params.yaml` for one run: `--set`, presets, a deployment's `params`.

The file is never written. The values go to DVC and to the stages by an environment variable that
ends with the run, so that a run that fails, or is killed, leaves nothing behind.
"""

import datetime
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tasks import params
from tasks.params import SECTIONS, did_you_mean
from tasks.stage.errors import InputError
from tasks.stage.params_file import OVERRIDES_VARIABLE

Overrides = dict[str, Any]  # dotted key: value

PRESETS = Path("presets")
KEY = re.compile(r"[a-z]\w*(\.\w+)+", re.ASCII)


def collect_overrides(
    presets: Iterable[str] = (), words: Iterable[str] = (), values: Mapping[str, Any] | None = None
) -> Overrides:
    """Collect what a run overrides; what comes later wins.

    Args:
        presets: Names of files in `presets/`.
        words: `KEY=VALUE` of the command line.
        values: Keys, or whole sections, with their values.

    Raises:
        InputError: for a preset that is missing, or what is no key of a section.
    """
    found: Overrides = {}
    for name in presets:
        found |= read_preset(name)
    for word in words:
        found |= parse_word(word)
    found |= flatten(values or {}, "params")
    return found


def parse_word(word: str) -> Overrides:
    """Parse a `KEY=VALUE`; the value is YAML, as in `params.yaml`."""
    key, equals, text = word.partition("=")
    if not equals:
        raise InputError(f"--set {word}: expected KEY=VALUE, such as train_gan.steps=4000")
    return flatten({key.strip(): parse_value(text, f"--set {word}")}, f"--set {word}")


def parse_value(text: str, origin: str) -> Any:
    """Parse a value with the YAML parser of DVC.

    Raises:
        InputError: when it is not YAML.
    """
    try:
        return YAML(typ="safe").load(text)
    except YAMLError as error:
        raise InputError(f"{origin} is not valid YAML: {' '.join(str(error).split())}") from None


def read_preset(name: str) -> Overrides:
    """Read `presets/NAME.yaml`: sections of `params.yaml`, with only the keys that it sets.

    Raises:
        InputError: listing the presets there are.
    """
    path = PRESETS / f"{name}.yaml"
    there = sorted(file.stem for file in PRESETS.glob("*.yaml"))
    if name not in there:
        known = did_you_mean(name, tuple(there))
        raise InputError(
            f"--preset {name}: there is no {path}{known}; presets: {', '.join(there) or 'none'}"
        )
    tree = parse_value(path.read_text(encoding="utf-8-sig"), str(path))
    if not isinstance(tree, dict):
        raise InputError(f"{path}: expected sections of params.yaml, found {tree!r}")
    return flatten(tree, str(path))


def flatten(tree: Mapping[str, Any], origin: str) -> Overrides:
    """Return every value of a tree with its dotted key; an empty group is a value.

    Raises:
        InputError: for what is no key of a section of `params.yaml`.
    """
    found: Overrides = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            found |= flatten({f"{key}.{word}": inner for word, inner in value.items()}, origin)
            continue
        check_key(str(key), origin)
        found[str(key)] = value.isoformat() if isinstance(value, datetime.date) else value
    return found


def check_key(key: str, origin: str) -> None:
    """Check that a key names a section of `params.yaml` and something in it."""
    section = key.partition(".")[0]
    if section not in SECTIONS:
        raise InputError(
            f"{origin}: {key!r} is no key of params.yaml{did_you_mean(section, SECTIONS)};"
            f" sections: {', '.join(SECTIONS)}"
        )
    if KEY.fullmatch(key) is None:
        raise InputError(f"{origin}: {key!r} is no key; expected one such as train_gan.steps")


@contextmanager
def overridden(values: Overrides) -> Iterator[None]:
    """Let everything in this process, and what it starts, read `params.yaml` with other values.

    Raises:
        InputError: for a value that cannot stand in `params.yaml`.
    """
    try:
        text = json.dumps(values, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"a value cannot be set ({error}); expected text, numbers, lists"
        ) from None
    before = os.environ.get(OVERRIDES_VARIABLE)
    os.environ[OVERRIDES_VARIABLE] = text
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(OVERRIDES_VARIABLE, None)
        else:
            os.environ[OVERRIDES_VARIABLE] = before


def describe_changes(values: Overrides) -> list[dict[str, str]]:
    """Return a row for each key: its value in `params.yaml`, and that of the run."""
    written = params.parse_yaml()
    return [
        {"key": key, "params.yaml": show(find(written, key)), "this run": show(value)}
        for key, value in values.items()
    ]


def find(tree: Any, key: str) -> Any:
    """Return the value of a dotted key; None where it is not written."""
    for word in key.split("."):
        tree = tree.get(word) if isinstance(tree, dict) else None
    return tree


def show(value: Any) -> str:
    """Format a value in one line; what is not written is a dash."""
    return "-" if value is None else json.dumps(value, ensure_ascii=False, default=str)
