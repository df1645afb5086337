"""Processes of a test: started in a group of their own, watched, killed."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

from flows.prefect_server import SERVER_CODE, find_free_port, wait_until_healthy
from tests.flows import toy_pipeline

FLOW = ("flows.pipeline", "--workers", "2")
# The same from the command line, which imports Prefect only where there is something to run.
RUN = ("flows.cli", "run", "--workers", "2")


@contextmanager
def start_process(
    root: Path, *words: str, log: Path | None = None, **env: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process in a group of its own while the test runs; what it says goes to `log`."""
    # What a shell starts in the background ignores interrupts, and so would its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with (log or Path(os.devnull)).open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=root,
            env=toy_pipeline.environment(**env),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield child
    finally:
        kill(child)


def kill(child: "subprocess.Popen[bytes]") -> None:
    """Kill a process and its group, as a power cut would."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


class Server:
    """A user's Prefect server, which can be killed and started again on the same state."""

    def __init__(self, home: Path, *, pages: bool = False) -> None:
        self.home, self.port, self.pages = home, find_free_port(), pages
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER_CODE.format(port=self.port)],
            env=toy_pipeline.environment(
                PREFECT_HOME=str(self.home),
                PREFECT_UI_ENABLED=str(int(self.pages)),
                PREFECT_UI_API_URL=self.url,
                PREFECT_UI_STATIC_DIRECTORY=str(self.home / "ui"),
            ),
            start_new_session=True,
        )
        wait_until_healthy(self._process, self.url)

    def kill(self) -> None:
        """Kill it."""
        kill(self._process)


def request_json(url: str, method: str = "GET", body: object = None) -> Any:
    """What a server answers, once its database is free."""
    request = urllib.request.Request(
        url,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
        method=method,
    )
    for _ in range(60):
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read()
            return json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            if error.code != HTTPStatus.SERVICE_UNAVAILABLE:
                raise
            time.sleep(1)
    raise TimeoutError(url)


def taken_slots(api: str) -> int:
    """How many slots of the limit `gpu` a server counts."""
    return int(request_json(f"{api}/v2/concurrency_limits/gpu")["active_slots"])


def holder_records(api: str) -> list[dict[str, Any]]:
    """The variables in which the holders of slots leave word."""
    variables = request_json(f"{api}/variables/filter", "POST", {})
    return [variable for variable in variables if "auglift" in variable["name"]]


def wait_for_stage(root: Path, stage: str) -> int:
    """Wait until a stage that hangs has begun; its process."""
    before = len(toy_pipeline.read_log(root, stage))
    assert wait_for(lambda: len(toy_pipeline.read_log(root, stage)) > before, 150)
    return toy_pipeline.read_log(root, stage)[-1][2]


def has_ended(pid: int) -> bool:
    """Whether a process ends within some seconds; a zombie has ended."""

    def ended() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    return wait_for(ended, 15)


def wait_for(true: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
