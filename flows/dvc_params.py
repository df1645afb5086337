"""Let DVC read `params.yaml` with the values that a run overrides, without changing the file."""

import os
from pathlib import Path
from typing import Any

from dvc.utils.serialize import _yaml

from tasks import params

read_file = _yaml.parse_yaml


def parse_with_overrides(text: Any, path: Any, typ: str = "safe") -> Any:
    """Parse a YAML file as DVC does; in `params.yaml`, set what the run overrides.

    A file that DVC reads to write it again (`typ` rt) stays as it is.
    """
    tree = read_file(text, path, typ)
    if typ == "safe" and (values := params.read_overrides()) and is_params_file(path):
        params.set_keys(tree, values)
    return tree


def is_params_file(path: Any) -> bool:
    """Check whether a path is that of the current folder's `params.yaml`."""
    return Path(path).name == params.PARAMS.name and os.path.realpath(path) == os.path.realpath(
        params.PARAMS
    )


def override_params() -> None:
    """Let this process's DVC read overridden values: for templates, comparisons, `dvc.lock`."""
    _yaml.parse_yaml = parse_with_overrides
