"""Run stages as child processes: one `dvc repro --single-item` each, ended as a process group."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import IO, TYPE_CHECKING

from flows import dvc_locks
from flows.dvc_locks import PathsInUse, wait_for_others
from flows.dvc_process import NOT_RESTORED, RESTORE_ONLY
from flows.run_failure import ENDED, TIMED_OUT, StageFailed
from flows.secret_values import hide_secrets
from tasks.stage.errors import WRONG_INPUT
from tasks.stage.processes import PARENT, PROGRESS

if TYPE_CHECKING:
    from flows.dvc_graph import Stage

PROGRESS_INTERVAL_S = 15.0
SIGTERM_GRACE_S = 10.0
# DVC's own messages around a stage, which say nothing of the stage or hold for a whole run only.
DVC_MESSAGES = re.compile(
    r"^> |^\s*git add |^\s*dvc config core.autostage|Running stage '|Generating lock file '"
    r"|Updating lock file '|To track the changes with git|To enable auto staging|Use `dvc push`"
    r"|Data and pipelines are up to date"
)
# What DVC says of a stage that it does not run.
UNCHANGED_MESSAGE = re.compile(r"Stage '.*' didn't change, skipping$")
RESTORED_MESSAGE = re.compile(r"Stage '.*' is cached - skipping run, checking out outputs$")


class StageOutcome(Enum):
    """What DVC did with a stage; the value is the name of the task's state in Prefect."""

    RAN = "Completed"
    UNCHANGED = "Unchanged"
    RESTORED = "Restored"


@dataclass(frozen=True)
class ReproOptions:
    """How a stage is run: even if it did not change, with a time limit, with variables.

    With `restore`, outputs are taken from the run cache and the DVC remote, and nothing is run.
    """

    force: bool = False
    timeout_s: float | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    restore: bool = False


class NotRestored(StageFailed):
    """The run cache does not have a stage's outputs for its present inputs."""


# SQLite, in which DVC keeps its state, says the last two of a full disk.
DISK_FULL = re.compile(
    r"No space left on device|Disk quota exceeded|database or disk is full|disk I/O error"
)
DVC_FAREWELL = "Having any troubles?"  # its last line after an unexpected error


@dataclass
class StageOutput:
    """What is known of a running stage by the lines that it and DVC printed."""

    last: str = ""
    code: int | None = None
    outcome: StageOutcome = StageOutcome.RAN
    busy_lines: list[str] = field(default_factory=list)
    disk_full: bool = False

    def read(self, raw: str, say: Callable[[str], None]) -> None:
        """Take in one line; pass on what the stage itself printed."""
        line = hide_secrets(raw)
        self.disk_full |= bool(DISK_FULL.search(line))
        if self.busy_lines or dvc_locks.parse_busy_message(line):
            self.busy_lines.append(line)
        elif failure := re.search(r"^ERROR: .*exited with (-?\d+)$", line):
            self.code = int(failure[1])
        elif UNCHANGED_MESSAGE.search(line):
            self.outcome = StageOutcome.UNCHANGED
        elif RESTORED_MESSAGE.search(line):
            self.outcome = StageOutcome.RESTORED
        elif stage_output := strip_dvc_message(line):
            say(stage_output)
            if not stage_output.startswith(DVC_FAREWELL):
                self.last = stage_output


class DvcRunner:
    """Runs stages, several at once when called from several threads, and can end them all."""

    def __init__(self, root: Path | None = None) -> None:
        """Set the repository whose stages run; None stands for the current folder."""
        self._root = root or Path()
        self._children: set[subprocess.Popen[str]] = set()
        self._guard = threading.Lock()
        self.ended = threading.Event()

    def repro(
        self, address: str, say: Callable[[str], None], options: ReproOptions | None = None
    ) -> StageOutcome:
        """Run one stage through DVC and pass its output to `say`, a line at a time.

        Where another dvc command uses the stage's paths, wait for that command.

        Raises:
            StageFailed: with the last line that the stage printed.
            NotRestored: the run cache and the remote do not have what they were asked for.
        """
        while True:
            found = self._run_once(address, say, options or ReproOptions())
            if isinstance(found, StageOutcome):
                return found
            wait_for_others(self._root, found, say, self.ended)

    def run_elsewhere(self, stage: "Stage", say: Callable[[str], None]) -> StageOutcome | None:
        """Run a stage on another machine; None where it has to run on this one, as always here."""
        return None

    def _run_once(
        self, address: str, say: Callable[[str], None], options: ReproOptions
    ) -> PathsInUse | StageOutcome:
        """Run a stage once; return what DVC did, or the paths in use that it has to wait for."""
        child = self._start(address, options)
        assert child.stdout is not None
        output = StageOutput()
        timed_out = threading.Event()
        timer = threading.Timer(options.timeout_s or 0, self._time_out, (child, timed_out))
        timer.daemon = True
        try:
            if options.timeout_s is not None:
                timer.start()
            for line in read_lines(child.stdout):
                output.read(line, say)
            status = child.wait()
        finally:
            timer.cancel()
            self._end(child)
        if status == 0:
            return output.outcome
        label = address.rsplit(":", 1)[-1]
        if self.ended.is_set():
            raise StageFailed(f"{label}: ended with the run", ENDED)
        if timed_out.is_set():
            raise StageFailed(
                f"{label}: not done after {options.timeout_s:g} s, the timeout_seconds of"
                " meta.prefect in dvc.yaml",
                TIMED_OUT,
            )
        if output.busy_lines:
            in_use = dvc_locks.parse_busy_message("\n".join(output.busy_lines))
            assert in_use is not None
            return in_use
        if options.restore and output.code == NOT_RESTORED:
            raise NotRestored(f"{label}: not in the run cache", 1)
        reason = output.last.removeprefix(f"{label}: ").removeprefix("ERROR: ") or "it said nothing"
        if output.disk_full:  # DVC's own database says so in words of its own
            reason = "no space left on the disk, or the disk fails; free some, run it again"
        if output.code == WRONG_INPUT:
            raise StageFailed(f"{label}: {reason}", output.code)
        shown = status if output.code is None else output.code
        raise StageFailed(f"{label} failed (exit {shown}): {reason}", 1)

    def _time_out(self, child: subprocess.Popen[str], timed_out: threading.Event) -> None:
        """End a stage that takes too long."""
        timed_out.set()
        self._end(child)

    def end(self) -> None:
        """End every stage that still runs, and start no other."""
        with self._guard:
            self.ended.set()
            children = list(self._children)
        for child in children:
            self._end(child)

    def _start(self, address: str, options: ReproOptions) -> subprocess.Popen[str]:
        words = [*(["--force"] if options.force else []), *(["--pull"] if options.restore else [])]
        command = ["--wait-for-lock", "repro", "--single-item", *words, address]
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
                    **options.environment,
                    "PATH": path,
                    PROGRESS: "1",
                    "PYTHONUNBUFFERED": "1",
                    PARENT: str(os.getpid()),
                    RESTORE_ONLY: "1" if options.restore else "",
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
