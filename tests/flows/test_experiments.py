"""`dvc exp run` in a temporary clone and from a queue, with DVC's table of paths kept private."""

import shutil
import time
from contextlib import chdir
from pathlib import Path

import pytest

from tasks.ingest.privacy.private_files import DVC_TABLES, make_private_folder
from tests.flows import dag_with_quick_stages, toy_pipeline
from tests.flows.in_process import run_auglift

PUBLIC = Path("/var/tmp/dvc/repo")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy repository with a batch that only this machine has, after `auglift check` and a run."""
    root = toy_pipeline.make_repo(tmp_path_factory.mktemp("experiments") / "repo")
    (root / "data/raw/ward7").mkdir()
    (root / "data/raw/ward7/Mustermann.dcm").write_text("scan")
    toy_pipeline.change_section(root, "data", batches=["ward7"])
    check(root)
    dag_with_quick_stages.git(root, "config", "user.name", "t")
    dag_with_quick_stages.git(root, "config", "user.email", "t@t")
    dag_with_quick_stages.dvc(root, "repro")
    dag_with_quick_stages.commit(root)
    return root


@pytest.fixture
def repo(finished: Path, tmp_path: Path) -> Path:
    """A copy of it; what says where the first one keeps its tables is set right."""
    root = Path(shutil.copytree(finished, tmp_path / "repo", symlinks=True))
    check(root)
    return root


def check(root: Path) -> None:
    """Run `auglift check`, which keeps DVC's table of paths in the clone."""
    with chdir(root):
        assert run_auglift("check") == 0


def public() -> set[Path]:
    """DVC's tables where all users can read them."""
    return set(PUBLIC.iterdir()) if PUBLIC.is_dir() else set()


def values(root: Path) -> str:
    return dag_with_quick_stages.dvc(root, "exp", "show", "--csv", "--no-pager")


def test_an_experiment_runs_in_a_temporary_clone(repo: Path) -> None:
    before = public()
    output = dag_with_quick_stages.dvc(
        repo, "exp", "run", "--temp", "--allow-missing", "-S", "lift.seed=41"
    )
    assert "Ran experiment(s)" in output
    assert ",41," in values(repo)
    assert public() == before
    assert list((repo / DVC_TABLES).rglob("*.db"))
    assert (repo / ".private").stat().st_mode & 0o077 == 0


@pytest.mark.verify
@pytest.mark.timeout(300)
def test_experiments_run_from_a_queue(repo: Path) -> None:
    before = public()
    dag_with_quick_stages.dvc(
        repo, "exp", "run", "--queue", "--allow-missing", "-S", "lift.seed=42,43"
    )
    dag_with_quick_stages.dvc(repo, "queue", "start")
    deadline = time.monotonic() + 200
    while (
        "Queued" in (output := dag_with_quick_stages.dvc(repo, "queue", "status"))
        or "Running" in output
    ):
        assert time.monotonic() < deadline, output
        time.sleep(2)
    assert output.count("Success") == 2, output
    assert ",42," in values(repo)
    assert ",43," in values(repo)
    assert public() == before


def test_a_copied_clone_names_its_own_folder_and_a_temporary_one_that_of_its_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {}
    for name in ("first", "second", "second/.dvc/tmp/exps/standalone/x"):
        root = tmp_path / name
        (root / ".dvc").mkdir(parents=True)
        if config:
            (root / ".dvc/config.local").write_text(config["first"])
        if "tmp" in name:
            (root / ".dvc/config.local").write_text(config["second"])
        monkeypatch.chdir(root)
        make_private_folder()
        config[name] = (root / ".dvc/config.local").read_text()
    assert config["first"].split()[-1] == str(tmp_path / "first/.private/dvc")
    assert config["second"].split()[-1] == str(tmp_path / "second/.private/dvc")
    assert config["second/.dvc/tmp/exps/standalone/x"] == config["second"]


def test_a_folder_that_the_owner_chose_stays_and_so_do_other_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    file = tmp_path / ".dvc/config.local"
    own = "[core]\n    site_cache_dir = /srv/tables\n"
    file.write_text(own)
    make_private_folder()
    assert file.read_text() == own
    remote = "['remote \"beside\"']\n    url = /srv/Süd, 1\n"
    file.write_text(remote)
    make_private_folder()
    assert file.read_text().startswith(remote.splitlines()[0])
    assert "Süd, 1" in file.read_text()
    assert str(tmp_path / DVC_TABLES) in file.read_text()
