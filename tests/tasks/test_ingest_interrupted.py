"""A killed ingest leaves no batch that looks whole, and the next one cleans up behind it."""

import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from tasks.ingest.__main__ import main
from tasks.stage import stage_io
from tasks.stage.errors import InputError
from tasks.stage.stage_io import atomic_output
from tests.tasks.dicom_cases import anatomy
from tests.tasks.ingest_fixtures import IngestWorkspace
from tests.tasks.nifti_cases import write_nifti

ROOT = Path(__file__).parents[2]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IngestWorkspace:
    monkeypatch.chdir(tmp_path)
    return IngestWorkspace(tmp_path, in_workers=True)


def start(workspace: IngestWorkspace) -> "subprocess.Popen[bytes]":
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tasks.ingest", "b"]
    return subprocess.Popen(command, cwd=workspace.root, env=environment, stderr=subprocess.DEVNULL)


def finish(workspace: IngestWorkspace) -> None:
    """Run to the end, as soon as the workers of a killed run have let go of the batch."""
    for _ in range(50):
        if start(workspace).wait(60) == 0:
            return
        time.sleep(0.1)
    pytest.fail("the batch stays locked")


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_killed_ingest_leaves_nothing_half_written(workspace: IngestWorkspace) -> None:
    first = workspace.raw / "sub-00_FLAIR.nii.gz"
    write_nifti(first, anatomy((96, 96, 40)))
    for number in range(1, 20):
        shutil.copy(first, workspace.raw / f"sub-{number:02d}_FLAIR.nii.gz")
    with zipfile.ZipFile(workspace.raw / "more.zip", "w") as archive:
        archive.write(first, "sub-99_FLAIR.nii.gz")
    workspace.ingest()
    whole = contents(workspace.volumes)
    shutil.rmtree(workspace.volumes)
    partial = workspace.volumes.with_name(".b.partial")
    process = start(workspace)
    while not list(partial.rglob("*.nii.gz")):
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not workspace.volumes.exists()
    assert (workspace.root / ".private/unpacked-b").exists()
    finish(workspace)
    assert contents(workspace.volumes) == whole
    assert not partial.exists()
    assert not list((workspace.root / ".private").glob("unpacked-*"))
    assert not list(workspace.root.rglob("*.partial"))


def test_a_second_ingest_of_a_batch_leaves_the_first_one_alone(
    workspace: IngestWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_io, "LOCK_PATIENCE_S", 0.5)
    write_nifti(workspace.raw / "sub-1_FLAIR.nii.gz", anatomy((5, 9, 10)))
    (workspace.root / "params.yaml").write_text("ingest: {}\n")
    with atomic_output(workspace.volumes.relative_to(workspace.root)):
        scratch = workspace.root / ".private/unpacked-b/dicom_files"
        scratch.parent.mkdir(parents=True)
        scratch.touch()
        with pytest.raises(InputError, match="being written by another process"):
            main("b")
        assert scratch.exists()
