"""Stages as child processes: one `dvc repro --single-item` each, ended as a whole group."""

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

from tasks.stage import WRONG_INPUT

# DVC's parent may be killed like any other process: DVC then ends too, and the stage with it.
DVC = "from tasks.stage import die_with_parent as d; d(); from dvc.cli import main as m; exit(m())"
ENDED = -1
PROGRESS_EVERY_S = 15.0
GRACE_S = 10.0
# What DVC says after each single stage and what holds for the whole run only.
CHATTER = re.compile(
    r"^> |^\s*git add |^\s*dvc config core.autostage|Running stage '|Generating lock file '"
    r"|Updating lock file '|To track the changes with git|To enable auto staging|Use `dvc push`"
)


class StageFailed(Exception):  # noqa: N818 - it is what happened, as Prefect shows it
    """A stage that did not end well; `code` is its exit code, or `ENDED`."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Runner:
    """Runs stages, several at once if asked from several threads, and can end them all."""

    def __init__(self, root: Path | None = None) -> None:
        """`root` is the repository whose stages run; None stands for the current folder."""
        self._root = root
        self._children: set[subprocess.Popen[str]] = set()
        self._guard = threading.Lock()
        self._ended = False

    def repro(self, address: str, say: Callable[[str], None]) -> None:
        """Run one stage through DVC and hand its output on, a line at a time.

        Raises:
            StageFailed: with the last line that the stage printed.
        """
        child = self._start(address)
        assert child.stdout is not None
        last = ""
        code: int | None = None
        try:
            for line in readable(child.stdout):
                if failure := re.search(r"^ERROR: .*exited with (-?\d+)$", line):
                    code = int(failure[1])
                elif own := without_chatter(line):
                    say(own)
                    last = own
            ended = child.wait()
        finally:
            self._end(child)
        if ended == 0:
            return
        label = address.rsplit(":", 1)[-1]
        if self._ended:
            raise StageFailed(f"{label}: ended with the run", ENDED)
        said = last.removeprefix(f"{label}: ").removeprefix("ERROR: ") or "it said nothing"
        if code == WRONG_INPUT:
            raise StageFailed(f"{label}: {said}", code)
        raise StageFailed(f"{label} failed (exit {ended if code is None else code}): {said}", 1)

    def end(self) -> None:
        """End every stage that still runs, and start no other."""
        with self._guard:
            self._ended = True
            children = list(self._children)
        for child in children:
            self._end(child)

    def _start(self, address: str) -> subprocess.Popen[str]:
        command = ["--wait-for-lock", "repro", "--single-item", address]
        # The stages' `python` is the one that runs the flow, inside a virtual environment or not.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        with self._guard:
            if self._ended:
                raise StageFailed(f"{address}: not started, the run was ended", ENDED)
            child = subprocess.Popen(
                [sys.executable, "-c", DVC, *command],
                cwd=self._root,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
                encoding="utf-8",
                errors="replace",
            )
            self._children.add(child)
        return child

    def _end(self, child: subprocess.Popen[str]) -> None:
        """End what is left of a child and of everything it started."""
        if child.poll() is None:
            end_group(child)
        with self._guard:
            self._children.discard(child)


def end_group(child: subprocess.Popen[str]) -> None:
    """SIGTERM to a child's process group, SIGKILL to what is still there some seconds later."""
    try:
        os.killpg(child.pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_S
        while time.monotonic() < deadline:
            child.poll()  # reaps it: a zombie would keep the group alive
            os.killpg(child.pid, 0)
            time.sleep(0.1)
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        child.wait()


def without_chatter(line: str) -> str:
    """What the stage itself said: a progress bar leaves DVC's next words on its own line."""
    chatter = CHATTER.search(line)
    return line[: chatter.start()].rstrip() if chatter else line


def readable(stream: IO[str]) -> Iterator[str]:
    """The lines of a child, with the redrawings of a progress bar thinned out."""
    stream.reconfigure(newline="")  # type: ignore[attr-defined] # keep \r apart from \n
    drawn = time.monotonic()
    for raw in stream:
        line = raw.rstrip()
        if raw.endswith("\r"):
            if time.monotonic() - drawn < PROGRESS_EVERY_S:
                continue
            drawn = time.monotonic()
        if line:
            yield line
