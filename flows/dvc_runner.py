"""Run stages as child processes: one `dvc repro --single-item` each, ended as a process group."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from flows import dvc_locks
from flows.dvc_locks import PathsInUse, wait_for_others
from flows.run_failure import ENDED, StageFailed
from tasks.stage.errors import WRONG_INPUT
from tasks.stage.processes import PARENT

PROGRESS_INTERVAL_S = 15.0
SIGTERM_GRACE_S = 10.0
# DVC's own messages around a stage, which say nothing of the stage or hold for a whole run only.
DVC_MESSAGES = re.compile(
    r"^> |^\s*git add |^\s*dvc config core.autostage|Running stage '|Generating lock file '"
    r"|Updating lock file '|To track the changes with git|To enable auto staging|Use `dvc push`"
)


class DvcRunner:
    """Runs stages, several at once when called from several threads, and can end them all."""

    def __init__(self, root: Path | None = None) -> None:
        """Set the repository whose stages run; None stands for the current folder."""
        self._root = root or Path()
        self._children: set[subprocess.Popen[str]] = set()
        self._guard = threading.Lock()
        self.ended = threading.Event()

    def repro(self, address: str, say: Callable[[str], None]) -> None:
        """Run one stage through DVC and pass its output to `say`, a line at a time.

        Where another dvc command uses the stage's paths, wait for that command.

        Raises:
            StageFailed: with the last line that the stage printed.
        """
        while (in_use := self._run_once(address, say)) is not None:
            wait_for_others(self._root, in_use, say, self.ended)

    def _run_once(self, address: str, say: Callable[[str], None]) -> PathsInUse | None:
        """Run a stage once; return the paths in use that it has to wait for, if any."""
        child = self._start(address)
        assert child.stdout is not None
        last = ""
        code: int | None = None
        busy_lines: list[str] = []
        try:
            for line in read_lines(child.stdout):
                if busy_lines or dvc_locks.parse_busy_message(line):
                    busy_lines.append(line)
                elif failure := re.search(r"^ERROR: .*exited with (-?\d+)$", line):
                    code = int(failure[1])
                elif stage_output := strip_dvc_message(line):
                    say(stage_output)
                    last = stage_output
            status = child.wait()
        finally:
            self._end(child)
        if status == 0:
            return None
        label = address.rsplit(":", 1)[-1]
        if self.ended.is_set():
            raise StageFailed(f"{label}: ended with the run", ENDED)
        if busy_lines:
            return dvc_locks.parse_busy_message("\n".join(busy_lines))
        reason = last.removeprefix(f"{label}: ").removeprefix("ERROR: ") or "it said nothing"
        if code == WRONG_INPUT:
            raise StageFailed(f"{label}: {reason}", code)
        raise StageFailed(f"{label} failed (exit {status if code is None else code}): {reason}", 1)

    def end(self) -> None:
        """End every stage that still runs, and start no other."""
        with self._guard:
            self.ended.set()
            children = list(self._children)
        for child in children:
            self._end(child)

    def _start(self, address: str) -> subprocess.Popen[str]:
        command = ["--wait-for-lock", "repro", "--single-item", address]
        # The stages' `python` is the one that runs the flow, in a virtual environment or not.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        with self._guard:
            if self.ended.is_set():
                raise StageFailed(f"{address}: not started, the run was ended", ENDED)
            child = subprocess.Popen(
                [sys.executable, "-m", "flows.dvc_process", *command],
                cwd=self._root,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ,
                    "PATH": path,
                    "PYTHONUNBUFFERED": "1",
                    PARENT: str(os.getpid()),
                },
                start_new_session=True,
                encoding="utf-8",
                errors="replace",
            )
            self._children.add(child)
        return child

    def _end(self, child: subprocess.Popen[str]) -> None:
        """End a child and all processes that it started."""
        if child.poll() is None:
            end_group(child)
        with self._guard:
            self._children.discard(child)


def end_group(child: subprocess.Popen[str]) -> None:
    """Send SIGTERM to a child's process group, and SIGKILL to what still runs 10 seconds later."""
    try:
        os.killpg(child.pid, signal.SIGTERM)
        deadline = time.monotonic() + SIGTERM_GRACE_S
        while time.monotonic() < deadline:
            child.poll()  # reaps the child: a zombie would keep the group alive
            os.killpg(child.pid, 0)
            time.sleep(0.1)
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        child.wait()


def strip_dvc_message(line: str) -> str:
    """Return what the stage itself printed on a line.

    After a progress bar, DVC's next message stands on the bar's line.
    """
    message = DVC_MESSAGES.search(line)
    return line[: message.start()].rstrip() if message else line


def read_lines(stream: IO[str]) -> Iterator[str]:
    """Yield the lines of a child's output; of a progress bar, one line in 15 seconds."""
    stream.reconfigure(newline="")  # type: ignore[attr-defined] # keep \r apart from \n
    last_progress = time.monotonic()
    for raw in stream:
        line = raw.rstrip()
        if raw.endswith("\r"):
            if time.monotonic() - last_progress < PROGRESS_INTERVAL_S:
                continue
            last_progress = time.monotonic()
        if line:
            yield line
