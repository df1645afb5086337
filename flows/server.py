"""A Prefect server for as long as this process lives, unless the user has one."""

import atexit
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

from prefect.context import refresh_global_settings_context
from prefect.settings import PREFECT_API_URL

from tasks.stage import StageError

# Prefect can start such a server by itself; it then imports the whole server into the flow's
# process too, and leaves the server behind when that process is killed.
SERVER = (
    "from tasks.stage import die_with_parent as d; d(); import uvicorn as u; "
    "u.run('prefect.server.api.server:create_app', factory=True, host='127.0.0.1',"
    " port={port}, log_level='error', lifespan='on')"
)
START_LIMIT_S = 180.0


def ensure_server() -> None:
    """Use the server of `PREFECT_API_URL` or of the user's profile; else start one.

    The temporary server ends with this process, after Prefect has sent it the last logs. It
    keeps its runs in `PREFECT_HOME`: `prefect server start` with the same home shows them.
    """
    if PREFECT_API_URL.value():
        return
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    child = subprocess.Popen(
        [sys.executable, "-c", SERVER.format(port=port)],
        env={**os.environ, "PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1"},
        start_new_session=True,
    )
    atexit.register(stop, child)
    wait_until_healthy(child, url)
    os.environ["PREFECT_API_URL"] = url
    os.environ["PREFECT_UI_URL"] = ""  # it shows no pages that a log could point to
    refresh_global_settings_context()


def stop(child: subprocess.Popen[bytes]) -> None:
    """End the server; it has nothing to lose that is not in its database."""
    child.terminate()
    try:
        child.wait(5)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def wait_until_healthy(child: subprocess.Popen[bytes], url: str) -> None:
    """Return when the server answers.

    Raises:
        StageError: when it ended or did not answer in time.
    """
    deadline = time.monotonic() + START_LIMIT_S
    while child.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.1)
    raise StageError(
        "the temporary Prefect server did not start; start one with `prefect server start` and"
        " name it in PREFECT_API_URL, or run `dvc repro`, which needs none"
    )


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
