"""What is wrong before anything starts is said in one line, with exit code 2."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows import preflight
from flows.cli import main
from flows.dvc_graph import TaskOptions, read_task_options
from tasks.stage.errors import InputError
from tasks.stage.params_file import OVERRIDES_VARIABLE
from tests.flows import toy_pipeline


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = toy_pipeline.make_repo(tmp_path / "repo")
    monkeypatch.chdir(root)
    return root


def complaint() -> str:
    with pytest.raises(InputError) as caught:
        preflight.check_clone()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_whole_clone_passes(repo: Path) -> None:
    checked = [line.split()[0] for line in preflight.check_clone()]
    assert checked == ["root", "disk", "params", "batches", "source"]


def test_a_typo_names_key_and_remedy(repo: Path) -> None:
    toy_pipeline.change_section(repo, "slices", sise=64)
    assert complaint().startswith(
        "params.yaml: unknown key slices.sise, did you mean 'size'?; allowed: size,"
    )


def test_a_wrong_value_names_key_found_and_allowed(repo: Path) -> None:
    toy_pipeline.change_section(repo, "slices", val_fraction=7)
    assert "slices.val_fraction is 7" in complaint()


def test_a_fold_to_release_that_is_not_there_is_found_before_the_run(repo: Path) -> None:
    toy_pipeline.change_section(repo, "release", contents="augmented", fold=7)
    assert complaint().startswith("params.yaml: release.fold is 7: there are only the folds 0")


def test_an_unknown_section_is_refused(repo: Path) -> None:
    toy_pipeline.write_params(
        repo, {**yaml.safe_load((repo / "params.yaml").read_text()), "gann": {}}
    )
    assert "unknown section 'gann'" in complaint()


def test_a_value_that_dvc_cannot_read_is_to_be_quoted(repo: Path) -> None:
    text = (repo / "params.yaml").read_text()
    (repo / "params.yaml").write_text(text.replace("'2000-01-01'", "2000-01-01"))
    assert complaint() == (
        "params.yaml: release.date is a date, which DVC cannot read;"
        ' write it in quotes: "2000-01-01"'
    )


def test_a_missing_batch_is_named_with_what_is_there(repo: Path) -> None:
    toy_pipeline.change_section(repo, "data", batches=["phantom", "upenn"])
    (repo / "data/raw/ucsf").mkdir()
    line = complaint()
    assert "data.batches lists 'upenn', but data/raw/upenn is missing" in line
    assert "found: ucsf, can be made: phantom" in line


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ward 7", "is 'ward 7': a name has letters, digits, '.', '-', '_', and begins with a"),
        ("site/a", "is 'site/a': a name has letters"),
        ("..", "is '..': a name has letters"),
        (2024, 'is 2024: a name is expected; write it in quotes: "2024"'),
    ],
)
def test_a_batch_that_is_no_word_is_named_with_what_is_allowed(
    name: object, message: str, repo: Path
) -> None:
    toy_pipeline.change_section(repo, "data", batches=["phantom", name])
    assert complaint().startswith(f"params.yaml: data.batches.1 {message}")


def test_a_batch_listed_twice_is_refused_also_where_only_capitals_differ(repo: Path) -> None:
    for twice in (["ward7", "ward7"], ["ward7", "Ward7"]):
        toy_pipeline.change_section(repo, "data", batches=twice)
        assert "batches must differ from each other" in complaint()


def test_a_missing_folder_of_synthetic_slices_is_named(repo: Path) -> None:
    toy_pipeline.change_section(repo, "synthetic", source="my/slices")
    assert "synthetic.source is 'my/slices', which is no folder; put images" in complaint()


def test_a_folder_that_is_no_clone_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert complaint() == "dvc.yaml is not here; run from the root of a clone of auglift"


@pytest.fixture
def small_disk(repo: Path) -> Iterator[Path]:
    """A copy of the repository on a disk of two megabytes."""
    disk = repo.parent / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root and the right to mount")
    try:
        yield Path(shutil.copytree(repo, disk / "repo"))
    finally:
        os.chdir(repo)
        subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_one_line(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small_disk)
    assert "the disk is nearly full" in complaint()


def test_a_disk_that_cannot_be_written_is_one_line(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small_disk)
    mount = str(small_disk.parent)
    subprocess.run(["mount", "-o", "remount,ro", mount], check=True)
    assert "cannot be written (Read-only file system)" in complaint()


def test_the_command_line_ends_with_two(
    repo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toy_pipeline.change_section(repo, "slices", sise=64)
    for words in (["check"], ["run"]):
        monkeypatch.setattr("sys.argv", ["auglift", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        assert capsys.readouterr().err.startswith("auglift: params.yaml: unknown key slices.sise")


def test_check_says_what_would_run(
    repo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["auglift", "check"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "10, to run: data/raw/dvc.yaml:phantom, ingest@phantom" in capsys.readouterr().out


def test_check_takes_the_values_that_a_run_would_take(
    repo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["auglift", "check", "--set", "slices.size=-64"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "slices.size" in said and "this run sets slices.size" in said
    assert OVERRIDES_VARIABLE not in os.environ


@pytest.mark.parametrize(
    ("meta", "line"),
    [
        ({"retrys": 2}, "meta.prefect.retrys is 2: Extra inputs are not permitted"),
        ({"retries": -1}, "meta.prefect.retries is -1: Input should be greater"),
    ],
)
def test_a_typo_in_the_meta_of_a_stage_is_one_line(meta: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError, match=line):
        read_task_options("gate@0", {"prefect": meta})
    assert read_task_options("gate@0", None) == TaskOptions()
