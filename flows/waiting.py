"""Wait for what another process holds: said to the user, and ended with the run."""

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
        attempt: Returns None once it succeeded, else what it waits for, in words.
        say: Gets these words at once, when they change, and again every five minutes.
        ended: Set by another thread to give up; signals reach the main thread anyway.

    Raises:
        StageFailed: with `ENDED`, when `ended` was set.
    """
    said, said_at = None, 0.0
    while (reason := attempt()) is not None:
        if reason != said or time.monotonic() - said_at > REPEAT_AFTER_S:
            said, said_at = reason, time.monotonic()
            say(reason)
        if ended.wait(poll_s):
            raise StageFailed("ended with the run while it waited", ENDED)


class FileLock:
    """A file locked by this process, with a line that tells others who holds it.

    The kernel frees the lock when the process ends, however it ends.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def take(self, holder: str) -> bool:
        """Lock the file and write the line; False when another process has it."""
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

    def holder(self) -> str:
        """The line of whoever holds the file, or held it last."""
        try:
            return self.path.read_text(encoding="utf-8").strip() or "another process"
        except OSError:
            return "another process"

    def free(self) -> None:
        """Unlock the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def is_locked(path: Path) -> bool | None:
    """Whether a living process holds a file's lock; None when the file cannot be asked."""
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
    """The time on this machine's clock, to the second."""
    return datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S")


def waiting_message(what: str, holders: list[str]) -> str:
    """What a run says that waits for others."""
    return f"waiting for {what}, held by {' and by '.join(holders)}"
