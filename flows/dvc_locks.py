"""Find who holds DVC's locks, and drop the entries of dead processes.

DVC locks a repository for moments (`.dvc/tmp/lock`, which the kernel frees when its holder ends)
and the paths of a stage for as long as the stage runs (`.dvc/tmp/rwlock`, a list of process ids
that a killed process leaves behind). DVC drops an entry when no process has its id. After a
restart of the machine an unrelated process may have the id; then every dvc command waits for it.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from dvc.lock import LockError, make_lock
from dvc.rwlock import SCHEMA

from flows.waiting import wait_until

# DVC's messages when another command holds the repository or paths, or left a torn list of paths.
BUSY_MESSAGE = re.compile(
    r"'(?P<path>[^']*)' is busy, it is being blocked by:|Unable to acquire lock"
    r"|Unable to read RWLock-file|RWLock-file .* format error"
)
BLOCKER = re.compile(r"^\s*\(PID (\d+)\): ", re.MULTILINE)
QUIET_PERIOD_S = (
    3.0  # a command that runs several stages holds nothing for a moment between two of them
)

DVC_TMP = Path(".dvc/tmp")
CLOCK_TOLERANCE_S = 2.0  # how far a process's start time and a file's time may disagree


@dataclass(frozen=True)
class PathsInUse:
    """A path in use, "" for the repository, and the ids of the processes that DVC named."""

    path: str
    pids: frozenset[int]


def parse_busy_message(message: str) -> PathsInUse | None:
    """Parse DVC's message that something is in use; return None for any other message."""
    found = BUSY_MESSAGE.search(message)
    if found is None:
        return None
    return PathsInUse(found["path"] or "", frozenset(map(int, BLOCKER.findall(message))))


def wait_for_others(
    root: Path, busy: PathsInUse, say: Callable[[str], None], ended: threading.Event
) -> None:
    """Wait until the commands that use a path hold no path any more.

    Where no such command is found, wait for a moment without any lock.

    Raises:
        StageFailed: when `ended` was set.
    """
    free_since: float | None = None
    path = busy.path.removeprefix(f"{root.resolve()}/")

    def attempt() -> str | None:
        nonlocal free_since
        names = describe_holders(root, busy.pids)
        if names:
            free_since = None
            return f"waiting for {' and '.join(names)}, which uses {path}"
        free_since = free_since or time.monotonic()
        if time.monotonic() - free_since >= QUIET_PERIOD_S or not any_running(busy.pids):
            return None
        return "waiting for another dvc command to end"

    wait_until(attempt, say, ended)


def wait_until_unused(root: Path, say: Callable[[str], None], ended: threading.Event) -> None:
    """Wait until no dvc command uses any path of the repository.

    Raises:
        StageFailed: when `ended` was set.
    """

    def attempt() -> str | None:
        entries = iterate_entries(read_entries(root / DVC_TMP / "rwlock"))
        pids = frozenset(entry["pid"] for _, entry in entries)
        names = describe_holders(root, pids)
        return f"waiting for {' and by '.join(names)}, which runs a stage" if names else None

    wait_until(attempt, say, ended)


def any_running(pids: frozenset[int]) -> bool:
    """Check whether any of some processes still runs; True when no process is named."""
    return not pids or any(psutil.pid_exists(pid) for pid in pids)


def lock_holder(root: Path) -> str:
    """Describe the process that holds the repository's lock."""
    try:
        pid = int((root / DVC_TMP / "lock").read_text().split()[0])
        words = psutil.Process(pid).cmdline()
    except (OSError, ValueError, IndexError, psutil.Error):
        return "another dvc command"
    return f"`{shorten_command(' '.join(words))}` (process {pid})"


def shorten_command(command: str) -> str:
    """Return a command line without its interpreter and its paths, at most 80 characters."""
    words = [word.rpartition("/")[2] for word in command.split()]
    if words and words[0].startswith("python"):
        words = words[1:]
    return " ".join(words)[:80]


def describe_holders(root: Path, pids: frozenset[int]) -> list[str]:
    """Describe those of some processes that still hold paths."""
    drop_dead_entries(root)
    found = {
        entry["pid"]: f"`{shorten_command(entry['cmd'])}` (process {entry['pid']})"
        for _, entry in iterate_entries(read_entries(root / DVC_TMP / "rwlock"))
        if entry["pid"] in pids
    }
    return list(found.values())


def drop_dead_entries(root: Path) -> None:
    """Remove entries of processes that ended from the list of paths in use.

    A list that a kill left torn cannot be trusted; it is removed.
    """
    path = root / DVC_TMP / "rwlock"
    if not path.exists():
        return
    guard = make_lock(str(root / DVC_TMP / "rwlock.lock"), tmp_dir=str(root / DVC_TMP))
    try:
        with guard:
            lock = read_entries(path)
            if lock is None:
                path.unlink(missing_ok=True)
                return
            written = path.stat().st_mtime
            dead = {
                json.dumps(e) for _, e in iterate_entries(lock) if not is_live_holder(e, written)
            }
            if dead:
                kept = {
                    "write": {p: e for p, e in lock["write"].items() if json.dumps(e) not in dead},
                    "read": {
                        p: alive
                        for p, found in lock["read"].items()
                        if (alive := [e for e in found if json.dumps(e) not in dead])
                    },
                }
                partial = path.with_name("rwlock.partial")
                partial.write_text(json.dumps(kept), encoding="utf-8")
                partial.replace(path)
    except LockError:
        return  # another process edits the list at this moment


def read_entries(path: Path) -> dict[str, Any] | None:
    """Read DVC's list of paths in use; return None when it cannot be read."""
    try:
        lock: dict[str, Any] = SCHEMA(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {"read": {}, "write": {}}
    except Exception:  # a torn file may be no JSON, no text, or of another shape
        return None
    return lock


def iterate_entries(lock: dict[str, Any] | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every path with the entry of every process that holds it."""
    if lock is None:
        return
    yield from lock["write"].items()
    for path, found in lock["read"].items():
        for entry in found:
            yield path, entry


def is_live_holder(entry: dict[str, Any], written: float) -> bool:
    """Check whether the process that wrote an entry still runs.

    A later process may have the same id: its start time and its command line are compared.

    Args:
        entry: `pid` and `cmd`, the command line of the process.
        written: When the list was last written, in seconds since 1970.
    """
    try:
        process = psutil.Process(entry["pid"])
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return False
        if process.create_time() > written + CLOCK_TOLERANCE_S:
            return False
        running, recorded = " ".join(process.cmdline()).split(), entry["cmd"].split()
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
    return bool(running) and running[-1:] == recorded[-1:]
