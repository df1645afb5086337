"""Let DVC read `params.yaml` with the values that a run overrides, without changing the file.

Also let it read each file of params, and hash each path, once for all stages of a plan.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

from dvc.output import Output
from dvc.utils.serialize import _yaml

from tasks.stage.params_file import OVERRIDES_VARIABLE, PARAMS, read_overrides, set_keys

read_file = _yaml.parse_yaml


def parse_with_overrides(text: Any, path: Any, typ: str = "safe") -> Any:
    """Parse a YAML file as DVC does; in `params.yaml`, set what the run overrides.

    A file that DVC reads to write it again (`typ` rt) stays as it is.
    """
    if typ != "safe" or not is_params_file(path):
        return read_file(text, path, typ)
    return deepcopy(parse_params(text, str(path), os.environ.get(OVERRIDES_VARIABLE)))


@lru_cache(maxsize=2)
def parse_params(text: str, path: str, _overrides: str | None) -> Any:
    """Parse `params.yaml` once for all stages: its text, with what the run overrides."""
    tree = read_file(text, path)
    set_keys(tree, read_overrides())
    return tree


def is_params_file(path: Any) -> bool:
    """Check whether a path is that of the current folder's `params.yaml`."""
    return Path(path).name == PARAMS.name and os.path.realpath(path) == os.path.realpath(PARAMS)


def override_params() -> None:
    """Let this process's DVC read overridden values: for templates, comparisons, `dvc.lock`."""
    _yaml.parse_yaml = parse_with_overrides


@contextmanager
def hashes_once() -> Iterator[None]:
    """Let DVC hash each path once, while nothing changes: a folder is read by many stages."""
    known: dict[tuple[str, str, bool], Any] = {}
    compute = Output._get_hash_meta

    def look_up(output: Output) -> Any:
        key = (str(output.fs_path), str(output.hash_name), bool(output.use_cache))
        if not output.fs.isdir(output.fs_path):
            return compute(output)  # DVC's own table of files is as fast
        if key not in known:
            known[key] = compute(output)
        return known[key]

    Output._get_hash_meta = look_up
    try:
        yield
    finally:
        Output._get_hash_meta = compute
