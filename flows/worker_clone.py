"""Enter the clone of a worker: the pull step of the deployment `stage`."""

import os
from pathlib import Path

from tasks.stage.errors import InputError

CLONE_VARIABLE = "AUGLIFT_CLONE"


def enter() -> dict[str, str]:
    """Change into the clone that `AUGLIFT_CLONE` names, as a pull step of Prefect does.

    The variable belongs to the worker, so that workers on one machine have clones of their own.

    Raises:
        InputError: it is not set, or names no clone.
    """
    folder = os.environ.get(CLONE_VARIABLE, "")
    if not folder or not Path(folder, ".dvc").is_dir():
        raise InputError(
            f"{CLONE_VARIABLE} is {folder!r}; set it, where the worker is started, to a clone that"
            " this worker alone uses: local changes in it are overwritten"
        )
    os.chdir(folder)
    return {"directory": str(Path.cwd())}
