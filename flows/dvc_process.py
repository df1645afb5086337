"""Run DVC as a child of a flow: it ends with the flow and writes its files atomically.

Usage: `python -m flows.dvc_process ARGUMENTS`, as `dvc ARGUMENTS`. `flows.dvc_runner` starts it.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.stage.processes import PARENT, die_with_parent

# Set where outputs may come from the run cache alone; the exit code where they are not in it.
RESTORE_ONLY = "AUGLIFT_RESTORE_ONLY"
NOT_RESTORED = 75


def main() -> int:
    """Run DVC with this process's arguments; return its exit code."""
    die_with_parent()
    from dvc.cli import main as dvc
    from dvc.stage import run
    from dvc.utils.serialize import _common, _yaml

    from flows.dvc_params import override_params

    override_params()
    _common._dump_data = _yaml._dump_data = dump_atomically
    if os.environ.pop(RESTORE_ONLY, ""):
        run.cmd_run = refuse_to_run
    os.environ[PARENT] = str(os.getpid())  # for the stage
    sys.argv[0] = "dvc"  # the name in DVC's locks and messages
    return int(dvc())


def refuse_to_run(stage: Any, **_: object) -> None:
    """End the command of a stage that DVC did not restore, before it begins.

    Raises:
        StageCmdFailedError: always.
    """
    from dvc.stage.exceptions import StageCmdFailedError

    raise StageCmdFailedError(stage.cmd, NOT_RESTORED)


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
