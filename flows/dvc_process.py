"""Run DVC as a child of a flow: it ends with the flow and writes its files atomically.

Usage: `python -m flows.dvc_process ARGUMENTS`, as `dvc ARGUMENTS`. `flows.dvc_runner` starts it.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.stage.processes import PARENT, die_with_parent


def main() -> int:
    """Run DVC with this process's arguments; return its exit code."""
    die_with_parent()
    from dvc.cli import main as dvc
    from dvc.utils.serialize import _common, _yaml

    from flows.dvc_params import override_params

    override_params()
    _common._dump_data = _yaml._dump_data = dump_atomically
    os.environ[PARENT] = str(os.getpid())  # for the stage
    sys.argv[0] = "dvc"  # the name in DVC's locks and messages
    return int(dvc())


def dump_atomically(
    path: str, data: Any, dumper: Callable[..., Any], fs: object = None, **options: Any
) -> None:
    """Write a file of DVC to a temporary name, then rename it.

    DVC itself empties `dvc.lock` before it writes it. A kill in between would leave a torn file,
    with which no DVC command works.
    """
    target = Path(os.path.realpath(path))
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            dumper(data, file, **options)
        if target.exists():
            partial.chmod(target.stat().st_mode & 0o7777)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
