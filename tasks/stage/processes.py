"""Let a stage and its workers end with the process that started them."""

import ctypes
import os
import signal
import sys
from pathlib import Path

# Names the parent's process id for a child that calls `die_with_parent`.
PARENT = "AUGLIFT_PARENT"
# Set where a flow reads the progress bars of a stage, which has no terminal.
PROGRESS = "AUGLIFT_PROGRESS"


def init_worker_process() -> None:
    """Set up a worker process: it dies with its parent, which alone answers Ctrl-C."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def is_running(pid: int) -> bool:
    """Check whether a process of this machine runs; a zombie does not."""
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/stat")
        return not status.exists() or status.read_text().rpartition(")")[2].split()[0] not in "ZX"
    except PermissionError:
        return True
    except (ProcessLookupError, FileNotFoundError):
        return False


def die_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Ask Linux for a signal when the parent ends, so that no orphaned trainer lives on.

    A parent that ended before this call causes no signal. Where `AUGLIFT_PARENT` names that parent,
    this process is ended at once.
    """
    parent = int(os.environ.pop(PARENT, "0"))
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if parent and os.getppid() != parent and not is_running(parent):
        os.kill(os.getpid(), number)
