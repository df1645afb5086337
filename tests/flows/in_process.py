"""Run commands of auglift in the process of the tests, where Prefect is imported already.

A process of its own spends 2 seconds on that import: only what is killed, waits, or says what
Prefect's own loggers say needs one.
"""

import signal

import pytest
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_LOGGING_TO_API_ENABLED,
    temporary_settings,
)

from flows.cli import main


def run_auglift(*words: str, api: str = "") -> int:
    """Run `auglift WORDS` in the current folder; return its exit code.

    Args:
        words: The command line.
        api: The address of a Prefect server; a command that finds something to run needs it.
    """
    terminated = signal.getsignal(signal.SIGTERM)
    settings = {PREFECT_API_URL: api or None, PREFECT_LOGGING_TO_API_ENABLED: False}
    try:
        with (
            temporary_settings(settings),
            pytest.MonkeyPatch.context() as patch,
            pytest.raises(SystemExit) as ended,
        ):
            patch.setattr("sys.argv", ["auglift", *words])
            main()
    finally:
        signal.signal(signal.SIGTERM, terminated)
    return int(ended.value.code or 0)
