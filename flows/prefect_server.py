"""Start a Prefect server that ends with this process, unless the user has one."""

import atexit
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from prefect.context import refresh_global_settings_context
from prefect.settings import PREFECT_API_URL

from flows.prefect_client import server_client
from flows.proxy_bypass import bypass_proxy_of
from tasks.stage.errors import InputError
from tasks.stage.processes import PARENT, die_with_parent

# Prefect can start a temporary server by itself. It then imports the whole server into the flow's
# process too, and leaves the server running when that process is killed. The server here is killed
# with the flow's process: all its state is in its database.
SERVER_CODE = (
    "from signal import SIGKILL;"
    f" from {die_with_parent.__module__} import die_with_parent as d; d(SIGKILL);"
    " import uvicorn as u; "
    "u.run('prefect.server.api.server:create_app', factory=True, host='127.0.0.1',"
    " port={port}, log_level='error', lifespan='on')"
)
START_LIMIT_S = 180.0
ANSWER_LIMIT_S = 10.0

# Holds the address of this process's temporary server, for it and its children.
TEMPORARY_SERVER_VARIABLE = "AUGLIFT_TEMPORARY_SERVER"


def ensure_server() -> None:
    """Use the server of `PREFECT_API_URL` or of the user's profile; else start a temporary one.

    The temporary server ends with this process, after Prefect has sent it the last logs. It
    keeps its runs in `PREFECT_HOME`: `prefect server start` with the same home shows them.

    Raises:
        InputError: when the user's server does not answer, or the temporary one does not start.
    """
    if url := PREFECT_API_URL.value():
        bypass_proxy_of(url)
        check_server_answers(url)
        return
    port = find_free_port()
    url = f"http://127.0.0.1:{port}/api"
    child = subprocess.Popen(
        [sys.executable, "-c", SERVER_CODE.format(port=port)],
        env={
            **os.environ,
            "PREFECT_UI_ENABLED": "0",
            "PREFECT__SERVER_EPHEMERAL": "1",
            PARENT: str(os.getpid()),
        },
        start_new_session=True,
    )
    atexit.register(stop_server, child)
    wait_until_healthy(child, url)
    os.environ["PREFECT_API_URL"] = os.environ[TEMPORARY_SERVER_VARIABLE] = url
    os.environ["PREFECT_UI_URL"] = ""  # a temporary server has no pages for a log to link to
    refresh_global_settings_context()


def is_users_server() -> bool:
    """Check whether the server is the user's own, which other flows and machines may use."""
    return PREFECT_API_URL.value() not in (None, os.environ.get(TEMPORARY_SERVER_VARIABLE))


def check_server_answers(url: str) -> None:
    """Check that the user's server answers.

    Raises:
        InputError: when it does not, in one line without the address's password.
    """
    parts = urlsplit(url)
    shown = url.replace(f"{parts.username}:{parts.password}@", "") if parts.password else url
    remedy = (
        "start it (`prefect server start`), correct PREFECT_API_URL, or unset it (in the"
        " environment, or with `prefect config unset PREFECT_API_URL`) for a temporary server"
    )
    try:
        with server_client(0, ANSWER_LIMIT_S) as client:
            client.api_version()
    except Exception as error:  # a wrong address may raise anything
        said = " ".join(str(error).split()).partition(" For more information")[0]
        raise InputError(
            f"PREFECT_API_URL is {shown}, where no Prefect server answers"
            f" ({said or type(error).__name__}); {remedy}"
        ) from None


def stop_server(child: subprocess.Popen[bytes]) -> None:
    """End the server; all its state is in its database."""
    child.terminate()
    try:
        child.wait(5)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def wait_until_healthy(child: subprocess.Popen[bytes], url: str) -> None:
    """Wait until the server answers.

    Raises:
        InputError: when it ended or did not answer within `START_LIMIT_S`.
    """
    deadline = time.monotonic() + START_LIMIT_S
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while child.poll() is None and time.monotonic() < deadline:
        try:
            with direct.open(f"{url}/health", timeout=5):
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.1)
    raise InputError(
        "the temporary Prefect server did not start; start one with `prefect server start` and"
        " name it in PREFECT_API_URL, or run `dvc repro`, which needs none"
    )


def find_free_port() -> int:
    """Return a port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
