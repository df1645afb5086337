"""What the whole suite shares: quiet threads, no telemetry, one Prefect server."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import flows  # noqa: F401 - sets the defaults that Prefect and DVC read when imported

if TYPE_CHECKING:
    from tests.flows.processes import Server

os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Files that share what is dear to make run on one worker, one group after the other: the Prefect
# server and the finished toy repository, and the cohort that the gate's tests are held against.
# The whole pipeline starts a server of its own, so that it runs beside the tests of the flow.
GROUPS = {
    "flows": ("tests/flows/",),
    "whole pipeline": ("tests/test_end_to_end.py",),
    "gate": (
        "tests/tasks/test_gate", "tests/tasks/test_known_generators.py", "tests/tasks/test_judge.py"
    ),
}  # fmt: skip


def group_of(node: str) -> str:
    """Return the name of the group that a test belongs to: by default its file."""
    file = node.partition("::")[0]
    return next((name for name, starts in GROUPS.items() if file.startswith(starts)), file)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest groups first: begun last, one would run while the other workers idle."""
    order = list(GROUPS)

    def place(item: pytest.Item) -> int:
        group = group_of(item.nodeid)
        return order.index(group) if group in order else len(order)

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give all tests of a group to one worker."""
    from xdist.scheduler import LoadFileScheduling

    class GroupScheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return GroupScheduling(config, log)


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the suite's Prefect server."""
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="session")
def prefect_server(prefect_home: Path, empty_database: Path) -> "Iterator[Server]":
    """A Prefect server that all flow runs of the suite use; a test may start it again."""
    from tests.flows.processes import Server

    if empty_database.exists():
        shutil.copy(empty_database, prefect_home / "prefect.db")
    server = Server(prefect_home)
    if not empty_database.exists():
        copy_database(prefect_home / "prefect.db", empty_database)
    yield server
    server.kill()


@pytest.fixture(scope="session")
def prefect_api(prefect_server: "Server") -> str:
    """The address of that server."""
    return prefect_server.url


@pytest.fixture(scope="session")
def empty_database(pytestconfig: pytest.Config) -> Path:
    """Where pytest's cache keeps a database with the tables of this version of Prefect.

    Making the tables takes a server 10 seconds, the first time only.
    """
    assert pytestconfig.cache is not None
    return pytestconfig.cache.mkdir("prefect") / f"{version('prefect')}.db"


@pytest.fixture(scope="session")
def empty_prefect_database(empty_database: Path, prefect_api: str) -> Path:
    """A database with Prefect's tables and no run, for a server that a test starts."""
    return empty_database


def copy_database(source: Path, copy: Path) -> None:
    """Copy a SQLite database that may be in use; the copy is whole or not there."""
    partial = copy.with_name(f"{os.getpid()}.partial")
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(partial)) as new:
        old.backup(new)
    partial.replace(copy)
