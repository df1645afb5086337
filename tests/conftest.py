"""What the whole suite shares: quiet threads, no telemetry, one Prefect server."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

import flows  # noqa: F401 - sets the defaults that Prefect and DVC read when imported

os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest file first: begun last, it would run while the other workers idle."""
    items.sort(key=lambda item: item.path.name != "test_end_to_end.py")


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prefect server that all flow runs of the suite use."""
    from flows.prefect_server import SERVER_CODE, wait_until_healthy

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    home = tmp_path_factory.mktemp("prefect")
    child = subprocess.Popen(
        [sys.executable, "-c", SERVER_CODE.format(port=port)],
        env={**os.environ, "PREFECT_HOME": str(home), "PREFECT_UI_ENABLED": "0"},
    )
    try:
        wait_until_healthy(child, url)
        yield url
    finally:
        child.terminate()
        child.wait(20)
