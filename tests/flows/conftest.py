"""A small repository that the flow has run once."""

import shutil
from pathlib import Path

import pytest

from tests.flows import intake_clone, toy_pipeline
from tests.flows.processes import FLOW


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, prefect_api: str) -> Path:
    """A toy repository that the flow has run once."""
    root = toy_pipeline.make_repo(tmp_path_factory.mktemp("toy") / "repo")
    toy_pipeline.set_behaviour(root, "downstream", "meet")
    done = toy_pipeline.run_module(root, *FLOW, PREFECT_API_URL=prefect_api)
    assert done.returncode == 0, done.stdout + done.stderr
    toy_pipeline.set_behaviour(root, "downstream", "")
    return root


@pytest.fixture
def repo(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished repository."""
    return Path(shutil.copytree(finished, tmp_path / "repo", symlinks=True))


@pytest.fixture(scope="session")
def clone_with_inbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with one commit and an empty inbox, in which nothing has run."""
    return intake_clone.make_repo(tmp_path_factory.mktemp("intake") / "repo")


@pytest.fixture
def inbox(clone_with_inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The inbox of a fresh copy of that clone, which is the current folder."""
    monkeypatch.chdir(shutil.copytree(clone_with_inbox, tmp_path / "repo", symlinks=True))
    monkeypatch.setenv("PYTHONPATH", str(toy_pipeline.ROOT))
    return Path("data/inbox")
