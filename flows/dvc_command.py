"""Run a command of DVC that ends with this process and writes its files atomically."""

import os
import subprocess
import sys

from flows.secret_values import hide_secrets
from tasks.stage.errors import InputError
from tasks.stage.processes import PARENT


def run_dvc(*words: str) -> str:
    """Run a command of DVC and return what it printed.

    Raises:
        InputError: with the last line that it printed, without secrets, when it fails.
    """
    done = subprocess.run(
        [sys.executable, "-m", "flows.dvc_process", "--wait-for-lock", *words],
        env={**os.environ, "DVC_NO_ANALYTICS": "1", PARENT: str(os.getpid())},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        said = hide_secrets(lines[-1] if lines else "it said nothing")
        raise InputError(f"dvc {words[0]} failed: {said}")
    return done.stdout
