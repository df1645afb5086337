"""Wait for what another process holds: the wait is reported, and ends with the run."""

import fcntl
import os
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import IO

from flows.run_failure import ENDED, StageFailed

POLL_S = 0.5
REPEAT_AFTER_S = 300.0


def wait_until(
    attempt: Callable[[], str | None],
    say: Callable[[str], None],
    ended: threading.Event,
    *,
    poll_s: float = POLL_S,
) -> None:
    """Repeat an attempt until it succeeds.

    Args:
        attempt: Returns None once it succeeded, else a message that says what it waits for.
        say: Receives the message at once, when it changes, and again every five minutes.
        ended: An event that another thread sets to give up.
        poll_s: Seconds between two attempts.

    Raises:
        StageFailed: with `ENDED`, when `ended` was set.
    """
    last_message, said_at = None, 0.0
    while (message := attempt()) is not None:
        if message != last_message or time.monotonic() - said_at > REPEAT_AFTER_S:
            last_message, said_at = message, time.monotonic()
            say(message)
        if ended.wait(poll_s):
            raise StageFailed("ended with the run while it waited", ENDED)


class FileLock:
    """A lock file with a line that says who holds it.

    The kernel frees the lock when the holding process ends, however it ends.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def acquire(self, holder: str) -> bool:
        """Lock the file and write the holder's line; return False when another process holds it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self.path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        file.truncate(0)
        file.write(holder)
        file.flush()
        self._file = file
        return True

    def read_holder(self) -> str:
        """Read the line of the process that holds the file, or held it last."""
        try:
            return self.path.read_text(encoding="utf-8").strip() or "another process"
        except OSError:
            return "another process"

    def release(self) -> None:
        """Unlock the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def is_locked(path: Path) -> bool | None:
    """Check whether a living process holds a file's lock; None when that cannot be told."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return False


def local_time() -> str:
    """Return this machine's local time, to the second."""
    return datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S")


def waiting_message(what: str, holders: list[str]) -> str:
    """Return the message of a run that waits for others."""
    return f"waiting for {what}, held by {' and by '.join(holders)}"
